"""What workers do with the lines of a corpus: parse, understand, mark and digest them. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from stillhouse.conversations.finishes import incomplete, is_usable
from stillhouse.conversations.prompts import prompt_digest
from stillhouse.datasets.corpora.corpus_reading import CorpusLine, Read, Reading, Unread
from stillhouse.datasets.corpora.row_shapes import ParsedRow
from stillhouse.datasets.distinct import same_text
from stillhouse.datasets.filter import Candidate, content_of
from stillhouse.datasets.row_marks import MarkedRow, mark_row
from stillhouse.nouns import Task, Verdict, VerdictStatus

UNJUDGED = Verdict(VerdictStatus.NOT_JUDGED, "it was imported")


class ReadRow(NamedTuple):
    """A row as it is understood, its marks, the digests of what it asks and of all its content, what it has in common with rows
    that ask and answer the same, and why no row can be formed of it ("" where it can).
    """

    read: Read
    marks: MarkedRow
    prompt: str
    content: str
    same_as: bytes
    incomplete: str


class ReadBatch(NamedTuple):
    """The rows of some lines, in order, and how much text they are."""

    rows: list[ReadRow | Unread]
    text: int


class RowReader(NamedTuple):
    """Reads lines, in one way; ``keep`` are the kinds of incomplete answers that are kept on purpose."""

    reading: Reading
    keep: tuple[str, ...] = ()

    def read(self, lines: Sequence[CorpusLine]) -> ReadBatch:
        """The rows of some lines. Raises TeacherContradiction."""
        rows: list[ReadRow | Unread] = []
        text = 0
        for line in lines:
            read = self.reading.read(line)
            if isinstance(read, Unread):
                rows.append(read)
                continue
            said = read.said
            text += len(said.text) + len(read.rest) + sum(len(turn.content) for turn in said.messages)
            rows.append(self._row(read))
        return ReadBatch(rows, text)

    def _row(self, read: Read) -> ReadRow:
        said = read.said
        prompt, why = prompt_digest(said.messages), ""
        if not is_usable(said.text, said.finish, self.keep):
            why = f"{incomplete(said.text, said.finish)}: it ended with {said.finish!r}"
        content = content_of(imported_candidate(said, "", prompt, 0))
        return ReadRow(read, mark_row(said), prompt, content, same_text(prompt, said.text), why)


def imported_candidate(said: ParsedRow, key: str, task: str, stamps: int) -> Candidate:
    """An imported row as a candidate of its dataset."""
    return Candidate(
        key, Task(id=task, messages=said.messages), 0, said.text, "", said.finish, stamps, UNJUDGED, said.reasoning,
        said.usage.completion_tokens,
    )  # fmt: skip
