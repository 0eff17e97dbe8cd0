"""Write a dataset version, read it, export it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from stillhouse.canon import digest_value
from stillhouse.clock import now
from stillhouse.datasets.forming import Formed
from stillhouse.datasets.version_files import StoredVersion, store_version
from stillhouse.home import facts
from stillhouse.home.ledger import dataset_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.recorder import Recorder
from stillhouse.home.row_index import IndexLine, encode_index
from stillhouse.nouns import DatasetVersion, FunnelStep
from stillhouse.vault.objects import Objects

# Some 3 MB, and 30 MB in memory until they are stored.
_LINES_PER_OBJECT = 25_000


class Index:
    """The lines of an index as they come, stored in objects of a size that is read at once."""

    def __init__(self, objects: Objects, stored: Sequence[str] = ()) -> None:
        """An index is never encrypted: ``objects`` are the vault's own."""
        self._objects, self._lines = objects, list[IndexLine]()
        self.stored = list(stored)

    def add(self, line: IndexLine) -> None:
        """One record."""
        self._lines.append(line)
        if len(self._lines) >= _LINES_PER_OBJECT:
            self.end_object()

    def end_object(self) -> None:
        """Store the lines since the last object. Raises StorageError."""
        if self._lines:
            self.stored.append(self._objects.put(encode_index(self._lines)))
            self._lines = []


class Counted(NamedTuple):
    """What a version is known by, and what is counted of it."""

    rows: int
    content_digest: str
    funnel: tuple[FunnelStep, ...]
    stamp_sets: dict[str, int]
    tokens: dict[str, int]
    digest_before_2026_12: Callable[[], str]
    answer_tokens: dict[str, int] = {}  # noqa: RUF012 - never changed


def known_version(ledger: Ledger, objects: Objects, name: str, counted: Counted) -> DatasetVersion | None:
    """The version of this name with the same content of the same origins: nothing is written twice."""
    funnel_digest = digest_value(counted.funnel)
    for known in dataset_queries.datasets(ledger):
        if (
            known.name == name
            and known.stamp_sets == counted.stamp_sets
            and digest_value(known.funnel) == funnel_digest
        ):
            digest = counted.content_digest if known.index else counted.digest_before_2026_12()
            if known.content_digest == objects.alias(digest):
                return known
    return None


class VersionOf(NamedTuple):
    """What a version is of: its name, the run that formed it, its recipe, the versions whose rows were among its candidates, and
    the source that it can be erased as, if any.
    """

    name: str
    run: str
    recipe: str
    mixed: tuple[str, ...] = ()
    erasable: str = ""


def form_version(
    recorder: Recorder,
    objects: Objects,
    of: VersionOf,
    counted: Counted,
    stored: StoredVersion,
    before: Sequence[facts.Fact] = (),
) -> DatasetVersion:
    """Write down that a version exists, after ``before`` in the same write; its objects are stored already."""
    known = known_version(recorder.ledger, objects, of.name, counted)
    made = now()
    if known is not None and (known.files == stored.files or _is_there(objects, known)):
        # Said once more: one that was deleted is there again, and who formed it now is told, too.
        recorder.record(*before, *_edges(recorder, of, known, made), _formed(recorder, of, known, made))
        recorder.refresh()
        return known
    versions = [known.version for known in dataset_queries.datasets(recorder.ledger) if known.name == of.name]
    dataset = DatasetVersion(
        name=of.name,
        version=1 + max(versions, default=0),
        rows=counted.rows,
        content_digest=objects.alias(counted.content_digest),
        manifest_digest="",
        recipe=of.recipe,
        funnel=counted.funnel,
        files=stored.files,
        stamp_sets=counted.stamp_sets,
        made=made,
        tokens=counted.tokens if any(counted.tokens.values()) else {},
        erasable=of.erasable,
        index=stored.index_objects,
        answer_tokens=counted.answer_tokens if any(counted.answer_tokens.values()) else {},
    )
    dataset = msgspec.structs.replace(dataset, manifest_digest=dataset_queries.manifest_digest(dataset))
    recorder.record(*before, *_edges(recorder, of, dataset, made), _formed(recorder, of, dataset, made))
    recorder.refresh()
    return dataset


def _formed(recorder: Recorder, of: VersionOf, dataset: DatasetVersion, made: str) -> facts.DatasetFormed:
    return facts.DatasetFormed(at=made, by=recorder.by, run=of.run, dataset=dataset)


def _edges(recorder: Recorder, of: VersionOf, dataset: DatasetVersion, made: str) -> list[facts.Derived]:
    parents = [(f"run:{of.run}", "formed"), *((f"dataset:{label}", "mixed into") for label in of.mixed)]
    return [
        facts.Derived(at=made, by=recorder.by, parent=parent, child=f"dataset:{dataset.label}", kind=kind)
        for parent, kind in parents
    ]


def _is_there(objects: Objects, dataset: DatasetVersion) -> bool:
    return all(map(objects.exists, dataset.files.values()))


def write_version(
    recorder: Recorder, objects: Objects, vault: Objects, of: VersionOf, formed: Formed
) -> DatasetVersion:
    """Store what was formed, and form a version of it. The index goes into the ``vault``, the words into ``objects``.

    Of the newest version of that name the shards that hold the same are used again.
    """
    counted = Counted(
        formed.rows, formed.content_digest, formed.funnel, _by_id(formed.stamp_sets), _by_id(formed.tokens),
        formed.digest_before_2026_12, _by_id(formed.answer_tokens) if formed.has_several else {},
    )  # fmt: skip
    known = known_version(recorder.ledger, objects, of.name, counted)
    if known is not None and _is_there(objects, known):
        return known
    versions = [version for version in dataset_queries.datasets(recorder.ledger) if version.name == of.name]
    parent = versions[-1] if versions and _is_there(objects, versions[-1]) else None
    return form_version(recorder, objects, of, counted, store_version(formed, objects, vault, parent, of.erasable))


def _by_id(counts: Mapping[int, int]) -> dict[str, int]:
    return dict(sorted((str(id), count) for id, count in counts.items()))
