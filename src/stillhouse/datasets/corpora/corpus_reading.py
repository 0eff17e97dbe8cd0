"""The rows of a corpus as they are understood, one after the other; what is not is counted by reason, and named."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from stillhouse.canon import digest_file
from stillhouse.datasets.corpora.carried_stamps import own_stamps
from stillhouse.datasets.corpora.conversation_shapes import read_rows, read_session
from stillhouse.datasets.corpora.origins import Declared, answer_stamps, input_stamps, stamps_of
from stillhouse.datasets.corpora.row_files import RowFile, RowLine, unparsed_lines_of
from stillhouse.datasets.corpora.row_shapes import ParsedRow, Skipped
from stillhouse.errors import TeacherContradiction
from stillhouse.nouns import Channel, Origin, StampSet
from stillhouse.vault.files import readable

_NAME_AND_TEXT = 2
_TURN_COLUMNS = frozenset({"messages", "conversations", "conversation"})
# What these hold stands in the conversation, if it is equal to one of its texts.
TEXT_COLUMNS = frozenset(
    {
        "prompt",
        "response",
        "completion",
        "instruction",
        "output",
        "question",
        "answer",
        "input",
        "generation",
        "system",
        "reasoning",
        "reasoning_content",
    }
)
# So many different reasons are counted apart; what stands in them may be of the rows' own making.
_MOST_REASONS = 100
_OTHER_REASONS = "for other reasons"
_WORDS = re.compile(r"(the role|content of type|part of type|it stands under) .*")


class Read(NamedTuple):
    """A row that was understood: what it says, its stamps, what it says besides (``rest``, as JSON), and the stamps that it says
    it has (``own``). Of a conversation the stamps of each answer (``answers``), and of what was given to them (``inputs``).
    """

    said: ParsedRow
    stamps: StampSet
    rest: str
    own: Any = None
    answers: tuple[StampSet, ...] = ()
    inputs: StampSet | None = None
    path: Path = Path()
    number: int = 0


class CorpusLine(NamedTuple):
    """A line of a file of a corpus."""

    path: Path
    line: RowLine


class Unread(NamedTuple):
    """A row that is left out: where it stands, and why."""

    path: Path
    number: int
    reason: str


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
        if kind not in self.rows and len(self.rows) >= _MOST_REASONS:
            kind = _OTHER_REASONS
        self.rows[kind] += 1
        named = self.examples.setdefault(kind, [])
        if len(named) < self._EXAMPLES:
            called = readable(path.name)
            named.append(f"{called}, line {number}" if number else called)

    def file(self, path: Path, why: str) -> None:
        """A file is read, or left out for a reason. Where another has its name, it is called by its path."""
        name = str(path) if path.name in self.files else path.name
        self.files[name] = f"left out: {why}" if why else "read"

    def told(self) -> str:
        """All of it for a reader; empty where everything was read."""
        lines = [f"{count} rows left out: {reason} ({', '.join(self.examples[reason])}{' ...' * (count > self._EXAMPLES)})"
                 for reason, count in self.rows.items()]  # fmt: skip
        lines += [f"{name} {what}" for name, what in self.files.items() if what != "read"]
        return "\n".join(lines)


def as_said(said: ParsedRow) -> ParsedRow:
    """What a row says counts as it says it."""
    return said


class Reading(NamedTuple):
    """How rows are understood. Pure, and sent to workers: ``heard`` is what counts of what a row says."""

    declared: Declared
    heard: Callable[[ParsedRow], ParsedRow] = as_said

    def read(self, given: CorpusLine) -> list[Read | Unread]:
        """A line's rows (one, but for sessions), or why they are left out. Raises TeacherContradiction."""
        line = given.line.parsed()
        if line.entries:
            said = read_session(line.session, line.entries)
        else:
            said = read_rows(line.row) if line.row is not None else Skipped(line.problem)
        found: list[Read | Unread] = [self.unread(given, line.problem)] if line.entries and line.problem else []
        if isinstance(said, Skipped):
            return [*found, self.unread(given, said.reason)]
        for one in said:
            read = _read(one, line.row or {}, self.declared, self.heard)
            found.append(
                self.unread(given, read)
                if isinstance(read, str)
                else read._replace(path=given.path, number=line.number)
            )
        return found

    def unread(self, given: CorpusLine, reason: str) -> Unread:
        """A line that is left out: a role or a type that nobody knows may be anything, and of rows that can be erased it is not
        written down.
        """
        return self.unread_at(given.path, given.line.number, reason)

    def unread_at(self, path: Path, number: int, reason: str) -> Unread:
        """The same for a row of a line."""
        return Unread(path, number, reason if self.heard is as_said else _WORDS.sub(r"\1", reason))


