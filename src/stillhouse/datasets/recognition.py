"""What comes back is recognised: rows of a corpus that the log knows keep the stamps that they have there.

A row is known by the stamps that an export of this home gave it, or by its question and its answer together, however they are
wrapped and whatever its system text is; what can be erased is known by its keyed alias while the key exists. What is inherited
is joined with what is declared, and the strictest decides.

Not inherited: from text that a person is declared to have written before any model gave it here; by an answer of fewer than 40
words, by an answer alone, or by its code alone (those are findings of grade inferred, shown before the import: most short
functions are written by several people, each on their own). An earlier declaration of the same lab is corrected by a new one,
unless there is a roster: then a signed finding (``policy not-a-copy``) lifts it, as it lifts every other match.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from stillhouse.canon import digest_plain
from stillhouse.datasets.row_marks import MarkedRow, Marks, marks_before, marks_of
from stillhouse.errors import KeyMissing, SourceErased
from stillhouse.home.current_permission import load
from stillhouse.home.erasable_sources import objects_of
from stillhouse.home.ledger import answer_queries, custody_queries, origin_queries
from stillhouse.home.open_home import Home
from stillhouse.nouns import Grade, Message, NotACopy, Origin, Stamp, StampSet
from stillhouse.permission.acts.act import ChainState
from stillhouse.permission.known_names import fold_lab
from stillhouse.permission.stamp_sets import stamp_set
from stillhouse.vault.objects import Objects

_BY_MODEL = (Origin.TEACHER, Origin.OWN_MODEL)
_AT_ONCE = 1000
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


AnyRow = TypeVar("AnyRow")


def alias_of(objects: Objects, marks: Marks) -> str:
    """By what the log knows these marks where its words are to be erasable."""
    return objects.alias(digest_plain(["mark", *marks]))


def turn_alias(objects: Objects, mark: str) -> str:
    """By what the log knows an earlier answer of an imported conversation, of which it has no answer of its own."""
    return objects.alias(digest_plain(["turn", mark]))


class Recogniser:
    """Looks rows up in a home. ``but_run`` is an import whose own rows do not count: it is under way."""

    def __init__(self, home: Home, but_run: str = "") -> None:
        self._home, self._but_run = home, but_run
        self._sets: Mapping[int, StampSet] = origin_queries.stamp_sets(home.ledger)
        self._sources = readable_sources(home)
        permission = load(home.ledger, home.settings).state
        self._lifted = _lifted(home, permission)
        # Making an alias of every mark takes a tenth of an import's time, and most homes have none.
        self._any_aliases = answer_queries.any_aliases(home.ledger, but_run)
        self._corrects = permission.roster is None
        self.found: Counter[str] = Counter()
        self.inferred: Counter[str] = Counter()
        self.labs_of_code: Counter[str] = Counter()

    def recognise(self, rows: Sequence[tuple[MarkedRow, StampSet, Any]]) -> list[StampSet]:
        """The stamp sets of some rows; each comes with what was declared, and with what the row says of its own stamps."""
        by_text = self._by_text({mark: said for row, _, _ in rows for mark, said in row.answers.items()})
        found = []
        for row, declared, own in rows:
            answered = [stamp for mark in row.answers for stamp in by_text.get(mark, ())] if by_text else []
            self.found[BY_TEXT] += bool(answered)
            found.append(self._joined(declared, self._own(own), answered))
        unknown = [row for row, _, _ in rows if by_text.keys().isdisjoint(row.answers)]
        self._find_answers(unknown)
        self._find_code([row.code for row in unknown if row.code])
        return found

    def resume(self, told: Mapping[str, Mapping[str, int]]) -> None:
        """Go on counting where an earlier process stopped."""
        for what, count in self._counted().items():
            count.update(told.get(what, {}))

    def _counted(self) -> dict[str, Counter[str]]:
        return {"recognised": self.found, "inferred": self.inferred, "labs of that code": self.labs_of_code}

    def told(self) -> dict[str, dict[str, int]]:
        """What was recognised, what is only inferred, and whose the code is; nothing of what there is none."""
        return {what: dict((+count).most_common()) for what, count in self._counted().items() if count.total()}

    def _find_answers(self, rows: Sequence[MarkedRow]) -> None:
        """Count the rows of which a turn, or what was thought, is a known answer to another question."""
        wanted = set().union(*(row.texts for row in rows))
        every = answer_queries.by_mark(self._home.ledger, wanted, self._but_run)
        known = {one.answer for one in every if self._is_by_model(one.stamps)}
        if self._any_aliases:
            turns = {turn_alias(store, mark): mark for store in (self._home.objects, *self._sources) for mark in wanted}
            aliases = answer_queries.by_alias(self._home.ledger, turns, self._but_run)
            known |= {turns[one.alias] for one in aliases if self._is_by_model(one.stamps)}
        if known:
            self.inferred[ANSWER_ALONE] += sum(not known.isdisjoint(row.texts) for row in rows)

    def _is_by_model(self, stamps: int) -> bool:
        return any(stamp.origin in _BY_MODEL for stamp in self._stamps(stamps))

    def _stamps(self, id: int) -> tuple[Stamp, ...]:
        """The stamps of a set that the ledger knows; another process may have written it down since this one began."""
        if id not in self._sets:
            self._sets = origin_queries.stamp_sets(self._home.ledger)
        return self._sets[id].stamps

    def _find_code(self, marks: Sequence[str]) -> None:
        """Count the rows whose code, not their text, is that of a model's answer, and whose it is."""
        known = answer_queries.stamps_by_code(self._home.ledger, set(marks), self._but_run)
        for mark in marks:
            stamps = [stamp for id in known.get(mark, ()) for stamp in self._stamps(id) if stamp.origin in _BY_MODEL]
            self.inferred[CODE_ALONE] += bool(stamps)
            self.labs_of_code.update({stamp.lab or "unknown" for stamp in stamps})

    def _joined(self, declared: StampSet, own: Sequence[Stamp], answered: Sequence[Stamp]) -> StampSet:
        """What is declared of a row, what it says of itself, which nothing corrects, and what its words are known by."""
        labs = {fold_lab(stamp.lab) for stamp in declared.stamps if stamp.lab}
        inherited = [*own, *(stamp for stamp in answered if not (self._corrects and _is_redeclared(stamp, labs)))]
        if not inherited:
            return declared
        silent = all(stamp.origin in (Origin.UNKNOWN, Origin.PROMPT_SEED) for stamp in declared.stamps)
        kept = [stamp for stamp in declared.stamps if not silent or stamp.origin is Origin.PROMPT_SEED]
        return stamp_set([*kept, *inherited])

    def _own(self, own: Any) -> tuple[Stamp, ...]:
        """What a row's own stamps say, as exports write them."""
        if own is None:
            return ()
        if not isinstance(own, Mapping) or own.get("stamps") is None:
            self.found[UNRESOLVED] += 1
            return (UNKNOWN,)
        carried = _carried(own)
        known = self._sets.get(_whole(own["stamps"])) or (
            self._sets.get(carried.id, _declared(carried)) if carried else None
        )
        self.found[BY_STAMPS if known is not None else UNRESOLVED] += 1
        return known.stamps if known is not None else (UNKNOWN,)

    def _by_text(self, marks: Mapping[Marks, tuple[Sequence[Message], str]]) -> dict[Marks, list[Stamp]]:
        """The stamps of all that models gave for some marks, unless a person's text with them came first."""
        wanted = {mark.answer for mark in marks}
        known: dict[Marks, list[tuple[str, int]]] = {}
        for one in answer_queries.by_mark(self._home.ledger, wanted, self._but_run):
            pair = Marks(one.question, one.answer)
            if (pair, one.stamps) not in self._lifted:
                known.setdefault(pair, []).append((one.at, one.stamps))
        for objects in self._sources if self._any_aliases else ():
            aliases = {alias_of(objects, mark): mark for mark in marks}
            aliases |= {alias_of(objects, marks_before(*said)): mark for mark, said in marks.items()}
            for erasable in answer_queries.by_alias(self._home.ledger, aliases, self._but_run):
                known.setdefault(aliases[erasable.alias], []).append((erasable.at, erasable.stamps))
        found = {pair: self._of_models(sorted(answers)) for pair, answers in known.items()}
        return {pair: stamps for pair, stamps in found.items() if stamps}

    def _of_models(self, answers: Sequence[tuple[str, int]]) -> list[Stamp]:
        """What models gave, of answers in the order in which they came; what nobody said anything of protects nothing."""
        sets = [self._stamps(id) for id in dict.fromkeys(id for _, id in answers)]
        told = [stamps for stamps in sets if any(stamp.origin in (*_BY_MODEL, Origin.HUMAN) for stamp in stamps)]
        by_model = [any(stamp.origin in _BY_MODEL for stamp in stamps) for stamps in told]
        if not told or not by_model[0]:
            return []
        found: list[Stamp] = []
        observed: set[frozenset[str]] = set()
        for stamps in (stamps for stamps, model in zip(told, by_model, strict=True) if model):
            labs = frozenset(fold_lab(stamp.lab) for stamp in stamps)
            if labs not in observed:  # who was seen to give it first may give it again
                found += stamps
            if any(stamp.grade is Grade.OBSERVED for stamp in stamps):
                observed.add(labs)
        return found


def _is_redeclared(stamp: Stamp, labs: Collection[str]) -> bool:
    """Is this no more than an earlier declaration, of a lab that is declared again?"""
    return stamp.grade is Grade.DECLARED and stamp.lab != "" and fold_lab(stamp.lab) in labs


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


def _lifted(home: Home, permission: ChainState) -> frozenset[tuple[Marks, int]]:
    """Rows that were found to be no copies, and of what: the same words with other stamps are looked at anew."""
    findings = permission.of(NotACopy)
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


def readable_sources(home: Home) -> list[Objects]:
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
