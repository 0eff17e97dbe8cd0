"""Sessions of agents, read from the calls that the log has of the gateway: each request and answer whole, as turns.

The log is read once, in the order of time, and what a session shares with an earlier call is held once. A call that cannot be
read is named with its reason, and costs no other.
"""

import base64
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from stillhouse.clock import now
from stillhouse.conversations.answer_turns import Api, answered, api_of, turn_of_body, turn_of_stream
from stillhouse.conversations.client_names import client_of
from stillhouse.conversations.formats.format import CannotRead
from stillhouse.conversations.histories import Histories
from stillhouse.conversations.record import Conversation, Reasoning, Refusal, Result, Role, Text, Turn
from stillhouse.conversations.sessions import Assembly, Exchange, Session
from stillhouse.errors import UnknownName, UsageError
from stillhouse.home import facts
from stillhouse.home.ledger import gateway_queries
from stillhouse.home.ledger.gateway_queries import SessionOutcome
from stillhouse.home.open_home import Home
from stillhouse.nouns import Outcome
from stillhouse.vault.files import storage_errors

_READ = (b'{"fact":"call-received"', b'{"fact":"call-returned"', b'{"fact":"chunk-received"')
_NOT_ASKED = (Outcome.NOT_SENT, Outcome.REFUSED)


class ProjectSession(NamedTuple):
    """A session, the project and the gateway key that its calls were made with, and how it ended, if somebody said so."""

    session: Session
    project: str
    key: str = ""
    outcome: SessionOutcome | None = None


class FoundSessions(NamedTuple):
    """All sessions; how many calls are in none, by reason; and how many are in one without an answer that could be read."""

    sessions: list[ProjectSession]
    left_out: Counter[str]
    unanswered: int


class _Open(NamedTuple):
    received: facts.CallReceived
    pieces: list[bytes]


def find_sessions(home: Home, project: str = "") -> FoundSessions:
    """The sessions of a project's calls, or of all; oldest first."""
    projects = {key.id: key.project for key in gateway_queries.gateway_keys(home.ledger)}
    assembly, histories, left_out, calls = Assembly(), Histories(), Counter[str](), dict[str, _Open]()
    for fact in _facts(home):
        if isinstance(fact, facts.CallReceived):
            if project in ("", projects.get(fact.key)):
                calls.setdefault(fact.call, _Open(fact, []))
        elif isinstance(fact, facts.ChunkReceived):
            if fact.call in calls:
                calls[fact.call].pieces.append(_bytes(fact.data, is_base64=fact.base64))
        elif fact.call in calls:
            one = calls.pop(fact.call)
            reason = _take(assembly, histories, one, fact)
            left_out.update([reason] if reason else [])
    left_out.update({"it was not seen to end": len(calls)} if calls else {})
    outcomes = gateway_queries.session_outcomes(home.ledger)
    found = []
    for group, session in assembly.sessions_by_group():
        outcome = outcomes.of(session.id, (call for line in session.lines for call in line.calls))
        found.append(ProjectSession(session, projects.get(group, ""), group, outcome))
    return FoundSessions(found, left_out, assembly.unanswered)