def lines_in(files: Sequence[RowFile], left_out: LeftOutRows, skip: int = 0) -> Iterator[CorpusLine]:
    """The lines of some files but for the first ``skip``; files are named in ``left_out``. Raises CorpusUnreadable."""
    for file, why in files:
        left_out.file(file, why)
        for line in unparsed_lines_of(file) if not why else ():
            if skip:
                skip -= 1
            else:
                yield CorpusLine(file, line)


def read_corpus(files: Sequence[RowFile], declared: Declared, left_out: LeftOutRows) -> Iterator[Read]:
    """The rows of some files; what is not understood is counted by reason. Raises CorpusUnreadable, TeacherContradiction."""
    reading = Reading(declared)
    for line in lines_in(files, left_out):
        for read in reading.read(line):
            if isinstance(read, Unread):
                left_out.row(*read)
            else:
                yield read


def _read(
    said: ParsedRow, row: Mapping[str, Any], declared: Declared, heard: Callable[[ParsedRow], ParsedRow]
) -> Read | str:
    """A row as it is understood, or why it is left out."""
    rest = _rest_of(row, said)
    if rest is None:
        return "it cannot be written down (half of a surrogate pair, or too deep)"
    said = heard(said)
    stamps, answers = stamps_of(said, declared), answer_stamps(said, declared)
    _check(said, stamps, declared)
    return Read(said, stamps, rest, own_stamps(row), answers, input_stamps(declared) if answers else None)


def _rest_of(row: Mapping[str, Any], said: ParsedRow) -> str | None:
    """What a row says besides its conversation, as JSON; "" for nothing, None where it cannot be written down."""
    texts = {said.text, said.reasoning, *(message.content for message in said.messages)} - {""}
    rest = {name: value for name, value in row.items() if name not in said.columns and not _is_said(name, value, texts)}
    if not rest:
        return ""
    try:
        return msgspec.json.encode(rest, enc_hook=str).decode()
    except (UnicodeEncodeError, OverflowError, RecursionError, TypeError, ValueError):
        return None


def _is_said(column: str, value: Any, texts: Set[str]) -> bool:
    """Is it a text of the conversation in a column that holds one, or its turns, each of them no more than who says what?"""
    if isinstance(value, str):
        return column in TEXT_COLUMNS and value in texts
    if column not in _TURN_COLUMNS or not isinstance(value, list) or not value:
        return False
    for turn in value:
        if not isinstance(turn, dict) or len(turn) != _NAME_AND_TEXT:
            return False
        text = turn.get("content", turn.get("value"))
        if not (isinstance(turn.get("role", turn.get("from")), str) and isinstance(text, str) and text in texts):
            return False
    return True


def corpus_digest(files: Sequence[RowFile], root: Path) -> str:
    """What stands for the bytes of all files that are read, and for their names within the corpus. Raises OSError."""
    hasher = blake3()
    for file, why in files:
        if not why:
            name = file.relative_to(root).as_posix() if file != root else file.suffix
            hasher.update(name.encode("utf-8", "surrogateescape") + b"\0" + digest_file(file).encode() + b"\0")
    return f"blake3:{hasher.hexdigest()}"


def _check(said: ParsedRow, stamps: StampSet, declared: Declared) -> None:
    """A declaration that the row contradicts is refused, as it is for a teacher."""
    if said.model and declared.origin not in (Origin.UNKNOWN, Origin.TEACHER, Origin.OWN_MODEL):
        raise TeacherContradiction(
            f"A row says that {said.model} wrote it, but {declared.origin} was declared.",
            next_step="Leave out --origin: what the rows say of themselves counts.",
        )
    if declared.channel in (Channel.UNKNOWN, Channel.PERSONAL):
        return
    named = next((stamp.channel for stamp in stamps.stamps if stamp.provider), None)
    if named is not None and named not in (declared.channel, Channel.UNKNOWN):
        raise TeacherContradiction(
            f"A row says that it came through {said.via} ({named}), but {declared.channel} was declared.",
            next_step="Leave out --channel: what the rows say of themselves counts.",
        )
