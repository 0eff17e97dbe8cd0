"""Write a dataset version, read it, export it."""

import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillhouse.canon import digest_file, digest_value
from stillhouse.clock import now
from stillhouse.datasets.filter import FilterResult, content_digest_before_2026_12, content_of
from stillhouse.datasets.shards import DROPPED, ROWS, ShardWriter, read_rows
from stillhouse.errors import StorageError, UsageError
from stillhouse.home import facts
from stillhouse.home.ledger import answer_queries, dataset_queries, origin_queries
from stillhouse.home.recorder import Recorder
from stillhouse.home.row_index import IndexLine, encode_index
from stillhouse.nouns import DatasetVersion, FunnelStep
from stillhouse.vault.objects import Objects

# Some 13 MB.
_LINES_PER_OBJECT = 100_000


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


class Contents(NamedTuple):
    """What a version consists of: its objects, and what was counted while they were written."""

    files: dict[str, str]
    index_objects: tuple[str, ...]
    rows: int
    content_digest: str
    funnel: tuple[FunnelStep, ...]
    stamp_sets: dict[str, int]
    tokens: dict[str, int]
    digest_before_2026_12: Callable[[], str]


def form_version(
    recorder: Recorder,
    objects: Objects,
    contents: Contents,
    *,
    name: str,
    run: str,
    recipe: str,
    mixed: Sequence[str] = (),
    erasable: str = "",
    before: Sequence[facts.Fact] = (),
) -> DatasetVersion:
    """Write down that a version exists, after ``before`` in the same write; its objects are stored.

    ``mixed`` are versions whose rows were among the candidates; ``erasable`` is the source whose ``objects`` these are. The same
    content of the same origins under the same name is the same version: nothing is written twice.
    """
    earlier = [known for known in dataset_queries.datasets(recorder.ledger) if known.name == name]
    content_digest = objects.alias(contents.content_digest)
    funnel_digest = digest_value(contents.funnel)
    for known in earlier:
        if known.stamp_sets != contents.stamp_sets or digest_value(known.funnel) != funnel_digest:
            continue
        here = content_digest if known.index else objects.alias(contents.digest_before_2026_12())
        if known.content_digest == here:
            if before:
                recorder.record(*before)
                recorder.refresh()
            return known
    made = now()
    dataset = DatasetVersion(
        name=name,
        version=1 + max((known.version for known in earlier), default=0),
        rows=contents.rows,
        content_digest=content_digest,
        manifest_digest="",
        recipe=recipe,
        funnel=contents.funnel,
        files=contents.files,
        stamp_sets=contents.stamp_sets,
        made=made,
        tokens=contents.tokens if any(contents.tokens.values()) else {},
        erasable=erasable,
        index=contents.index_objects,
    )
    dataset = msgspec.structs.replace(dataset, manifest_digest=dataset_queries.manifest_digest(dataset))
    parents = [(f"run:{run}", "formed"), *((f"dataset:{label}", "mixed into") for label in mixed)]
    edges = [
        facts.Derived(at=made, by=recorder.by, parent=parent, child=f"dataset:{dataset.label}", kind=kind)
        for parent, kind in parents
    ]
    recorder.record(*before, *edges, facts.DatasetFormed(at=made, by=recorder.by, run=run, dataset=dataset))
    recorder.refresh()
    return dataset


def write_version(
    recorder: Recorder,
    objects: Objects,
    vault: Objects,
    *,
    name: str,
    run: str,
    recipe: str,
    formed: FilterResult,
    mixed: Sequence[str] = (),
    erasable: str = "",
) -> DatasetVersion:
    """Store what a filter left, and form a version of it. The index goes into the ``vault``, the words into ``objects``."""
    contents = _contents(recorder, objects, vault, formed, erasable)
    return form_version(
        recorder, objects, contents, name=name, run=run, recipe=recipe, mixed=mixed, erasable=erasable
    )  # fmt: skip


