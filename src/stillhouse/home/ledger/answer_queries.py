"""Answers, their verdicts, and what failed."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, and_, func, select

from stillhouse.canon import raw_digest
from stillhouse.errors import CorruptLog
from stillhouse.home import facts
from stillhouse.home.ledger import imported_rows
from stillhouse.home.ledger.clean import clean_text, clean_value
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, by_keys, decode, in_groups, ordered
from stillhouse.nouns import (
    Usage,
    Verdict,
    VerdictStatus,
)
from stillhouse.vault.writer import Position

# An answer may have 100 kB.
TEXTS_AT_ONCE = 256


class StoredAnswer(NamedTuple):
    """An answer as the view has it, but for its text; ``entry`` says where in the log it is: no two answers have the same."""

    key: str
    run: str
    teacher: str
    task: str
    prompt: str
    sample: int
    stamps: int
    finish: str
    usage: Usage
    cost_usd: str
    seconds: float
    entry: str

    @property
    def position(self) -> Position:
        """The entry of the log."""
        writer, number, _ = self.entry.split("/")
        return Position(writer, int(number))


def answers(ledger: Ledger, keys: Iterable[str]) -> dict[str, StoredAnswer]:
    """The answers to these keys, where there are any."""
    found: dict[str, StoredAnswer] = {}
    for chunk in in_groups(keys):
        for row in all_rows(ledger, _heads().where(tables.answers.c.key.in_(chunk))):
            if row.key not in found:
                found[row.key] = _stored(row)
    return found


def answers_of_run(ledger: Ledger, run: str) -> dict[str, StoredAnswer]:
    """The answers of a run, by key."""
    found: dict[str, StoredAnswer] = {}
    for row in all_rows(ledger, _heads().where(tables.answers.c.run == run)):
        if row.key not in found:
            found[row.key] = _stored(row)
    return found


def texts(ledger: Ledger, keys: Iterable[str]) -> dict[str, str]:
    """What some answers say, by key, as the log has it; all of it is in memory then.

    NUL and half surrogate pairs are replaced, as in all that is stored elsewhere. Raises CorruptLog, CorruptObject, StorageError.
    """
    column = tables.answers.c
    places: dict[str, Position] = {}
    for chunk in in_groups(keys):
        query = ordered(tables.answers, column.key, column.writer, column.number).where(column.key.in_(chunk))
        for key, writer, number in map(tuple, all_rows(ledger, query)):
            places.setdefault(key, Position(writer, number))
    return _texts_at(ledger, places)


def _texts_at(ledger: Ledger, places: Mapping[str, Position]) -> dict[str, str]:
    assert ledger.entries is not None  # whoever has rows has followed a log
    found: dict[str, str] = {}
    in_order = sorted(places.items(), key=lambda item: item[1])
    for (key, _), payload in zip(in_order, ledger.entries.payloads(place for _, place in in_order), strict=True):
        fact = facts.decode(payload)
        is_it = isinstance(fact, facts.Answered) and key in (fact.key, clean_value(tables.answers, "key", fact.key))
        if not isinstance(fact, facts.Answered) or not is_it:
            raise CorruptLog(f"the view and the log differ about the answer {key}.")
        found[key] = clean_text(fact.text)
    return found


def with_texts(ledger: Ledger, answers: Sequence[StoredAnswer]) -> Iterator[tuple[StoredAnswer, str]]:
    """Answers with what they say, of which few are in memory at once."""
    for start in range(0, len(answers), TEXTS_AT_ONCE):
        some = answers[start : start + TEXTS_AT_ONCE]
        said = _texts_at(ledger, {answer.key: answer.position for answer in some})
        yield from ((answer, said[answer.key]) for answer in some)


def _heads() -> Select[Any]:
    column = tables.answers.c
    return ordered(
        tables.answers, column.key, column.run, column.teacher, column.task, column.prompt, column.sample, column.stamps,
        column.finish, column.prompt_tokens, column.completion_tokens, column.cost_usd, column.seconds, column.writer,
        column.number, column.place,
    )  # fmt: skip


def _stored(row: Row[Any]) -> StoredAnswer:
    key, run, teacher, task, prompt, sample, stamps, finish, asked, answered, cost_usd, seconds, *entry = tuple(row)
    return StoredAnswer(
        key, run, teacher, task, prompt, sample, stamps, finish, Usage(asked, answered), cost_usd, seconds,
        "/".join(map(str, entry)),
    )  # fmt: skip


def answered(ledger: Ledger, keys: Iterable[str]) -> set[str]:
    """Those of these keys that have an answer."""
    found: set[str] = set()
    for chunk in in_groups(keys):
        found |= {
            row.key for row in all_rows(ledger, select(tables.answers.c.key).where(tables.answers.c.key.in_(chunk)))
        }
    return found


def known(ledger: Ledger, keys: Collection[str], but_run: str = "") -> set[str]:
    """Those of these keys that have an answer, or that an import other than that run brought."""
    return answered(ledger, keys) | imported_rows.keys_known(ledger, keys, but_run)


def answer_tokens(ledger: Ledger, keys: Iterable[str]) -> dict[str, int]:
    """Tokens of these answers as the teacher counted them; -1 where it did not."""
    found: dict[str, int] = {}
    column = tables.answers.c
    for chunk in in_groups(keys):
        query = select(column.key, column.completion_tokens).where(column.key.in_(chunk))
        found |= {row.key: int(row.completion_tokens) for row in all_rows(ledger, query)}
    return found


def answers_by_stamps(ledger: Ledger) -> dict[int, int]:
    """How many answers carry each stamp set."""
    answers = tables.answers
    query = select(answers.c.stamps, func.count(func.distinct(answers.c.key)).label("rows")).group_by(answers.c.stamps)
    found = Counter({int(row.stamps): int(row.rows) for row in all_rows(ledger, query)})
    for (stamps, _), (rows, _) in imported_rows.rows_by_stamps(ledger).items():
        found[stamps] += rows
    return dict(found)


def verdicts(ledger: Ledger, keys: Iterable[str]) -> dict[tuple[str, str], Verdict]:
    """Verdicts by (key, judge)."""
    found: dict[tuple[str, str], Verdict] = {}
    for row in by_keys(ledger, tables.verdicts, tables.verdicts.c.key, keys):
        verdict = Verdict(
            VerdictStatus(row.status), row.reason, row.check_failed, row.trust, row.isolation, row.checks,
            row.checks_passed, row.cpu_seconds,
        )  # fmt: skip
        found.setdefault((row.key, row.judge), verdict)
    return found


def failures(ledger: Ledger, keys: Iterable[str]) -> dict[str, str]:
    """The last failure's reason of keys that failed."""
    return {row.key: row.reason for row in by_keys(ledger, tables.failures, tables.failures.c.key, keys)}


