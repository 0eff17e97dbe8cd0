"""What comes back is recognised: rows of a corpus that the log knows keep the stamps that they have there.

A row is known by the stamps that an export of this home gave it, or by its question and its answer together, however they are
wrapped and whatever its system text is; what can be erased is known by its keyed alias while the key exists. What is inherited is
joined with what is declared, and the strictest decides.

Not inherited: from text that a person is declared to have written before any model gave it here; from an earlier declaration of
the same lab, which a new one corrects; by an answer of fewer than 40 words, by an answer alone, or by its code alone (those are
findings of grade inferred, shown before the import: most short functions are written by several people, each on their own).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from stillhouse.canon import digest_value
from stillhouse.conversations.text_marks import code_mark, text_mark, turns_mark
from stillhouse.errors import KeyMissing, SourceErased
from stillhouse.home.current_permission import load
from stillhouse.home.erasable_sources import objects_of
from stillhouse.home.ledger import answer_queries, custody_queries, origin_queries
from stillhouse.home.open_home import Home
from stillhouse.home.stamping import stamp_set
from stillhouse.nouns import Grade, Message, NotACopy, Origin, Stamp, StampSet
from stillhouse.permission.known_names import fold_lab
from stillhouse.vault.objects import Objects

_BY_MODEL = (Origin.TEACHER, Origin.OWN_MODEL)
_AT_ONCE = 200
# Numbers of sets have 63 bits.
_LONGEST_NUMBER, _NO_SET = 20, -1
UNKNOWN = Stamp(origin=Origin.UNKNOWN, grade=Grade.UNKNOWN)
# What rows are counted by that the log knows.
BY_STAMPS, BY_TEXT, UNRESOLVED = "stamps of an export", "question and answer", "stamps that resolve to nothing"
# What is only found: grade inferred, for a person to look at.
ANSWER_ALONE = "an answer that is known under another question"
CODE_ALONE = "code that models gave here, but for names and layout"


# Of a finding that rows are no copies: the object with these rows.
MARKS = "rows"


class Row(Protocol):
    """What is to be known of a row of a corpus."""

    @property
    def messages(self) -> Sequence[Message]:
        """What was asked."""

    @property
    def text(self) -> str:
        """What was answered."""


class Marks(NamedTuple):
    """A row's marks: of its question, and of its answer ("" where that is too short)."""

    question: str
    answer: str


AnyRow = TypeVar("AnyRow")


def marks_of(messages: Iterable[Message], text: str) -> Marks:
    """The marks by which a row is found again."""
    return Marks(turns_mark((message.role, message.content) for message in messages), text_mark(text))


def alias_of(objects: Objects, marks: Marks) -> str:
    """By what the log knows these marks where its words are to be erasable."""
    return objects.alias(digest_value(["mark", *marks]))


class Recogniser:
    """Looks rows up in a home. ``but_run`` is an import whose own rows do not count: it is under way."""

    def __init__(self, home: Home, but_run: str = "") -> None:
        self._home, self._but_run = home, but_run
        self._sets: Mapping[int, StampSet] = origin_queries.stamp_sets(home.ledger)
        self._sources = _readable_sources(home)
        self._lifted = _lifted(home)
        self.found: Counter[str] = Counter()
        self.inferred: Counter[str] = Counter()
        self.labs_of_code: Counter[str] = Counter()

    def recognise(self, rows: Sequence[tuple[Row, StampSet, Any]]) -> list[StampSet]:
        """The stamp sets of some rows; each comes with what was declared, and with what the row says of its own stamps."""
        marks = [marks_of(row.messages, row.text) for row, _, _ in rows]
        by_text = self._by_text(marks)
        found = []
        for (_, declared, own), mark in zip(rows, marks, strict=True):
            known = [*self._own(own)]
            answered = by_text.get(mark)
            if answered is not None:
                self.found[BY_TEXT] += 1
                known += answered.stamps
            found.append(self._joined(declared, known))
        self._find_code([row.text for (row, _, _), mark in zip(rows, marks, strict=True) if mark not in by_text])
        return found

    def told(self) -> dict[str, dict[str, int]]:
        """What was recognised, what is only inferred, and whose the code is; nothing of what there is none."""
        counts = {"recognised": self.found, "inferred": self.inferred, "labs of that code": self.labs_of_code}
        return {what: dict((+count).most_common()) for what, count in counts.items() if count.total()}

    def _find_code(self, texts: Sequence[str]) -> None:
        """Count the rows whose code, not their text, is that of a model's answer, and whose it is."""
        marks = [mark for mark in map(code_mark, texts) if mark]
        known = answer_queries.stamps_by_code(self._home.ledger, set(marks), self._but_run)
        for mark in marks:
            stamps = [
                stamp for id in known.get(mark, ()) for stamp in self._sets[id].stamps if stamp.origin in _BY_MODEL
            ]
            self.inferred[CODE_ALONE] += bool(stamps)
            self.labs_of_code.update({stamp.lab or "unknown" for stamp in stamps})

    def _joined(self, declared: StampSet, known: Sequence[Stamp]) -> StampSet:
        labs = {fold_lab(stamp.lab) for stamp in declared.stamps if stamp.lab}
        inherited = [
            stamp
            for stamp in known
            if stamp.grade is not Grade.DECLARED or fold_lab(stamp.lab) not in labs or not stamp.lab
        ]
        if not inherited:
            return declared
        silent = all(stamp.origin in (Origin.UNKNOWN, Origin.PROMPT_SEED) for stamp in declared.stamps)
        kept = [stamp for stamp in declared.stamps if not silent or stamp.origin is Origin.PROMPT_SEED]
        return stamp_set([*kept, *inherited])

    def _own(self, own: Any) -> tuple[Stamp, ...]:
        """What a row's own stamps say, as exports write them."""
        if not isinstance(own, Mapping) or own.get("stamps") is None:
            return ()
        carried = _carried(own)
        known = self._sets.get(_whole(own["stamps"])) or (
            self._sets.get(carried.id, _declared(carried)) if carried else None
        )
        self.found[BY_STAMPS if known is not None else UNRESOLVED] += 1
        return known.stamps if known is not None else (UNKNOWN,)

    def _by_text(self, marks: Sequence[Marks]) -> dict[Marks, StampSet]:
        wanted = {mark.answer for mark in marks} - {""}
        every = answer_queries.by_mark(self._home.ledger, wanted, self._but_run)
        answers, pairs = {one.answer for one in every}, {Marks(one.question, one.answer) for one in every}
        first = _first(one for one in every if (Marks(one.question, one.answer), one.stamps) not in self._lifted)
        self.inferred[ANSWER_ALONE] += sum(mark.answer in answers and mark not in pairs for mark in marks)
        found = {pair: self._sets[one.stamps] for pair, one in first.items()}
        for objects in self._sources:
            aliases = {alias_of(objects, mark): mark for mark in marks if mark.answer and mark not in found}
            erasable = answer_queries.by_alias(self._home.ledger, aliases, self._but_run)
            found |= {aliases[alias]: self._sets[stamps] for alias, stamps in erasable.items()}
        return {
            pair: known for pair, known in found.items() if any(stamp.origin in _BY_MODEL for stamp in known.stamps)
        }