def _contents(recorder: Recorder, objects: Objects, vault: Objects, formed: FilterResult, erasable: str) -> Contents:
    rows, dropped, index = ShardWriter(objects, ROWS), ShardWriter(objects, DROPPED), Index(vault)
    not_counted = (row.key for row in formed.rows if row.tokens < 0)  # files of before do not say it
    counted = answer_queries.answer_tokens(recorder.ledger, not_counted)
    stamp_sets: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for row, content in zip(formed.rows, formed.contents, strict=True):
        rows.add(row)
        stamp_sets[str(row.stamps)] += 1
        spoken = row.tokens if row.tokens >= 0 else counted.get(row.key, -1)
        tokens[str(row.stamps)] += max(0, spoken)
        index.add(IndexLine(row.key, objects.alias(content), row.stamps, tokens=spoken))
    for drop in formed.drops:
        dropped.add(drop.candidate, drop.step, drop.reason)
        content = objects.alias(content_of(drop.candidate))
        # The particulars of a reason may quote the row, and the index is for ever; the file has them.
        reason = drop.reason.partition(":")[0] if erasable else drop.reason
        index.add(IndexLine(drop.candidate.key, content, drop.candidate.stamps, drop.step, reason))
    index.end_object()
    return Contents(
        rows.end() | dropped.end(), tuple(index.stored), len(formed.rows), formed.content_digest, formed.funnel,
        dict(sorted(stamp_sets.items())), dict(sorted(tokens.items())),
        lambda: content_digest_before_2026_12(formed.rows),
    )  # fmt: skip


@contextlib.contextmanager
def _removed_where_it_fails(target: Path) -> Iterator[None]:
    """Half a file looks like a whole one, and would be in the way of the next try."""
    try:
        yield
    except BaseException as failure:
        if not isinstance(failure, FileExistsError):
            target.unlink(missing_ok=True)
        raise


def export_jsonl(recorder: Recorder, objects: Objects, dataset: DatasetVersion, target: Path) -> int:
    """Write rows as chat JSONL: ``messages`` with the answer as last turn, and where it comes from. Returns the rows.

    That it left the home is written down with the file's digest, so that it can be named when a source is revoked.
    """
    if target.exists():
        raise UsageError(f"{target} exists already.", next_step="Name a file that does not exist yet.")
    if not dataset.rows:
        raise UsageError(
            f"{dataset.label} holds no rows.", next_step="`stillhouse dataset list` shows its other versions: name one."
        )
    count = 0
    origins = {
        id: msgspec.to_builtins(known.stamps) for id, known in origin_queries.stamp_sets(recorder.ledger).items()
    }
    try:
        with _removed_where_it_fails(target), target.open("xb") as file:
            for row in read_rows(objects, dataset):
                answer = {"role": "assistant", "content": row["response"]}
                if row.get("reasoning"):
                    answer["reasoning_content"] = row["reasoning"]
                origin = {"key": row["key"], "task": row["task"], "stamps": row["stamps"], "dataset": dataset.label}
                # The whole set: another home can resolve it, and check it by its number.
                origin["origins"] = origins[row["stamps"]]
                if dataset.erasable and not count:  # or the file's digest, which stays in the log, would prove a guess
                    origin["nonce"] = secrets.token_hex(16)
                file.write(msgspec.json.encode({"messages": [*row["messages"], answer], "stillhouse": origin}) + b"\n")
                count += 1
    except OSError as failure:
        raise StorageError(f"{target} could not be written: {failure.strerror}.") from failure
    digest = digest_file(target)
    exported = facts.Exported(
        at=now(), by=recorder.by, dataset=dataset.label, digest=digest, name=target.name, rows=count
    )
    edge = {"parent": f"dataset:{dataset.label}", "child": f"export:{digest}", "kind": "exported"}
    recorder.record(exported, facts.Derived(at=now(), by=recorder.by, **edge))
    recorder.refresh()
    return count
