"""Entries about datasets: read in, judged, formed, given out; and what was made from what."""

import msgspec

from stillhouse.home.facts.declarations import Fact, Kept, StampSetId, Table
from stillhouse.nouns import DatasetVersion, Verdict


class CorpusImported(Fact, frozen=True, tag="corpus-imported"):
    """What somebody else collected was read in: as which dataset's run, from which file, and of which shape.

    Where it is ``erasable`` as a source, its answers are in the log without their words, and known by aliases.
    """

    run: str
    source: str
    digest: str
    shape: str
    rows: int
    skipped: dict[str, int]
    erasable: str = ""

    tables = (Table("imports", indexes=("run",), without=("skipped", "erasable")),)


class Judged(Fact, frozen=True, tag="judged"):
    """An answer's code was run. ``judge`` is the digest of the tests and of the way they are applied."""

    run: str
    key: str
    task: str
    judge: str
    verdict: Verdict

    tables = (Table("verdicts", indexes=("key",), flat=("verdict",), columns={"check_failed": "verdict.check"}),)


class DatasetFormed(Fact, frozen=True, tag="dataset-formed"):
    """A dataset version exists."""

    run: str
    dataset: DatasetVersion

    tables = (Table("datasets", indexes=("name",), columns={"name": "dataset.name", "version": "dataset.version"}),)
    keeps = (Kept("dataset:{0.dataset.label}", "dataset.files"),)


class Placed(msgspec.Struct, frozen=True):
    """Where one record ended in the forming of a dataset: kept (no step), or dropped at a step for a reason."""

    key: str
    stamps: StampSetId
    step: str = ""
    reason: str = ""


class RecordsPlaced(Fact, frozen=True, tag="records-placed"):
    """Which records a dataset version kept and which it dropped, and why. Written before its DatasetFormed."""

    dataset: str
    records: tuple[Placed, ...]

    tables = (Table("placements", indexes=("dataset", "key"), each="records"),)


class Marked(msgspec.Struct, frozen=True):
    """By which mark an answer whose words are not in the log is found again: aliases by the key of its source."""

    key: str
    mark: str


class AnswersMarked(Fact, frozen=True, tag="answers-marked"):
    """How answers that can be erased are known again while their key exists."""

    run: str
    marks: tuple[Marked, ...]

    tables = (Table("marks", indexes=("mark",), each="marks"),)


class Derived(Fact, frozen=True, tag="derived"):
    """An edge of lineage: ``child`` was made from ``parent``."""

    parent: str
    child: str
    kind: str

    tables = (Table("edges", indexes=("parent", "child")),)


class Exported(Fact, frozen=True, tag="exported"):
    """A dataset version left the home as a file with these bytes."""

    dataset: str
    digest: str
    name: str
    rows: int

    tables = (Table("exports", indexes=("dataset", "digest")),)
