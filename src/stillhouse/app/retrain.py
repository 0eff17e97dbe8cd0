"""Train a model again from the recipe that made it, without what policy denies now. Nobody is asked for anything."""

import tempfile
from pathlib import Path
from typing import Any

from stillhouse import facts
from stillhouse.app.distil import distil
from stillhouse.app.home import App
from stillhouse.app.opening import recipe_of, stored_run
from stillhouse.app.progress import Progress
from stillhouse.errors import NothingToLearn, PlanRefused, UnknownName
from stillhouse.ledger import queries
from stillhouse.nouns import Ground, Model, Use
from stillhouse.recorder import now
from stillhouse.teachers.collect import Source


def plan_retrain(app: App, name: str) -> dict[str, Any]:
    """What a clean retrain would learn from, and what it leaves out. Raises UnknownName, PlanRefused, NothingToLearn."""
    model = queries.model(app.ledger, name)
    stored = stored_run(app, model.label)
    dataset = queries.dataset(app.ledger, model.dataset)
    sets = queries.stamp_sets(app.ledger)
    found = app.policy.decide_rows(dataset.stamp_sets, sets, Use.TRAIN)
    left = found.allowed
    if not left:
        raise NothingToLearn(f"No row of {dataset.label} may still be used to train.")
    base = queries.teacher(app.ledger, model.base)
    app.recorder.decide(f"model {base.name}", app.recorder.stamps_of(base, purpose=Use.TRAIN), (Use.TRAIN,))
    return {
        "model": model.label,
        "recipe": stored.recipe,
        "dataset": dataset.label,
        "rows": left,
        "left_out": found.denied,
        "left_out_by_revocation": sum(n for n, decision in found.decided if Ground.REVOCATION in decision.grounds),
        "tokens": model.tokens,
        "from": model.base,
    }


def retrain(app: App, name: str, progress: Progress) -> dict[str, Any]:
    """Do it: a new version of the dataset, and of the model. The old ones stay, and are what they were.

    Raises what ``plan_retrain`` and a training raise.
    """
    plan = plan_retrain(app, name)
    old = queries.model(app.ledger, name)
    with tempfile.TemporaryDirectory(prefix="stillhouse-retrain-") as folder:
        recipe = recipe_of(app, stored_run(app, old.label), Path(folder))
        if recipe.train is None:
            raise UnknownName(f"The recipe of {old.label} trains nothing.")
        done = distil(app, recipe, progress, evaluated=False, source=Source.LOG)
    new = done.trained.model if done.trained else None
    if new is None or new.label == old.label:
        raise PlanRefused(f"Nothing was left out, so this would be {old.label} again.")
    _link(app, old, new)
    return {
        **plan,
        "dataset": new.dataset,
        "model": new.label,
        "weights_digest": new.weights_digest,
        "instead_of": old.label,
    }


def _link(app: App, old: Model, new: Model) -> None:
    """Lineage: which model stands in for which. It is no child: nothing of the old one is in it."""
    edge = {"parent": f"run:{stored_run(app, old.label).run}", "child": f"model:{new.label}", "kind": "retrained"}
    app.recorder.record(facts.Derived(at=now(), by=app.recorder.by, **edge))
    app.recorder.refresh()