def known_failures(ledger: Ledger, keys: Iterable[str]) -> dict[str, int]:
    """How often calls of these keys failed with an answer that says so: their fate is known."""
    counts: dict[str, int] = {}
    for row in by_keys(ledger, tables.failures, tables.failures.c.key, keys):
        if row.status:
            counts[row.key] = counts.get(row.key, 0) + 1
    return counts


class OpenBatch(NamedTuple):
    """A batch that is not settled. ``remote`` is empty where nobody knows whether the provider took it."""

    batch: str
    run: str
    at: str
    stamps: int
    calls: tuple[facts.BatchedCall, ...]
    remote: str


def open_batches(ledger: Ledger, teacher: str) -> list[OpenBatch]:
    """The batches with a teacher that are not settled, oldest first, whichever run submitted them."""
    batches, ends = tables.batches, tables.batch_ends
    query = ordered(batches).where(and_(batches.c.teacher == teacher, batches.c.batch.not_in(select(ends.c.batch))))
    remotes = {row.batch: row.remote for row in all_rows(ledger, select(tables.submissions))}
    return [
        OpenBatch(
            row.batch, row.run, row.at, row.stamps, decode(row.calls, tuple[facts.BatchedCall, ...]),
            remotes.get(row.batch, ""),
        )
        for row in all_rows(ledger, query)
    ]  # fmt: skip


class KnownAnswer(NamedTuple):
    """An answer that was found by its mark: when it came, the marks of what was asked and answered, and its stamp set."""

    at: str
    question: str
    answer: str
    stamps: int


