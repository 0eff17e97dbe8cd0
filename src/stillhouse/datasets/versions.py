"""Write a dataset version, read it, export it."""

import contextlib
import io
import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stillhouse.canon import digest_file, digest_value
from stillhouse.clock import now
from stillhouse.datasets.filter import Candidate, FilterResult
from stillhouse.errors import StorageError, UsageError
from stillhouse.home import facts
from stillhouse.home.ledger import answer_queries, dataset_queries, origin_queries
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import DatasetVersion, Message, Task, Verdict, VerdictStatus
from stillhouse.vault.objects import Objects

ROWS, DROPPED = "rows.parquet", "dropped.parquet"
# Ten thousand placements are about 2 MB: an entry of a comfortable size.
_PLACEMENTS_PER_ENTRY = 10_000


def write_version(
    recorder: Recorder,
    objects: Objects,
    *,
    name: str,
    run: str,
    recipe: str,
    formed: FilterResult,
    mixed: Sequence[str] = (),
    erasable: str = "",
) -> DatasetVersion:
    """Store the files, then the facts; the version exists once its last fact is in the log. ``mixed`` are versions whose rows
    were among the candidates; ``erasable`` is the source whose ``objects`` these are, if it is one that can be erased.

    The same content of the same origins under the same name is the same version: nothing is written twice.
    """
    earlier = [known for known in dataset_queries.datasets(recorder.ledger) if known.name == name]
    funnel_digest, content_digest = digest_value(formed.funnel), objects.alias(formed.content_digest)
    stamp_sets = {str(id): count for id, count in sorted(Counter(row.stamps for row in formed.rows).items())}
    for known in earlier:
        same = known.content_digest == content_digest and digest_value(known.funnel) == funnel_digest
        if same and known.stamp_sets == stamp_sets:
            return known
    kept = [_row(candidate) for candidate in formed.rows]
    dropped = [{**_row(drop.candidate), "step": drop.step, "reason": drop.reason} for drop in formed.drops]
    placements = formed.placements
    if erasable:  # the particulars of a reason quote the row, and the log is for ever; the encrypted file has them
        placements = tuple(msgspec.structs.replace(one, reason=one.reason.partition(":")[0]) for one in placements)
    files = {ROWS: objects.put(_parquet(kept, dropped=False)), DROPPED: objects.put(_parquet(dropped, dropped=True))}
    made = now()
    counted = answer_queries.answer_tokens(recorder.ledger, (row.key for row in formed.rows))
    tokens: Counter[str] = Counter()
    for row in formed.rows:
        tokens[str(row.stamps)] += max(0, counted.get(row.key, 0))
    dataset = DatasetVersion(
        name=name,
        version=1 + max((known.version for known in earlier), default=0),
        rows=len(formed.rows),
        content_digest=content_digest,
        manifest_digest="",
        recipe=recipe,
        funnel=formed.funnel,
        files=files,
        stamp_sets=stamp_sets,
        made=made,
        tokens=dict(sorted(tokens.items())) if tokens.total() else {},
        erasable=erasable,
    )
    dataset = msgspec.structs.replace(dataset, manifest_digest=dataset_queries.manifest_digest(dataset))
    entries: list[facts.Fact] = [
        facts.RecordsPlaced(
            at=made,
            by=recorder.by,
            dataset=dataset.label,
            records=placements[start : start + _PLACEMENTS_PER_ENTRY],
        )
        for start in range(0, len(placements), _PLACEMENTS_PER_ENTRY)
    ]
    parents = [(f"run:{run}", "formed"), *((f"dataset:{label}", "mixed into") for label in mixed)]
    edges = [
        facts.Derived(at=made, by=recorder.by, parent=parent, child=f"dataset:{dataset.label}", kind=kind)
        for parent, kind in parents
    ]
    recorder.record(*entries, *edges, facts.DatasetFormed(at=made, by=recorder.by, run=run, dataset=dataset))
    recorder.refresh()
    return dataset


def read_rows(objects: Objects, dataset: DatasetVersion, file: str = ROWS) -> Iterator[dict[str, Any]]:
    """The rows of a version. Raises CorruptObject where the stored bytes are not those that were written."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(
        # In memory already: threads would have nothing to wait for, and could outlive a short command.
        io.BytesIO(objects.get(dataset.files[file])),
        use_threads=False,
        pre_buffer=False,
    )
    yield from table.to_pylist()


def candidate_of(row: Mapping[str, Any]) -> Candidate:
    """A row of a version as a candidate for another one."""
    messages = tuple(Message(**message) for message in row["messages"])
    task = Task(id=row["task"], messages=messages, family=row["family"])
    verdict = Verdict(VerdictStatus(row["verdict"]), row["verdict_reason"], trust=row["trust"])
    return Candidate(
        row["key"], task, row["sample"], row["response"], row["code"], row["finish"], row["stamps"], verdict,
        row.get("reasoning") or "",
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
    sets = origin_queries.stamp_sets(recorder.ledger)
    try:
        with _removed_where_it_fails(target), target.open("x", encoding="utf-8") as file:
            for row in read_rows(objects, dataset):
                answer = {"role": "assistant", "content": row["response"]}
                if row.get("reasoning"):
                    answer["reasoning_content"] = row["reasoning"]
                origin = {"key": row["key"], "task": row["task"], "stamps": row["stamps"], "dataset": dataset.label}
                # The whole set: another home can resolve it, and check it by its number.
                origin["origins"] = msgspec.to_builtins(sets[row["stamps"]].stamps)
                if dataset.erasable and not count:  # or the file's digest, which stays in the log, would prove a guess
                    origin["nonce"] = secrets.token_hex(16)
                file.write(
                    json.dumps({"messages": [*row["messages"], answer], "stillhouse": origin}, ensure_ascii=False)
                    + "\n"
                )
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


def _row(candidate: Candidate) -> dict[str, Any]:
    return {
        "key": candidate.key,
        "task": candidate.task.id,
        "family": candidate.task.family,
        "sample": candidate.sample,
        "messages": [msgspec.structs.asdict(message) for message in candidate.task.messages],
        "response": candidate.text,
        "reasoning": candidate.reasoning,
        "code": candidate.code,
        "finish": candidate.finish,
        "verdict": str(candidate.verdict.status),
        "verdict_reason": candidate.verdict.reason,
        "trust": candidate.verdict.trust,
        "stamps": candidate.stamps,
    }


def _parquet(rows: list[dict[str, Any]], *, dropped: bool) -> bytes:
    import pyarrow
    import pyarrow.parquet

    text, message = pyarrow.string(), pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    fields = [(name, text) for name in ("key", "task", "family")]
    fields += [("sample", pyarrow.int32()), ("messages", pyarrow.list_(message))]
    fields += [
        (name, text) for name in ("response", "reasoning", "code", "finish", "verdict", "verdict_reason", "trust")
    ]
    fields += [("stamps", pyarrow.int64())]
    fields += [("step", text), ("reason", text)] if dropped else []
    buffer = io.BytesIO()
    table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(fields))
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
