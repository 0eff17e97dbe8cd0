"""Import what others collected, and take stock of any corpus: a folder, a file, a dataset, or everything in the home."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from stillhouse.canon import digest_value
from stillhouse.clock import now
from stillhouse.datasets.corpora.inventory import Inventory, take_inventory
from stillhouse.datasets.corpora.origins import Declared, stamps_of, withheld
from stillhouse.datasets.corpora.row_files import RowFile, files_of, lines_of
from stillhouse.datasets.corpora.row_shapes import ParsedRow, Skipped, read_row
from stillhouse.datasets.filter import ALLOWED, COMPLETE, DISTINCT, Candidate, filter_rows, protect
from stillhouse.datasets.recognition import (
    Recogniser,
    alias_of,
    earlier_answers,
    grouped,
    marks_of,
    own_stamps,
    turn_alias,
)
from stillhouse.datasets.versions import write_version
from stillhouse.errors import CorpusUnreadable, PlanRefused, TeacherContradiction
from stillhouse.home import facts
from stillhouse.home.erasable_sources import check_source, key_for, objects_of
from stillhouse.home.ledger import answer_queries, dataset_queries, origin_queries
from stillhouse.home.open_home import Home
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.home.progress import Progress
from stillhouse.home.stamping import prompt_digest
from stillhouse.nouns import Channel, DatasetVersion, Origin, Plan, StampSet, Task, Use, Verdict, VerdictStatus
from stillhouse.permission.decide import Door
from stillhouse.permission.known_origins import closed_as_open
from stillhouse.vault.files import readable
from stillhouse.vault.objects import Objects

# Few enough to keep an entry of the log small, enough to make a write worth while.
_ROWS_AT_ONCE = 200
_UNJUDGED = Verdict(VerdictStatus.NOT_JUDGED, "it was imported")


class Read(NamedTuple):
    """A row that was understood: what it says, its stamps, the row itself, and the stamps that it says it has (``own``)."""

    said: ParsedRow
    stamps: StampSet
    raw: str
    own: Any = None


class LeftOutRows:
    """What of a corpus is not read: rows by reason, the first of each by file and line, and files."""

    _EXAMPLES = 3

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.files: dict[str, str] = {}

    def row(self, path: Path, number: int, reason: str) -> None:
        """A row is left out."""
        kind = reason.partition(" (")[0]
        self.rows[kind] += 1
        named = self.examples.setdefault(kind, [])
        if len(named) < self._EXAMPLES:
            called = readable(path.name)
            named.append(f"{called}, line {number}" if number else called)

    def told(self) -> str:
        """All of it for a reader; empty where everything was read."""
        lines = [f"{count} rows left out: {reason} ({', '.join(self.examples[reason])}{' ...' * (count > self._EXAMPLES)})"
                 for reason, count in self.rows.items()]  # fmt: skip
        lines += [f"{name} {what}" for name, what in self.files.items() if what != "read"]
        return "\n".join(lines)


class Scanned(NamedTuple):
    """What one pass over a corpus found; ``known`` is what the log knows of its rows."""

    inventory: Inventory
    sets: list[StampSet]
    shapes: Counter[str]
    rows_digest: str
    known: dict[str, dict[str, int]]


class Import(NamedTuple):
    """A plan to import, and what was seen while it was made."""

    plan: Plan
    run: str
    inventory: Inventory
    rows_digest: str
    erasable: str
    keep: tuple[str, ...]
    left_out: "LeftOutRows"


def _as_said(said: ParsedRow) -> ParsedRow:
    return said


def read_corpus(
    files: Sequence[RowFile],
    declared: Declared,
    left_out: LeftOutRows,
    heard: Callable[[ParsedRow], ParsedRow] = _as_said,
) -> Iterator[Read]:
    """The rows of some files; what is not understood is counted by reason. ``heard`` is what counts of what a row says.

    Raises CorpusUnreadable, TeacherContradiction.
    """
    for file, why in files:
        left_out.files[_named(file, left_out.files)] = f"left out: {why}" if why else "read"
        for line in lines_of(file) if not why else ():
            read = _read(line.row, declared, heard) if line.row is not None else line.problem
            if isinstance(read, str):
                left_out.row(file, line.number, read)
            else:
                yield read


def _named(file: Path, taken: Mapping[str, str]) -> str:
    """The file's name, or, where another has it, its path."""
    return str(file) if file.name in taken else file.name