def by_mark(ledger: Ledger, marks: Collection[str], but_run: str = "") -> list[KnownAnswer]:
    """Every answer with one of these marks, but for those of a run."""
    answers = tables.answers
    rows = imported_rows.found(ledger, imported_rows.ANSWER, marks, but_run)
    found = [KnownAnswer(row.at, row.question, row.mark, row.stamps) for row in rows]
    for group in in_groups(marks):
        query = _marked(answers.c.at).where(and_(answers.c.mark.in_(group), answers.c.run != but_run))
        found += [KnownAnswer(row.at, row.question, row.mark, row.stamps) for row in all_rows(ledger, query)]
    return found


def stamps_by_code(ledger: Ledger, marks: Collection[str], but_run: str = "") -> dict[str, set[int]]:
    """The stamp sets of the answers whose code has one of these marks, but for those of a run."""
    answers = tables.answers
    found: dict[str, set[int]] = {}
    for imported in imported_rows.found(ledger, imported_rows.CODE, marks, but_run):
        found.setdefault(imported.mark, set()).add(imported.stamps)
    for group in in_groups(marks):
        query = (
            select(answers.c.code_mark, answers.c.stamps)
            .where(and_(answers.c.code_mark.in_(group), answers.c.run != but_run))
            .distinct()
        )
        for row in all_rows(ledger, query):
            found.setdefault(row.code_mark, set()).add(row.stamps)
    return found


class KnownAlias(NamedTuple):
    """An erasable answer that is known by its mark's alias: when it came, and its stamps."""

    at: str
    alias: str
    stamps: int


def any_aliases(ledger: Ledger, but_run: str = "") -> bool:
    """Is there any answer, but for those of a run, whose mark is known by an alias?"""
    marks = tables.marks
    query = select(marks.c.mark).where(marks.c.run != but_run).limit(1)
    return bool(list(all_rows(ledger, query))) or imported_rows.any_aliases(ledger, but_run)


def by_alias(ledger: Ledger, aliases: Collection[str], but_run: str = "") -> list[KnownAlias]:
    """Every erasable answer whose mark has one of these aliases, but for those of a run."""
    answers, marks = tables.answers, tables.marks
    rows = imported_rows.found(ledger, imported_rows.ALIAS, aliases, but_run)
    found = [KnownAlias(row.at, row.mark, row.stamps) for row in rows]
    for group in in_groups(aliases):
        query = (
            select(marks.c.at, marks.c.mark, answers.c.stamps)
            .join(answers, answers.c.key == marks.c.key)
            .where(and_(marks.c.mark.in_(group), marks.c.run != but_run))
        )
        found += [KnownAlias(row.at, row.mark, row.stamps) for row in all_rows(ledger, query)]
    return found


def marks_of_stamps(ledger: Ledger, ids: Collection[int]) -> set[tuple[str, str]]:
    """The marks (question, answer) of all answers with one of these stamp sets; those that are too short have none."""
    answers = tables.answers
    found = set(imported_rows.of_stamps(ledger, imported_rows.ANSWER, ids))
    for id in ids:
        query = _marked().where(and_(answers.c.stamps == id, answers.c.mark != ""))
        found |= {(row.question, row.mark) for row in all_rows(ledger, query)}
    return found


def aliases_of_stamps(ledger: Ledger, ids: Collection[int]) -> set[str]:
    """The aliases of the marks of all erasable answers with one of these stamp sets, as ``short_alias`` has them."""
    answers, marks = tables.answers, tables.marks
    found = {alias for _, alias in imported_rows.of_stamps(ledger, imported_rows.ALIAS, ids)}
    for id in ids:
        query = select(marks.c.mark).join(answers, answers.c.key == marks.c.key).where(answers.c.stamps == id)
        found |= {short_alias(row.mark) for row in all_rows(ledger, query)}
    return found


def short_alias(alias: str) -> str:
    """As much of an alias as tells it from all others: 128 bits in hex."""
    return raw_digest(alias)[:16].hex()


def _marked(*columns: ColumnElement[Any]) -> Select[Any]:
    """Answers with the marks of what they answer: a prompt that was asked, or a request that came through the gateway."""
    answers, prompts, calls = tables.answers, tables.prompts, tables.calls
    question = func.coalesce(prompts.c.mark, calls.c.question)
    return (
        select(*columns, question.label("question"), answers.c.mark, answers.c.stamps)
        .join(prompts, prompts.c.prompt == answers.c.prompt, isouter=True)
        .join(calls, calls.c.call == answers.c.task, isouter=True)
        .where(question.is_not(None))
    )