def known_rows(home: Home, marks: Sequence[Marks]) -> dict[Marks, set[int]]:
    """Those of some rows' marks that the log knows by question and answer, and with which stamp sets."""
    found: dict[Marks, set[int]] = {}
    for one in answer_queries.by_mark(home.ledger, {mark.answer for mark in marks} - {""}, ""):
        found.setdefault(Marks(one.question, one.answer), set()).add(one.stamps)
    return {mark: found[mark] for mark in marks if mark in found}


class LiftedRow(msgspec.Struct, frozen=True):
    """A row that was found to be no copy of what the log had with these stamp sets (their ids as text)."""

    messages: tuple[Message, ...]
    text: str
    stamps: tuple[str, ...]


def read_lifted(data: bytes) -> tuple[LiftedRow, ...]:
    """The rows of a finding. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(data, type=tuple[LiftedRow, ...])


def _first(known: Iterable[answer_queries.KnownAnswer]) -> dict[Marks, answer_queries.KnownAnswer]:
    """The first answer of each pair of marks."""
    first: dict[Marks, answer_queries.KnownAnswer] = {}
    for one in known:
        pair = Marks(one.question, one.answer)
        if pair not in first or one.at < first[pair].at:
            first[pair] = one
    return first


def _lifted(home: Home) -> frozenset[tuple[Marks, int]]:
    """Rows that were found to be no copies, and of what: the same words with other stamps are looked at anew."""
    findings = load(home.ledger, home.settings).state.of(NotACopy)
    objects = [finding.objects[MARKS] for finding in findings if MARKS in finding.objects]
    return frozenset(
        (marks_of(row.messages, row.text), int(id))
        for digest in objects
        for row in read_lifted(home.objects.get(digest))
        for id in row.stamps
    )


def _carried(own: Mapping[str, Any]) -> StampSet | None:
    """The whole set that an export wrote beside its number; None where the two do not belong together."""
    try:
        stamps = msgspec.convert(own.get("origins"), tuple[Stamp, ...])
    except msgspec.ValidationError:
        return None
    carried = stamp_set(stamps)
    number = own["stamps"]
    # Programs whose numbers have 53 bits (JavaScript, jq) write another whole number, or a fraction, in its place.
    same = _whole(number) == carried.id or (isinstance(number, int | float) and _as_float(number) == float(carried.id))
    return carried if stamps and same else None


def _declared(carried: StampSet) -> StampSet:
    """What was observed in another home is a declaration here."""
    return stamp_set(
        msgspec.structs.replace(one, grade=Grade.DECLARED) if one.grade is Grade.OBSERVED else one
        for one in carried.stamps
    )


def _whole(number: Any) -> int:
    """The number of a set, as a number or as text; one that no set has where it is neither."""
    text = str(number)
    return int(text) if len(text) <= _LONGEST_NUMBER and text.removeprefix("-").isdecimal() else _NO_SET


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("nan")


def _readable_sources(home: Home) -> list[Objects]:
    """The sources that can be erased and whose key is here: without it, nothing of them is known again."""
    found = []
    for source in sorted({key.source for key in custody_queries.erasure_keys(home.ledger).values()}):
        try:
            found.append(objects_of(home, source))
        except (KeyMissing, SourceErased):
            continue
    return found


def grouped(rows: Iterable[AnyRow]) -> Iterator[list[AnyRow]]:
    """Rows in groups that are looked up together."""
    group: list[AnyRow] = []
    for row in rows:
        group.append(row)
        if len(group) == _AT_ONCE:
            yield group
            group = []
    if group:
        yield group
