"""The rows of a project's sessions: each line of a session is one, with the stamps of every turn.

A turn that a model said carries the stamps of the answer that the log has; where no call gave it, nobody knows whose it is. What
models were given carries what is declared of the gateway key's inputs. A row carries the stamps of all its turns.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from blake3 import blake3

from stillhouse.conversations.record import Conversation, Role, Turn, encode, why_no_row
from stillhouse.conversations.record import Outcome as ConversationOutcome
from stillhouse.conversations.redaction import Secrets
from stillhouse.conversations.row_turns import as_text_row, last_answer, own_usage, row_turns
from stillhouse.conversations.sessions import Line, LineKind
from stillhouse.datasets.candidates import ROW_BYTES, Head, examining_code
from stillhouse.datasets.conversation_rows import conversation_candidate
from stillhouse.datasets.corpora.origins import inputs_under
from stillhouse.datasets.filter import Candidate, kind_of
from stillhouse.datasets.recognition import UNKNOWN
from stillhouse.datasets.secret_rows import redacted
from stillhouse.home.ledger import answer_queries, gateway_queries, origin_queries
from stillhouse.home.ledger.answer_queries import StoredAnswer
from stillhouse.home.open_home import Home
from stillhouse.nouns import StampSet, Task, Use, Verdict, VerdictStatus
from stillhouse.permission.decide import Door
from stillhouse.permission.stamp_sets import stamp_set
from stillhouse.runs.gateway_sessions import ProjectSession, find_sessions
from stillhouse.teachers.gateway.admission import run_of

_UNJUDGED = Verdict(VerdictStatus.NOT_JUDGED, "it was asked through the gateway")
_SIDE = "a call beside a session: a title, a count or a summary"
# What is said of how a session ended is said of these lines; a fork is a try that was given up.
_OF_OUTCOME = (LineKind.MAIN, LineKind.SUB_AGENT, LineKind.SUMMARY)


class GatherRequest(NamedTuple):
    """What is to be gathered: of which project, as which dataset, for which use; ``keep`` are kinds of incomplete answers that
    are kept on purpose, ``only_passed`` leaves out sessions of which nobody said that they passed.
    """

    project: str
    name: str
    use: Use
    keep: tuple[str, ...] = ()
    only_passed: bool = False
    secrets: Secrets = Secrets.REDACT


class SessionCandidates:
    """The lines of sessions as candidates, in the order of their first calls."""

    is_erasable = False

    def __init__(self, home: Home, request: GatherRequest) -> None:
        """Reads the log once. What becomes no row is counted by reason (``skipped``), and so are rows that do not hold all of
        their line (``shortened``), and rows with secrets, by their kinds (``redacted``).
        """
        self._home, self._request = home, request
        self.skipped: Counter[str] = Counter()
        self.shortened: Counter[str] = Counter()
        self.redacted: Counter[str] = Counter()
        self._sets = dict(origin_queries.stamp_sets(home.ledger))
        answers = answer_queries.answers_of_run(home.ledger, run_of(request.project)).values()
        self._answers: dict[str, StoredAnswer] = {answer.task: answer for answer in answers}
        self._inputs = {key.id: key.inputs for key in gateway_queries.gateway_keys(home.ledger)}
        self._reasons: dict[int, str] = {}
        self._candidates: list[Candidate] = []
        self.answers = len(self._answers)
        self.sessions = 0
        if self._answers:
            self._find()

    def __len__(self) -> int:
        return len(self._candidates)

    @property
    def keys(self) -> list[str]:
        """The keys of all rows."""
        return [one.key for one in self._candidates]

    @property
    def sets(self) -> list[StampSet]:
        """The stamp sets that rows and their turns carry; some may be new."""
        used = {one.stamps for one in self._candidates}
        used |= {
            turn.stamps
            for one in self._candidates
            if one.conversation
            for turn in one.conversation.turns
            if turn.stamps
        }
        return [self._sets[id] for id in sorted(used)]

    def heads(self) -> Iterator[Head]:
        """Every row's head."""
        code = examining_code()
        for place, one in enumerate(self._candidates):
            said = encode(one.conversation) if one.conversation is not None else b""
            own = one._replace(conversation=None)
            row = blake3(code + repr(own).encode("utf-8", "surrogatepass") + said).digest(ROW_BYTES)
            yield Head(place, row, one.task.id, one.sample, one.key, one.stamps, one.tokens, one.answers)

    def read(self, places: Sequence[int]) -> Iterator[Candidate]:
        """The rows at some places."""
        return (self._candidates[place] for place in places)

    def _find(self) -> None:
        found = find_sessions(self._home, self._request.project)
        self.skipped.update(found.left_out)
        for one in found.sessions:
            self.sessions += 1
            main = self._take(one, one.session.lines[0], 0)
            for line in one.session.lines[1:]:
                self._take(one, line, main)

    def _take(self, one: ProjectSession, line: Line, main: int) -> int:
        """Make the row of a line, which shares turns with the session's main one, of which ``main`` are in a row. How many turns
        the row has.
        """
        outcome = one.outcome if line.kind in _OF_OUTCOME else None
        if line.kind is LineKind.SIDE and len(one.session.lines) > 1:
            self.skipped[_SIDE] += 1
            return 0
        if self._request.only_passed and (outcome is None or outcome.verdict != "passed"):
            self.skipped["nobody said that its session passed"] += 1
            return 0
        given = self._given(one.key)
        said = line.conversation
        turns = tuple(self._stamped(turn, given) for turn in said.turns)
        told = None if outcome is None else ConversationOutcome(
            {"passed": True, "failed": False}.get(outcome.verdict), float(outcome.reward) if outcome.reward else None, outcome.why
        )  # fmt: skip
        fork = min(said.fork, main)
        if last_answer(msgspec.structs.replace(said, turns=turns[:fork])) < 0:
            fork = 0  # the question alone is shared: it was asked again
        whole = msgspec.structs.replace(said, turns=turns, outcome=told, fork=fork, parent=said.parent if fork else "")
        held, ends = row_turns(whole, self._request.keep, self._denied)
        if last_answer(held) < 0:  # all of it is denied: the funnel says so
            held, ends = row_turns(whole, self._request.keep)
        why = why_no_row(held) if last_answer(held) >= 0 else ends or why_no_row(whole)
        if not why and len(held.turns) <= held.fork:
            why = f"nothing of its own is left of a fork: {ends}"
        if why:
            self.skipped[kind_of(why)] += 1
            return 0
        self.shortened.update([kind_of(ends)] if ends else [])
        candidate = self._candidate(held, line)
        if self._request.secrets is Secrets.REDACT:
            candidate, kinds = redacted(candidate)
            self.redacted.update(set(kinds))
        self._candidates.append(candidate)
        return len(held.turns)

    def _given(self, key: str) -> StampSet | None:
        terms = self._inputs.get(key, ())
        return inputs_under(terms, "") if terms else None

    def _stamped(self, turn: Turn, given: StampSet | None) -> Turn:
        """A turn with the stamps that it carries."""
        if turn.role is not Role.ASSISTANT:
            known = given
        elif turn.key:
            answer = self._answers.get(turn.key.removeprefix("call:"))
            known = self._sets.get(answer.stamps if answer is not None else turn.stamps)
        else:
            known = _NOBODY_KNOWS
        if known is None:
            return turn
        self._sets.setdefault(known.id, known)
        return msgspec.structs.replace(turn, stamps=known.id)

    def _denied(self, turn: Turn) -> str:
        """Why a turn may not be used; "" where it may, or where nothing is declared of it."""
        if not turn.stamps:
            return ""
        if turn.stamps not in self._reasons:
            stamps = self._sets[turn.stamps].stamps
            decision = self._home.policy.check(Door.KEEP, stamps, self._request.use)
            self._reasons[turn.stamps] = "" if decision.allowed else f"denied: {decision.reason}"
        return self._reasons[turn.stamps]

    def _candidate(self, held: Conversation, line: Line) -> Candidate:
        last = held.turns[last_answer(held)]
        call = last.key.removeprefix("call:") or line.calls[-1]
        answer = self._answers.get(call)
        stamps = self._joined(held.turns)
        tokens = own_usage(held).completion_tokens
        key = answer.key if answer is not None else last.key
        verdict = _verdict(held.outcome)
        text = as_text_row(held)
        by = {turn.stamps for turn in held.turns if turn.role is Role.ASSISTANT}
        if text is None or len(by) > 1:
            return conversation_candidate(key, call, held, stamps, verdict, tokens)
        return Candidate(
            key, Task(id=call, messages=text.messages), 0, text.text, "", last.finish, stamps, verdict, text.reasoning, tokens
        )  # fmt: skip

    def _joined(self, turns: Sequence[Turn]) -> int:
        """The set of all that turns carry."""
        ids = {turn.stamps for turn in turns if turn.stamps}
        if len(ids) == 1:
            return ids.pop()
        joined = stamp_set(stamp for id in ids for stamp in self._sets[id].stamps)
        self._sets.setdefault(joined.id, joined)
        return joined.id


_NOBODY_KNOWS = stamp_set([UNKNOWN])


def _verdict(outcome: ConversationOutcome | None) -> Verdict:
    if outcome is None or (outcome.passed is None and outcome.reward is None):
        return _UNJUDGED
    reward = f"reward {outcome.reward:g}" if outcome.reward is not None else ""
    said = "; ".join(filter(None, (outcome.why, reward))) or "it was said of its session"
    statuses: Mapping[bool | None, VerdictStatus] = {True: VerdictStatus.PASSED, False: VerdictStatus.FAILED}
    return Verdict(statuses.get(outcome.passed, VerdictStatus.NOT_JUDGED), said)
