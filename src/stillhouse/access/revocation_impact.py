"""What a grant or a revocation touches: records, datasets, runs, steps, models and their children, exports, passports.

Every record carries the stamps of all its parts, and every model those of all that it learned from: so what a change touches is
found by stamp sets alone, through own models and their answers too, and not by walking from record to record. A test compares
this with walking.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillhouse.home.ledger import dataset_queries, origin_queries, permission_queries, training_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.lineage_graph import Tally, descendants, records_by_stamps
from stillhouse.nouns import AccessChange, Channel, DatasetVersion, Ground, Model, Stamp, StampSet, Use
from stillhouse.permission.decide import Door, Policy

# Every use but keeping: what is revoked is not deleted.
USES = tuple(use for use in Use if use is not Use.STORE)
# Weights that one holds answer without their lab; what came by any other way cannot be had again once a lab refuses.
_AGAIN = (Channel.OPEN_WEIGHTS,)


class DatasetShare(msgspec.Struct, frozen=True):
    """How much of a dataset version is touched. ``token_share`` is -1 where tokens were not counted."""

    dataset: str
    rows: int
    of: int
    share: float
    token_share: float


class ModelTouched(msgspec.Struct, frozen=True):
    """A model that learned from what is touched, directly or through what it was made from."""

    model: str
    because: str
    first_step: int
    steps: int
    token_share: float
    children: tuple[str, ...]


class Retrain(msgspec.Struct, frozen=True):
    """What it takes to make a model again without what is touched.

    ``from_step`` is the last step before the first touched one, ``checkpoint`` its folder where it is kept; else training starts
    again. ``tokens`` and ``hours`` are of the steps from there on, as they were when it was trained. ``usd`` is for answers that
    would have to be bought: none, since rows are only left out.
    """

    model: str
    dataset: str
    rows_left: int
    from_step: int
    checkpoint: str
    tokens: int
    hours: float
    usd: str
    command: str


class RevocationImpact(msgspec.Struct, frozen=True):
    """Everything that a change touches. ``usable`` says for what touched records may still be used, and how many."""

    records: int
    tokens: int
    uses: tuple[Use, ...]
    usable: dict[str, int]
    runs: dict[str, int]
    datasets: tuple[DatasetShare, ...]
    models: tuple[ModelTouched, ...]
    exports: tuple[str, ...]
    passports: tuple[str, ...]
    irreplaceable: int
    retrain: tuple[Retrain, ...]


class Touched(NamedTuple):
    """Stamp sets that a change is about: for which uses; and those that nobody could collect again."""

    uses: Mapping[int, frozenset[Use]]
    irreplaceable: frozenset[int]


def touched_sets(policy: Policy, change: AccessChange, sets: Mapping[int, StampSet]) -> Touched:
    """The stamp sets about which a change has the last word, under the policy that it is part of."""
    about: dict[Stamp, frozenset[Use]] = {}
    gone: dict[Stamp, bool] = {}
    anytime = Policy(policy.organisation, changes=(msgspec.structs.replace(change, since="", until="", reverses=""),))
    for known in sets.values():
        for stamp in known.stamps:
            if stamp not in about:
                about[stamp] = frozenset(
                    use for use in USES if change.id in {last.id for last in policy.last_words(stamp, use)}
                )
                revoked = anytime.revoked_by(stamp, Use.TRAIN) is not None
                gone[stamp] = revoked and stamp.channel not in _AGAIN
    uses = {id: frozenset().union(*(about[stamp] for stamp in known.stamps)) for id, known in sets.items()}
    return Touched(
        {id: found for id, found in uses.items() if found},
        frozenset(id for id, known in sets.items() if any(gone[stamp] for stamp in known.stamps)),
    )


def impact_of(ledger: Ledger, policy: Policy, change: AccessChange, home: Path) -> RevocationImpact:
    """What a change touches, once it is made: ``policy`` holds it already."""
    sets = origin_queries.stamp_sets(ledger)
    touched = touched_sets(policy, change, sets)
    return impact_of_sets(ledger, policy, sets, touched, home)


def impact_of_sets(
    ledger: Ledger, policy: Policy, sets: Mapping[int, StampSet], touched: Touched, home: Path
) -> RevocationImpact:
    """The same for stamp sets that are known."""
    ids = frozenset(touched.uses)
    tallies = records_by_stamps(ledger, ids)
    datasets = {known.label: known for known in dataset_queries.datasets(ledger)}
    shares = tuple(_share(known, ids) for known in datasets.values() if ids & {int(id) for id in known.stamp_sets})
    models = [model for model in training_queries.models(ledger) if model.stamps in ids]
    steps = {model.label: _first_step(ledger, model, ids) for model in models}
    labels = {share.dataset for share in shares}
    return RevocationImpact(
        records=sum(tally.records for tally in tallies),
        tokens=sum(tally.tokens for tally in tallies),
        uses=tuple(use for use in USES if any(use in uses for uses in touched.uses.values())),
        usable=_usable(policy, sets, tallies),
        runs=_by_run(tallies),
        datasets=shares,
        models=tuple(_model(ledger, model, datasets, ids, *steps[model.label]) for model in models),
        exports=tuple(
            f"{export.name} ({export.dataset}, {export.digest})"
            for export in permission_queries.exports(ledger)
            if export.dataset in labels
        ),
        passports=tuple(
            f"{one.model} ({one.digest})" for one in permission_queries.passports(ledger) if one.model in steps
        ),
        irreplaceable=sum(tally.records for tally in records_by_stamps(ledger, touched.irreplaceable)),
        retrain=tuple(_retrain(ledger, policy, sets, model, datasets, steps[model.label][0], home) for model in models),
    )


def _share(dataset: DatasetVersion, ids: Collection[int]) -> DatasetShare:
    rows = sum(count for id, count in dataset.stamp_sets.items() if int(id) in ids)
    tokens, of = (sum(count for id, count in dataset.tokens.items() if int(id) in ids), sum(dataset.tokens.values()))
    share = round(rows / dataset.rows, 6) if dataset.rows else 0.0
    return DatasetShare(dataset.label, rows, dataset.rows, share, round(tokens / of, 6) if of else -1.0)


def _model(
    ledger: Ledger,
    model: Model,
    datasets: Mapping[str, DatasetVersion],
    ids: Collection[int],
    first: int,
    share: float,
) -> ModelTouched:
    dataset = datasets.get(model.dataset)
    in_rows = dataset is not None and any(int(id) in ids for id in dataset.stamp_sets)
    because = f"rows of {model.dataset}" if in_rows else f"what it was made from ({model.base})"
    children = tuple(
        node.removeprefix("model:") for node in descendants(ledger, f"model:{model.label}") if node.startswith("model:")
    )
    return ModelTouched(model.label, because, first, model.steps, share, children)


def _first_step(ledger: Ledger, model: Model, ids: Collection[int]) -> tuple[int, float]:
    """The first step that learned from a touched record (0: none did), and the part of all answer tokens that were theirs.

    Steps of an earlier version hold no shares; for them the record-to-step map is asked.
    """
    shares = permission_queries.step_shares(ledger, model.training)
    if not any(shares.values()):
        return _first_step_by_records(ledger, model, ids), -1.0
    first = next((step for step, by_set in shares.items() if set(by_set) & set(ids)), 0)
    total = sum(sum(by_set.values()) for by_set in shares.values())
    theirs = sum(tokens for by_set in shares.values() for id, tokens in by_set.items() if id in ids)
    return first, round(theirs / total, 6) if total else 0.0


def _first_step_by_records(ledger: Ledger, model: Model, ids: Collection[int]) -> int:
    touched = {
        row.key
        for row in dataset_queries.placements_before_2026_12(ledger, model.dataset)
        if row.stamps in ids and not row.step
    }
    return next((step for step, keys in training_queries.fed(ledger, model.training).items() if touched & set(keys)), 0)


def usable_after(ledger: Ledger, policy: Policy, sets: Mapping[int, StampSet], touched: Touched) -> dict[str, int]:
    """For each use, how many of some touched records may serve it under a policy."""
    return _usable(policy, sets, records_by_stamps(ledger, frozenset(touched.uses)))


def _usable(policy: Policy, sets: Mapping[int, StampSet], tallies: Sequence[Tally]) -> dict[str, int]:
    """For each use, how many of the touched records may still serve it."""
    return {
        str(use): sum(
            tally.records for tally in tallies if policy.check(Door.USE, sets[tally.stamps].stamps, use).allowed
        )
        for use in Use
    }


def _by_run(tallies: Sequence[Tally]) -> dict[str, int]:
    found: dict[str, int] = {}
    for tally in tallies:
        found[tally.run] = found.get(tally.run, 0) + tally.records
    return dict(sorted(found.items()))


def _retrain(
    ledger: Ledger,
    policy: Policy,
    sets: Mapping[int, StampSet],
    model: Model,
    datasets: Mapping[str, DatasetVersion],
    first: int,
    home: Path,
) -> Retrain:
    dataset = datasets.get(model.dataset)
    left = policy.check_rows(dataset.stamp_sets, sets, Use.TRAIN).allowed if dataset else 0
    folder = home / "trainings" / model.training
    kept = [place for place in sorted(folder.glob("step-*")) if first and int(place.name[5:]) < first]
    start = int(kept[-1].name[5:]) if kept else 0
    steps = [step for step in training_queries.steps(ledger, model.training) if step.step > start]
    return Retrain(
        model=model.label,
        dataset=model.dataset,
        rows_left=left,
        from_step=max(0, first - 1),
        checkpoint=str(kept[-1].relative_to(home)) if kept else "",
        tokens=sum(step.tokens for step in steps),
        hours=round(sum(step.seconds for step in steps) / 3600, 4),
        usd="0.00",
        command=f"stillhouse access retrain {model.label}" if left else "no row is left to learn from",
    )


def denied_by_revocation(policy: Policy, sets: Mapping[int, StampSet], use: Use) -> frozenset[int]:
    """The stamp sets in quarantine: those that a revocation keeps from a use."""
    return frozenset(
        id for id, known in sets.items() if Ground.REVOCATION in policy.check(Door.USE, known.stamps, use).grounds
    )
