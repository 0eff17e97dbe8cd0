"""Train a model again from the recipe that made it, without what policy denies now. Nobody is asked for anything."""

import tempfile
from pathlib import Path
from typing import Any

from stillhouse.clock import now
from stillhouse.errors import NothingToLearn, PlanRefused, UnknownName
from stillhouse.home import facts
from stillhouse.home.ledger import dataset_queries, origin_queries, training_queries
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.home.stamping import stamps_of
from stillhouse.nouns import Ground, Model, Use
from stillhouse.permission.decide import Door
from stillhouse.runs.distil import distil
from stillhouse.runs.run_manifest import recipe_of, stored_run
from stillhouse.teachers.collect import AnswerSource


def plan_retrain(home: Home, name: str) -> dict[str, Any]:
    """What a clean retrain would learn from, and what it leaves out. Raises UnknownName, PlanRefused, NothingToLearn."""
    model = training_queries.model(home.ledger, name)
    stored = stored_run(home, model.label)
    dataset = dataset_queries.dataset(home.ledger, model.dataset)
    sets = origin_queries.stamp_sets(home.ledger)
    found = home.policy.check_rows(dataset.stamp_sets, sets, Use.TRAIN)
    left = found.allowed
    if not left:
        raise NothingToLearn(f"No row of {dataset.label} may still be used to train.")
    base = origin_queries.teacher(home.ledger, model.base)
    home.doors.check(Door.USE, f"model {base.name}", stamps_of(home.ledger, base, purpose=Use.TRAIN), Use.TRAIN)
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


def retrain(home: Home, name: str, progress: Progress) -> dict[str, Any]:
    """Do it: a new version of the dataset, and of the model. The old ones stay, and are what they were.

    Raises what ``plan_retrain`` and a training raise.
    """
    plan = plan_retrain(home, name)
    old = training_queries.model(home.ledger, name)
    with tempfile.TemporaryDirectory(prefix="stillhouse-retrain-") as folder:
        recipe = recipe_of(home, stored_run(home, old.label), Path(folder))
        if recipe.train is None:
            raise UnknownName(f"The recipe of {old.label} trains nothing.")
        done = distil(home, recipe, progress, evaluated=False, source=AnswerSource.LOG)
    new = done.trained.model if done.trained else None
    if new is None or new.label == old.label:
        raise PlanRefused(f"Nothing was left out, so this would be {old.label} again.")
    _link(home, old, new)
    return {
        **plan,
        "dataset": new.dataset,
        "model": new.label,
        "weights_digest": new.weights_digest,
        "instead_of": old.label,
    }


def _link(home: Home, old: Model, new: Model) -> None:
    """Lineage: which model stands in for which. It is no child: nothing of the old one is in it."""
    edge = {"parent": f"run:{stored_run(home, old.label).run}", "child": f"model:{new.label}", "kind": "retrained"}
    home.recorder.record(facts.Derived(at=now(), by=home.recorder.by, **edge))
    home.recorder.refresh()