def _read(row: dict[str, Any], declared: Declared, heard: Callable[[ParsedRow], ParsedRow]) -> Read | str:
    """A row as it is understood, or why it is left out."""
    said = read_row(row)
    if isinstance(said, Skipped):
        return said.reason
    try:
        raw = msgspec.json.encode(row, enc_hook=str).decode()
    except (UnicodeEncodeError, OverflowError, RecursionError, TypeError, ValueError):
        return "it cannot be written down (half of a surrogate pair, or too deep)"
    said = heard(said)
    stamps = stamps_of(said, declared)
    _check(said, stamps, declared)
    return Read(said, stamps, raw, own_stamps(row))


def inventory_of_files(
    home: Home, files: Sequence[RowFile], declared: Declared, progress: Progress, left_out: LeftOutRows
) -> Inventory:
    """Take stock of a corpus that is not in the home; nothing is written. ``left_out`` gets what is not read."""
    return _scan(home, files, declared, progress, _as_said, left_out).inventory


def inventory_of_home(home: Home, label: str) -> Inventory:
    """Take stock of a dataset, or of every answer in the home where no dataset is named."""
    sets = origin_queries.stamp_sets(home.ledger)
    if label:
        counts = {int(id): rows for id, rows in dataset_queries.dataset(home.ledger, label).stamp_sets.items()}
    else:
        counts = answer_queries.answers_by_stamps(home.ledger)
    return take_inventory(counts, sets, home.policy, {})


def plan_import(
    home: Home,
    path: Path,
    name: str,
    use: Use,
    declared: Declared,
    progress: Progress,
    erasable: str = "",
    keep: tuple[str, ...] = (),
) -> Import:
    """What an import would bring; encrypted with the key of a source, where it is to be ``erasable`` as that.

    Raises CorpusUnreadable, TeacherContradiction, PolicyRefusal.
    """
    wrong = closed_as_open(declared.model, declared.lab, declared.channel, declared.terms)
    if wrong:
        raise TeacherContradiction(
            f"{wrong}.", next_step="Declare the lab, the channel and the terms that it really has."
        )
    if erasable:
        check_source(home, erasable)
    files = files_of(path)
    left_out = LeftOutRows()
    inventory, sets, shapes, rows_digest, known = _scan(
        home, files, declared, progress, withheld if erasable else _as_said, left_out
    )
    if not inventory.rows:
        reasons = "; ".join(left_out.told().splitlines()[:9]) or "it is empty"
        raise CorpusUnreadable(
            f"{path} holds nothing to import: {reasons}.", next_step="docs/importing.md lists the shapes."
        )
    decisions = [home.policy.check(Door.USE, stamps.stamps, use) for stamps in sets]
    for stamps in sets:
        home.doors.check(Door.USE, f"import {name}", stamps.stamps, Use.STORE)
    # The log is for ever: of what can be erased, no digest may stand in it by which a guess at the rows could be tried.
    size = sum(file.path.stat().st_size for file in files if not file.left_out)
    known_by = [erasable, readable(path), inventory.rows, size] if erasable else rows_digest
    digest = digest_value([name, use, known_by, [stamps.digest for stamps in sets]])
    does = {
        "dataset": name,
        "from": readable(path),
        "shapes": dict(shapes),
        "rows": inventory.rows,
        "skipped": inventory.skipped,
        "origins": {share.what: share.rows for share in inventory.by_origin},
        "labs": {share.what: share.rows for share in inventory.by_lab},
        "channels": {share.what: share.rows for share in inventory.by_channel},
        f"may be used to {use}": {share.what: share.rows for share in inventory.by_decision[str(use)]},
        **known,
        **({"erasable as": erasable} if erasable else {}),
    }
    run = f"import:{digest.partition(':')[2][:12]}"
    plan = make_plan("import", run, does, list(dict.fromkeys(decisions)), Decimal(0), digest)
    return Import(plan, run, inventory, rows_digest, erasable, keep, left_out)