def session_of(found: FoundSessions, name: str) -> ProjectSession:
    """The session with a name, or the only one whose name begins so. Raises UnknownName."""
    same = [one for one in found.sessions if one.session.id == name] or [
        one for one in found.sessions if one.session.id.startswith(name)
    ]
    if len(same) != 1:
        what = "Several sessions begin with" if same else "There is no session"
        raise UnknownName(f"{what} {name!r}.", next_step="`stillhouse session list` shows them.")
    return same[0]


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a file of outcomes."""

    session: str
    outcome: Literal["passed", "failed", ""] = ""
    reward: float | None = None
    why: str = ""


def judge(home: Home, judgements: Sequence[Judgement]) -> list[str]:
    """Write down how sessions ended; the names of those that there are none of, of which nothing is written."""
    found = find_sessions(home)
    written, unknown = list[facts.SessionJudged](), list[str]()
    for one in judgements:
        try:
            session = session_of(found, one.session).session
        except UnknownName:
            unknown.append(one.session)
            continue
        reward = "" if one.reward is None else repr(one.reward)
        at, by, call = now(), home.recorder.by, session.lines[0].calls[-1]
        said = facts.SessionJudged(
            at=at, by=by, session=session.id, call=call, verdict=one.outcome, reward=reward, why=one.why
        )  # fmt: skip
        written.append(said)
    if written:
        home.recorder.record(*written)
        home.recorder.refresh()
    return unknown


def read_judgements(path: Path) -> list[Judgement]:
    """The lines of a file of outcomes. Raises UsageError for one that is none, by its number."""
    found = []
    with storage_errors(f"{path} could not be read"), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    found.append(msgspec.json.decode(line, type=Judgement))
                except msgspec.MsgspecError as failure:
                    raise UsageError(
                        f"{path}, line {number}: {failure}.",
                        next_step='A line is {"session": "...", "outcome": "passed" or "failed", "reward": 1.0, "why": "..."}.',
                    ) from failure
    return found


def _take(assembly: Assembly, histories: Histories, one: _Open, returned: facts.CallReturned) -> str:
    """Add a call to its session. Why it is in none; "" where it is."""
    received = one.received
    api = api_of(received.path)
    if api is None:
        return "it asked no model for words"
    if returned.outcome in _NOT_ASKED:
        return f"it was {returned.outcome}" if returned.outcome is Outcome.NOT_SENT else "the teacher refused it"
    try:
        asked, about = histories.read(api, _bytes(received.body, is_base64=received.base64))
    except CannotRead as failure:
        return f"its request: {failure}"
    answer = _answer(api, one, returned)
    client = client_of(received.headers, about, answer.key if answer is not None else "")
    turn = answered(answer, f"call:{received.call}", received.stamps, returned.at) if answer is not None else None
    try:
        assembly.take(Exchange(received.call, asked, turn, client, received.key))
    except UnicodeEncodeError:
        return "its text holds half of a surrogate pair"
    return ""


def _answer(api: Api, one: _Open, returned: facts.CallReturned) -> Turn | None:
    """The answer's turn, with its id at the server as its key; None where it says nothing that can be read."""
    try:
        if one.pieces:
            return turn_of_stream(api, one.pieces)
        return turn_of_body(api, _bytes(returned.body, is_base64=returned.base64))
    except CannotRead:
        return None


def _bytes(data: str, *, is_base64: bool) -> bytes:
    return base64.b64decode(data) if is_base64 else data.encode("utf-8", "surrogatepass")


def _facts(home: Home) -> Iterator[facts.CallReceived | facts.ChunkReceived | facts.CallReturned]:
    """What the log has of calls; of several writers in the order of time, of each in its own."""
    return heapq.merge(*(_facts_of(home, writer) for writer in home.log.writers()), key=lambda fact: fact.at)


def _facts_of(home: Home, writer: str) -> Iterator[facts.CallReceived | facts.ChunkReceived | facts.CallReturned]:
    for entry in home.log.read(writer):
        if entry.payload.startswith(_READ):
            fact = facts.decode(entry.payload)
            if isinstance(fact, facts.CallReceived | facts.ChunkReceived | facts.CallReturned):
                yield fact


def as_text(conversation: Conversation) -> str:
    """A conversation for a reader: who says what, one after the other."""
    blocks = []
    for turn in conversation.turns:
        said = "\n".join(filter(None, map(_told, turn.parts)))
        about = ", ".join(filter(None, (turn.model, turn.finish if turn.finish != "stop" else "", turn.time)))
        heading = f"--- {turn.role}{f' ({about})' if about else ''}"
        blocks.append(f"{heading}\n{said}")
    return "\n\n".join(blocks)


def _told(part: object) -> str:
    if isinstance(part, Text | Refusal):
        return part.text
    if isinstance(part, Reasoning):
        thought = part.text or part.summary
        return f"[thinks] {thought}" if thought else "[thinks: encrypted]"
    if isinstance(part, Result):
        said = "\n".join(filter(None, map(_told, part.parts)))
        return f"[{'error' if part.is_error else 'result'} of {part.call or 'a call'}]\n{said}"
    name, kind = getattr(part, "name", ""), getattr(part, "kind", "")
    arguments = getattr(part, "arguments", None)
    return f"[calls {name} {arguments}]" if arguments is not None else f"[{kind}]"


def matches(found: FoundSessions, text: str) -> Iterator[tuple[str, str, int, str]]:
    """Where a text stands, whatever its case: session, line, turn, and the words around it."""
    wanted = text.casefold()
    for one in found.sessions:
        for line in one.session.lines:
            for place, turn in enumerate(line.conversation.turns):
                if turn.role is Role.SYSTEM or place < line.conversation.fork:
                    continue
                said = "\n".join(filter(None, map(_told, turn.parts)))
                start = said.casefold().find(wanted)
                if start >= 0:
                    around = " ".join(said[max(0, start - 40) : start + len(text) + 40].split())
                    yield one.session.id, line.conversation.id, place, around
