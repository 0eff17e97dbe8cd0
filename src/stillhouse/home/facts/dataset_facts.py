"""Entries about datasets: read in, judged, formed, given out; and what was made from what."""

import msgspec

from stillhouse.home.facts.declarations import Fact, Kept, StampSetId, Table
from stillhouse.nouns import DatasetVersion, Verdict


class CorpusImported(Fact, frozen=True, tag="corpus-imported"):
    """What somebody else collected was read in, until December 2026: as which dataset's run, from which file, and of which shape.
    Its rows are entries of their own.

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


class ImportedShare(msgspec.Struct, frozen=True):
    """How many rows of an import have a stamp set; how many of them the log had not before, and their tokens where somebody
    counted; and whether they were allowed for the dataset's use.
    """

    stamps: StampSetId
    rows: int
    new: int
    tokens: int
    allowed: bool


class RowsImported(Fact, frozen=True, tag="rows-imported"):
    """What somebody else collected was read in. The ``index`` has a line for each row: its key, its stamps, by what it is known
    again, and no words; it is kept for ever. The words are in ``contents``, which a dataset keeps as its files.

    ``rows`` were read, ``skipped`` were not, by reason; ``recognised`` is what the log knew of them, which then had so much to
    ``know`` rows by. Where it is ``erasable`` as a source, the index has aliases alone.
    """

    run: str
    source: str
    digest: str
    shapes: dict[str, int]
    rows: int
    skipped: dict[str, int]
    recognised: dict[str, dict[str, int]]
    know: str
    shares: tuple[ImportedShare, ...]
    index: tuple[str, ...]
    contents: tuple[str, ...]
    erasable: str = ""

    tables = (
        Table("row_imports", indexes=("run",)),
        Table("imported_rows", indexes=("stamps", "run"), each="shares", without=(
            "source", "digest", "shapes", "rows", "skipped", "recognised", "know", "index", "contents", "erasable")),
    )  # fmt: skip
    keeps = (Kept("index:{0.run}", "index"),)


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
    keeps = (
        Kept("dataset:{0.dataset.label}", "dataset.files"),
        Kept("index:{0.dataset.label}", "dataset.index"),
    )


class Placed(msgspec.Struct, frozen=True):
    """Where one record ended in the forming of a dataset: kept (no step), or dropped at a step for a reason."""

    key: str
    stamps: StampSetId
    step: str = ""
    reason: str = ""


class RecordsPlaced(Fact, frozen=True, tag="records-placed"):
    """Which records a dataset version kept and which it dropped, and why. Until December 2026: later versions have an index."""

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