def execute_import(
    home: Home, path: Path, name: str, use: Use, declared: Declared, planned: Import, progress: Progress
) -> DatasetVersion:
    """Write the rows down as answers of their declared origin, and form a dataset of them. Resumes where it stopped.

    Raises PlanRefused where the rows are not those that the plan was made of (then no dataset is formed), and, for what is
    to be erasable, what its key can be missing for.
    """
    if planned.erasable:
        key_for(home, planned.erasable)
    objects = objects_of(home, planned.erasable)
    left_out = LeftOutRows()
    rows = blake3()
    with executing(home.recorder, planned.plan, planned.plan.facts) as result:
        candidates: dict[str, Candidate] = {}
        progress.start(f"import {path}", planned.inventory.rows)
        group: list[Read] = []
        seen = 0
        recogniser = Recogniser(home, planned.run)
        reads = read_corpus(files_of(path), declared, left_out, withheld if planned.erasable else _as_said)
        for read in _recognised(recogniser, reads):
            group.append(read)
            rows.update(read.raw.encode())
            seen += 1
            if len(group) == _ROWS_AT_ONCE:
                _write(home, planned, objects, group, candidates)
                progress.update(seen)
                group = []
        _write(home, planned, objects, group, candidates)
        if rows.hexdigest() != planned.rows_digest:
            raise PlanRefused(f"{path} has changed since it was looked at.")
        imported = facts.CorpusImported(
            at=now(), by=home.recorder.by, run=planned.run, source=readable(path), digest=objects.alias(planned.rows_digest),
            shape=", ".join(planned.plan.does["shapes"]), rows=seen, skipped=dict(left_out.rows), erasable=planned.erasable,
        )  # fmt: skip
        edge = {"parent": f"corpus:{readable(path.name)}", "child": f"run:{planned.run}", "kind": "imported in"}
        home.recorder.record(imported, facts.Derived(at=now(), by=home.recorder.by, **edge))
        home.recorder.refresh()
        progress.finish(f"{len(candidates)} distinct rows of {seen}")
        dataset = _form(home, name, use, planned, objects, list(candidates.values()))
        result.update({"dataset": dataset.label, "rows": dataset.rows, "content_digest": dataset.content_digest})
    return dataset


def _scan(
    home: Home,
    files: Sequence[RowFile],
    declared: Declared,
    progress: Progress,
    heard: Callable[[ParsedRow], ParsedRow],
    left_out: LeftOutRows,
) -> Scanned:
    """One pass over the rows, keeping counts and the digest of all alone."""
    progress.start("scan rows", 0)
    recogniser = Recogniser(home)
    counts: Counter[int] = Counter()
    sets: dict[int, StampSet] = {}
    shapes: Counter[str] = Counter()
    rows = blake3()
    for number, read in enumerate(_recognised(recogniser, read_corpus(files, declared, left_out, heard)), start=1):
        counts[read.stamps.id] += 1
        sets.setdefault(read.stamps.id, read.stamps)
        shapes[read.said.shape] += 1
        rows.update(read.raw.encode())
        if number % _ROWS_AT_ONCE == 0:
            progress.update(number)
    progress.finish(f"{counts.total()} rows")
    inventory = take_inventory(counts, sets, home.policy, left_out.rows)
    ordered = sorted(sets.values(), key=lambda stamps: stamps.digest)
    return Scanned(inventory, ordered, shapes, rows.hexdigest(), recogniser.told())


def _recognised(recogniser: Recogniser, reads: Iterable[Read]) -> Iterator[Read]:
    """Rows with the stamps that the home knows of them."""
    for group in grouped(reads):
        sets = recogniser.recognise([(read.said, read.stamps, read.own) for read in group])
        yield from (read._replace(stamps=stamps) for read, stamps in zip(group, sets, strict=True))


