"""Train a model again from the recipe that made it, without what policy denies now. No teacher is asked; what it cost in
capability is measured where the old model was evaluated, and the new one gets its passport.
"""

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from stillhouse.clock import now
from stillhouse.errors import NothingToLearn, PlanRefused, PolicyRefusal, UnknownName
from stillhouse.home import facts
from stillhouse.home.ledger import dataset_queries, origin_queries, training_queries
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.home.stamping import stamps_of
from stillhouse.nouns import Evaluation, Ground, Model, Use
from stillhouse.passport.write_passport import write_passport
from stillhouse.permission.decide import Door
from stillhouse.runs.distil import Distilled, distil, evaluation_options
from stillhouse.runs.evaluate import EvaluationOptions, evaluate
from stillhouse.runs.recipe import Recipe
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
    """Do it: a new version of the dataset, and of the model, with its passport. The old ones stay, and are what they were.

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
        "capability": _capabilities(home, recipe, done, old, new, progress),
        "passport": str(write_passport(home, new.label)),
    }


def compare_capability(
    home: Home, old: str, new: str, options: EvaluationOptions, progress: Progress
) -> Evaluation | None:
    """What leaving rows out cost: the new model minus the old one, whose answers to this the log has. None where it does not have
    them: a model whose use is denied is asked for nothing more. Raises BudgetReached, UsageError.
    """
    try:
        return evaluate(home, {"old": old, "clean": new}, "clean", [("clean", "old")], options, progress)
    except PolicyRefusal as failure:
        progress.say(f"{new} is not compared with {old}: {failure}")
        return None


def shown_capability(found: Evaluation) -> dict[str, Any]:
    """An evaluation of both as one value: pass@1 of each, and the difference with its interval."""
    arms = {arm: measures["pass@1"].mean for arm, measures in found.arms.items()}
    difference = msgspec.to_builtins(found.differences["clean - old"]["pass@1"])
    return {"suite": found.suite, "tasks": found.tasks, "samples": found.samples, **arms, "difference": difference}


def _capabilities(
    home: Home, recipe: Recipe, done: Distilled, old: Model, new: Model, progress: Progress
) -> list[dict[str, Any]]:
    """The comparison on each suite that the old model was evaluated on, as it was."""
    assert done.trained is not None
    found = []
    for known in training_queries.evaluations(home.ledger, old.label):
        if recipe.eval is None or known.suite not in recipe.eval.suites or "pass@1" not in _measures(known):
            continue
        options = evaluation_options(home, recipe, known.suite, done.outcome, done.trained, 2)
        options = options._replace(limit=known.tasks, samples=known.samples)
        compared = compare_capability(home, old.label, new.label, options, progress)
        found += [shown_capability(compared)] if compared else []
    return found


def _measures(evaluation: Evaluation) -> set[str]:
    return {measure for measures in evaluation.arms.values() for measure in measures}


def _link(home: Home, old: Model, new: Model) -> None:
    """Lineage: which model stands in for which. It is no child: nothing of the old one is in it."""
    edge = {"parent": f"run:{stored_run(home, old.label).run}", "child": f"model:{new.label}", "kind": "retrained"}
    home.recorder.record(facts.Derived(at=now(), by=home.recorder.by, **edge))
    home.recorder.refresh()
