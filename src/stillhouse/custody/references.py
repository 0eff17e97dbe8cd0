"""What references what: the one function by which anything is kept or may be collected.

It is exhaustive: a fact of a kind that it does not know is an error, and tests/unit/test_references.py fails where a fact gains
a field until somebody has said here, or there, whether that names an object.
"""

from collections.abc import Iterator
from typing import NamedTuple, assert_never

from stillhouse import facts


class Named(NamedTuple):
    """An object that a fact names, and the node for whose sake it is kept. ``is_snapshot``: all that it names is kept, too."""

    digest: str
    node: str
    is_snapshot: bool = False


def references(fact: facts.AnyFact) -> Iterator[Named]:
    """The objects that a fact names."""
    match fact:
        case facts.DatasetFormed(dataset=dataset):
            for digest in dataset.files.values():
                yield Named(digest, f"dataset:{dataset.label}")
        case facts.RunOpened():
            for digest in (fact.recipe, *fact.inputs.values(), fact.code, fact.environment):
                yield Named(digest, f"run:{fact.run}")
        case facts.SnapshotTaken():
            yield Named(fact.snapshot, f"snapshot:{fact.snapshot}", is_snapshot=True)
        case facts.Registered():
            yield Named(fact.manifest, f"registered:{fact.manifest}", is_snapshot=True)
        case (
            facts.TeacherRegistered()
            | facts.StampsSeen()
            | facts.PromptSeen()
            | facts.PlanMade()
            | facts.ReceiptLeft()
            | facts.PlanApproved()
            | facts.RosterChanged()
            | facts.AccessChanged()
            | facts.WaiverGiven()
            | facts.BudgetLeased()
            | facts.BudgetReturned()
            | facts.Asked()
            | facts.BatchPrepared()
            | facts.BatchSubmitted()
            | facts.BatchEnded()
            | facts.Answered()
            | facts.CallFailed()
            | facts.KeyIssued()
            | facts.KeyRevoked()
            | facts.CallReceived()
            | facts.ChunkReceived()
            | facts.CallReturned()
            | facts.CorpusImported()
            | facts.Judged()
            | facts.RecordsPlaced()
            | facts.Derived()
            | facts.Exported()
            | facts.GateDecided()
            | facts.StepTaken()
            | facts.ModelTrained()
            | facts.Evaluated()
            | facts.PassportWritten()
            | facts.Examined()
            | facts.CopyMade()
            | facts.Scrubbed()
            | facts.Drilled()
            | facts.HoldPlaced()
            | facts.HoldReleased()
            | facts.Deleted()
            | facts.ErasureKeyMade()
            | facts.Erased()
            | facts.ErasureKeyDestroyed()
            | facts.DeletionUndone()
            | facts.Discarded()
            | facts.Recovered()
            | facts.Reclaimed()
            | facts.DayPassed()
            | facts.RefusalMade()
            | facts.TailCut()
        ):
            return
        case _:
            assert_never(fact)