def _check(said: ParsedRow, stamps: StampSet, declared: Declared) -> None:
    """A declaration that the row contradicts is refused, as it is for a teacher."""
    if said.model and declared.origin not in (Origin.UNKNOWN, Origin.TEACHER, Origin.OWN_MODEL):
        raise TeacherContradiction(
            f"A row says that {said.model} wrote it, but {declared.origin} was declared.",
            next_step="Leave out --origin: what the rows say of themselves counts.",
        )
    named = next((stamp.channel for stamp in stamps.stamps if stamp.provider), None)
    for_all = declared.channel
    if (
        named is not None
        and for_all not in (Channel.UNKNOWN, Channel.PERSONAL)
        and named not in (for_all, Channel.UNKNOWN)
    ):
        raise TeacherContradiction(
            f"A row says that it came through {said.via} ({named}), but {for_all} was declared.",
            next_step="Leave out --channel: what the rows say of themselves counts.",
        )


def _write(home: Home, planned: Import, objects: Objects, group: list[Read], candidates: dict[str, Candidate]) -> None:
    """Prompts, stamps and answers of some rows in a few writes; what the log has is not written again.

    Of what can be erased, the log gets aliases and no words: those are in the dataset's files alone.
    """
    keyed = {}
    for read in group:
        prompt = prompt_digest(read.said.messages)
        reasoning = [read.said.reasoning] if read.said.reasoning else []
        key = digest_value(["import", prompt, read.said.text, read.stamps.digest, *reasoning])
        keyed[objects.alias(key)] = (objects.alias(prompt), read)
    plain = not planned.erasable
    prompts = {prompt: read.said.messages for prompt, read in keyed.values()} if plain else {}
    home.recorder.intern([read.stamps for _, read in keyed.values()], prompts)
    known = answer_queries.answered(home.ledger, keyed)
    entries: list[facts.Fact] = []
    for key, (prompt, read) in keyed.items():
        said = read.said
        task = Task(id=(plain and said.id) or prompt.partition(":")[2][:16], messages=said.messages)
        candidates.setdefault(
            key, Candidate(key, task, 0, said.text, "", said.finish, read.stamps.id, _UNJUDGED, said.reasoning)
        )
        if key not in known:
            entries.append(
                facts.Answered(
                    at=now(), by=home.recorder.by, run=planned.run, teacher="", key=key, task=task.id, prompt=prompt,
                    sample=0, stamps=read.stamps.id, text=said.text if plain else "", finish=said.finish,
                    usage=said.usage, cost_usd="0.000000", seconds=0.0, raw=read.raw if plain else "",
                )
            )  # fmt: skip
    new = {key: read.said for key, (_, read) in keyed.items() if key not in known}
    marked = [
        facts.Marked(key, turn_alias(objects, mark)) for key, said in new.items() for mark in earlier_answers(said)
    ]
    if planned.erasable:  # how these are known again while their key exists; each once
        marks = {key: marks_of(said.messages, said.text) for key, said in new.items()}
        marked += [facts.Marked(key, alias_of(objects, mark)) for key, mark in marks.items() if mark.answer]
    if marked:
        entries.append(facts.AnswersMarked(at=now(), by=home.recorder.by, run=planned.run, marks=tuple(marked)))
    if entries:
        home.recorder.record(*entries)


def _form(
    home: Home, name: str, use: Use, planned: Import, objects: Objects, candidates: list[Candidate]
) -> DatasetVersion:
    sets = origin_queries.stamp_sets(home.ledger)
    used = {candidate.stamps for candidate in candidates}
    decisions = {id: home.policy.check(Door.KEEP, sets[id].stamps, use) for id in used}
    formed = filter_rows(candidates, protect((), ()), decisions, (COMPLETE, DISTINCT, ALLOWED), keep=planned.keep)
    return write_version(
        home.recorder, objects, name=name, run=planned.run, recipe=digest_value([planned.run, name, use]), formed=formed,
        erasable=planned.erasable,
    )  # fmt: skip
