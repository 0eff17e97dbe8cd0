"""What workers do with the lines of a corpus: parse, understand, mark and digest them. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from stillhouse.conversations.finishes import incomplete, is_usable
from stillhouse.conversations.prompts import prompt_digest
from stillhouse.conversations.record import Conversation, Outcome, Role, Turn, asked_digest, said_digest, why_no_row
from stillhouse.conversations.redaction import Redaction, Secrets
from stillhouse.conversations.row_turns import last_answer, row_turns
from stillhouse.datasets.conversation_rows import conversation_candidate
from stillhouse.datasets.corpora.conversation_shapes import with_conversation
from stillhouse.datasets.corpora.corpus_reading import CorpusLine, Read, Reading, Unread
from stillhouse.datasets.corpora.row_shapes import ParsedRow
from stillhouse.datasets.distinct import same_text
from stillhouse.datasets.filter import Candidate, content_of
from stillhouse.datasets.row_marks import MarkedRow, mark_row
from stillhouse.nouns import Task, Verdict, VerdictStatus
from stillhouse.permission.stamp_sets import stamp_set

UNJUDGED = Verdict(VerdictStatus.NOT_JUDGED, "it was imported")


class ReadRow(NamedTuple):
    """A row as it is understood, its marks, the digests of what it asks and of all its content, what it has in common with rows
    that ask and answer the same, and why no row can be formed of it ("" where it can). ``ends`` says why it ends before its
    conversation does, ``redacted`` which kinds of secrets it had.
    """

    read: Read
    marks: MarkedRow
    prompt: str
    content: str
    same_as: bytes
    incomplete: str
    ends: str = ""
    redacted: tuple[str, ...] = ()


class ReadBatch(NamedTuple):
    """The rows of some lines, in order, of how many lines they are, and how much text."""

    rows: list[ReadRow | Unread]
    lines: int
    text: int


class RowReader(NamedTuple):
    """Reads lines, in one way; ``keep`` are the kinds of incomplete answers that are kept on purpose."""

    reading: Reading
    keep: tuple[str, ...] = ()
    secrets: Secrets = Secrets.KEEP

    def read(self, lines: Sequence[CorpusLine]) -> ReadBatch:
        """The rows of some lines. Raises TeacherContradiction."""
        rows: list[ReadRow | Unread] = []
        text = 0
        for line in lines:
            main: bool | None = None
            for one in self.reading.read(line):
                if isinstance(one, Unread):
                    rows.append(one)
                    continue
                read = _alone(one) if main is False else one
                said = read.said
                text += len(said.text) + len(read.rest) + sum(len(turn.content) for turn in said.messages)
                made = list(self._without_secrets(read) if self.secrets is not Secrets.KEEP else self._rows(read))
                main = any(isinstance(row, ReadRow) for row in made) if main is None else main
                rows += made
        return ReadBatch(rows, len(lines), text)

    def before_denied(self, row: ReadRow, denied: Callable[[int], str]) -> ReadRow | None:
        """A conversation's row up to the last answer before its first denied one; None where it denies all, or nothing.

        ``denied`` says why a stamp set is denied. An answer that is denied as a part of the whole alone denies the whole.
        """
        why = [denied(stamps.id) for stamps in row.read.answers]
        first = next((place for place, reason in enumerate(why) if reason), 0)
        said = row.read.said.conversation
        if not first or said is None:
            return None
        places = [place for place, turn in enumerate(said.turns) if turn.role is Role.ASSISTANT]
        shorter = msgspec.structs.replace(said, turns=said.turns[: places[first - 1] + 1])
        held = row_turns(shorter, self.keep).conversation  # it may end now with an answer that is no whole one
        if last_answer(held) < 0 or len(held.turns) <= held.fork:
            return None
        return self._row(_holding(row.read, held))._replace(ends=why[first])

    def _without_secrets(self, read: Read) -> Iterator[ReadRow | Unread]:
        """The rows of what was read, after its secrets were taken out of it; or why it is left out."""
        said, redaction = read.said, Redaction()
        made = said._replace(
            messages=redaction.messages(said.messages), text=redaction.text(said.text),
            reasoning=redaction.text(said.reasoning), id=redaction.text(said.id),
            outcome=said.outcome and msgspec.structs.replace(said.outcome, why=redaction.text(said.outcome.why)),
            conversation=said.conversation and redaction.conversation(said.conversation),
        )  # fmt: skip
        rest, kinds = redaction.text(read.rest), tuple(sorted(set(redaction.kinds)))
        if kinds and self.secrets is Secrets.DROP:
            yield self.reading.unread_at(read.path, read.number, f"it holds a secret ({', '.join(kinds)})")
            return
        for row in self._rows(read._replace(said=made, rest=rest)):
            yield row._replace(redacted=kinds) if isinstance(row, ReadRow) else row

    def _rows(self, read: Read) -> Iterator[ReadRow | Unread]:
        said = read.said.conversation
        if said is None:
            yield self._row(read)
            return
        whole = msgspec.structs.replace(said, turns=tuple(_stamped(said.turns, read)))
        held, ends = row_turns(whole, self.keep)
        reason = why_no_row(held) if last_answer(held) >= 0 else ends or why_no_row(whole)
        if reason:
            yield self.reading.unread_at(read.path, read.number, reason)
        elif len(held.turns) <= held.fork:
            yield self.reading.unread_at(read.path, read.number, f"nothing of its own but what is not held: {ends}")
        else:
            yield self._row(_holding(read, held))._replace(ends=ends)

    def _row(self, read: Read) -> ReadRow:
        said, why = read.said, ""
        candidate = imported_candidate(said, "", "", 0)
        if said.conversation is None and not is_usable(said.text, said.finish, self.keep):
            why = f"{incomplete(said.text, said.finish)}: it ended with {said.finish!r}"
        prompt = asked_of(candidate)
        return ReadRow(read, mark_row(said), prompt, content_of(candidate), same_as(candidate, prompt), why)


def asked_of(candidate: Candidate) -> str:
    """The digest of what a candidate answers."""
    said = candidate.conversation
    if said is None:
        return prompt_digest(candidate.task.messages)
    return asked_digest(Conversation(said.turns[: last_answer(said)], said.tools))


def same_as(candidate: Candidate, prompt: str) -> bytes:
    """Equal for imported rows that ask and answer the same; ``prompt`` is the digest of what it answers."""
    said = candidate.conversation
    return same_text(prompt, candidate.text if said is None else said_digest(said.turns[last_answer(said)]))


def _alone(read: Read) -> Read:
    """A fork whose main line is no row: what they share counts here."""
    said = read.said.conversation
    if said is None or not said.fork:
        return read
    return read._replace(said=read.said._replace(conversation=msgspec.structs.replace(said, fork=0)))


def _holding(read: Read, held: Conversation) -> Read:
    """A row of a conversation that may be shorter now: its stamps are those of what is left."""
    sets = {stamps.id: stamps for stamps in read.answers}
    answers = tuple(sets[turn.stamps] for turn in held.turns if turn.role is Role.ASSISTANT)
    stamps = read.stamps
    if answers != read.answers:
        given = read.inputs.stamps if read.inputs is not None else ()
        stamps = stamp_set([*given, *(stamp for one in answers for stamp in one.stamps)])
    return read._replace(said=with_conversation(read.said, held), answers=answers, stamps=stamps)


def _stamped(turns: Sequence[Turn], read: Read) -> Iterator[Turn]:
    """Turns with the stamps that are told of them."""
    answers = iter(read.answers)
    given = read.inputs.id if read.inputs is not None else 0
    for turn in turns:
        stamps = next(answers).id if turn.role is Role.ASSISTANT else given
        yield msgspec.structs.replace(turn, stamps=stamps)


def judged(outcome: Outcome | None) -> Verdict:
    """What is said of how a conversation ended, as a verdict."""
    if outcome is None or outcome.passed is None:
        return UNJUDGED
    said = "the corpus says that it passed" if outcome.passed else "the corpus says that it failed"
    return Verdict(VerdictStatus.PASSED if outcome.passed else VerdictStatus.FAILED, outcome.why or said)


def imported_candidate(said: ParsedRow, key: str, task: str, stamps: int) -> Candidate:
    """An imported row as a candidate of its dataset."""
    verdict, tokens = judged(said.outcome), said.usage.completion_tokens
    if said.conversation is not None:
        return conversation_candidate(key, task, said.conversation, stamps, verdict, tokens)
    return Candidate(
        key, Task(id=task, messages=said.messages), 0, said.text, "", said.finish, stamps, verdict, said.reasoning, tokens
    )  # fmt: skip
