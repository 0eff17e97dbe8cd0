"""Calls as sessions: what agents asked and were answered, put together by what was said. Pure.

A request repeats the history of its conversation, so a call goes on from the call whose request and answer its own begins with.
Sessions are trees: an answer that was asked for again, an edited question, a second try are forks of one line. What a client says
(its session, the answer that it goes on from) is used where nothing was repeated, and to tell the lines of one session apart: the
main one, those of sub-agents, what went on from a summary, and calls beside them (titles, counts, summaries).

Calls are taken in the order in which they were asked. The work grows with what is new in a request: of what was said before, only
digests are looked at.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec
from blake3 import blake3

from stillhouse.canon import raw_digest
from stillhouse.conversations.client_names import Client
from stillhouse.conversations.record import Call, Conversation, Role, Tool, Turn, said_digest, text_of

_SYSTEM = (Role.SYSTEM, Role.DEVELOPER)
# A text that long is not repeated by chance.
_LONG = 80


class Exchange(NamedTuple):
    """One call: what was asked, and the answer's turn, which has the call's key (None where there is no answer); ``group`` is
    whose calls can be one session.
    """

    call: str
    asked: Conversation
    answer: Turn | None
    client: Client = Client()
    group: str = ""


class LineKind(StrEnum):
    """What a line is to its session."""

    MAIN = "main"
    FORK = "fork"
    SUB_AGENT = "sub-agent"
    SUMMARY = "goes on from a summary"
    SIDE = "side call"
    OTHER = "other"


class Line(NamedTuple):
    """One conversation of a session: its calls in order, and all that was said. ``unmatched`` answers in its histories were
    given by no call that is known here.
    """

    kind: LineKind
    calls: tuple[str, ...]
    conversation: Conversation
    unmatched: int


class Session(NamedTuple):
    """Lines, the main one first."""

    id: str
    lines: tuple[Line, ...]


class _Node:
    """A call in its tree: all that was said until its answer, and the call whose answer it goes on from (none at the start of a
    line); it shares its first ``shared`` turns with what was said before.
    """

    def __init__(
        self,
        exchange: Exchange,
        parent: "_Node | None",
        root: "_Node | None",
        shared: int,
        turns: tuple[Turn, ...],
        end: bytes,
    ) -> None:
        self.exchange, self.parent, self.shared, self.turns, self.end = exchange, parent, shared, turns, end
        self.root: _Node = root or self
        self.goes_on = False
        if parent is not None:
            parent.goes_on = True


class Assembly:
    """Takes calls, and gives sessions."""

    def __init__(self) -> None:
        self._nodes: list[_Node] = []
        self.unanswered = 0
        # Of all that was said so far in a group: the node that said it first, and how many turns it is.
        self._said: dict[tuple[str, str, bytes], tuple[_Node, int]] = {}
        # Of requests without an answer in them: the node that asked first.
        self._asked: dict[tuple[str, str, bytes], tuple[_Node, int]] = {}
        self._by_response: dict[tuple[str, str], _Node] = {}
        self._by_words: dict[tuple[str, bytes], _Node] = {}
        # Of turns that requests share, what they say: by their identity, while they are held here.
        self._digests: dict[int, tuple[Turn, bytes]] = {}

    def take(self, exchange: Exchange) -> None:
        """One call; those that it goes on from came before."""
        group, said = exchange.group, exchange.asked.turns
        before = self._by_response.get((group, exchange.client.goes_on_from)) if exchange.client.goes_on_from else None
        if before is not None and said and before.turns and self._digest(said[0]) == self._digest(before.turns[0]):
            said = said[said[0].role in _SYSTEM :]  # instructions come with every request, whatever it goes on from
        digests = self._prefixes(before.end if before is not None else bytes(32), said)
        known: _Node | None
        if before is not None:
            known, shared, new = before, len(before.turns), said
        else:
            known, shared = self._begins_with(exchange, digests, said)
            new = said[shared:]
        new, seen = self._known_answers(group, new)
        root = known.root if known is not None else self._same_session(exchange, seen)
        turns = (known.turns[:shared] if known is not None else ()) + new
        parent = known
        while parent is not None and len(parent.turns) > shared:
            parent = parent.parent
        end = digests[-1] if digests else bytes(32)
        if exchange.answer is not None:
            turns, (end,) = (*turns, exchange.answer), self._prefixes(end, [exchange.answer])
        # What was asked is in the turns: those of an earlier call are held once.
        exchange = exchange._replace(asked=Conversation((), exchange.asked.tools))
        node = _Node(exchange, parent, root, shared, turns, end)
        self._nodes.append(node)
        self.unanswered += exchange.answer is None
        self._remember(group, node, digests)

    def _digest(self, turn: Turn) -> bytes:
        known = self._digests.get(id(turn))
        if known is None:
            known = self._digests[id(turn)] = (turn, raw_digest(said_digest(turn)))
        return known[1]

    def _prefixes(self, before: bytes, turns: Iterable[Turn]) -> list[bytes]:
        found = []
        for turn in turns:
            before = blake3(before + self._digest(turn)).digest()
            found.append(before)
        return found

    def _begins_with(
        self, exchange: Exchange, digests: Sequence[bytes], said: Sequence[Turn]
    ) -> tuple[_Node | None, int]:
        """The node with the longest history that this begins with. Before an answer, only the same request is the same history:
        many sessions begin with the same texts, and differ in what they ask then.
        """
        answered = _first_answer(said)
        for length in range(len(said), 0, -1):
            place = self._place(exchange, digests[length - 1], is_answered=length > answered)
            known = self._said.get(place) if length > answered else self._asked.get(place)
            if known is not None and (length > answered or length == len(said)):
                return known
        return None, 0

    def _known_answers(self, group: str, turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], list[_Node]]:
        """Turns, with answers that calls gave as they gave them, though what stood before them is not the same any more."""
        found, seen = list(turns), list[_Node]()
        for place, turn in enumerate(turns):
            node = self._by_words.get((group, self._digest(turn))) if turn.role is Role.ASSISTANT else None
            if node is not None and node.exchange.answer is not None:
                found[place] = node.exchange.answer
                seen.append(node)
        return tuple(found), seen

    def _same_session(self, exchange: Exchange, seen: Sequence[_Node]) -> _Node | None:
        """The tree of the last answer that is repeated, where the client does not say that it is another session's."""
        named = exchange.client.session
        return next((node.root for node in reversed(seen) if named in ("", node.root.exchange.client.session)), None)

    def _place(self, exchange: Exchange, digest: bytes, *, is_answered: bool) -> tuple[str, str, bytes]:
        """Where a history is remembered: sessions may begin with the same words; until an answer, names tell them apart."""
        return exchange.group, "" if is_answered else exchange.client.session, digest

    def _remember(self, group: str, node: _Node, digests: Sequence[bytes]) -> None:
        answer = node.exchange.answer
        before = len(node.turns) - (answer is not None) - len(digests)
        answered = _first_answer(node.turns)
        for number, digest in enumerate(digests, start=before + 1):
            if number > answered:
                self._said.setdefault(self._place(node.exchange, digest, is_answered=True), (node, number))
        if digests and before + len(digests) <= answered:
            asked = self._place(node.exchange, digests[-1], is_answered=False)
            self._asked.setdefault(asked, (node, before + len(digests)))
        if answer is not None:
            self._said.setdefault(self._place(node.exchange, node.end, is_answered=True), (node, len(node.turns)))
            self._by_words[(group, self._digest(answer))] = node
        if node.exchange.client.response:
            self._by_response.setdefault((group, node.exchange.client.response), node)

    def sessions(self) -> list[Session]:
        """All of them, in the order of their first calls."""
        return [session for _, session in self.sessions_by_group()]

    def sessions_by_group(self) -> list[tuple[str, Session]]:
        """The same, each with its group."""
        together: dict[tuple[str, str], list[_Node]] = {}
        for node in self._nodes:
            if node.root is node:
                named = node.exchange.client.session
                together.setdefault((node.exchange.group, named or f"call {node.exchange.call}"), []).append(node)
        below: dict[int, list[_Node]] = {}
        for node in self._nodes:
            below.setdefault(id(node.root), []).append(node)
        return [(group, _session(roots, [below[id(root)] for root in roots])) for (group, _), roots in together.items()]


def _first_answer(turns: Sequence[Turn]) -> int:
    return next((place for place, turn in enumerate(turns) if turn.role is Role.ASSISTANT), len(turns))


def assemble(exchanges: Iterable[Exchange]) -> list[Session]:
    """The sessions of some calls, which are in the order in which they were asked."""
    assembly = Assembly()
    for exchange in exchanges:
        assembly.take(exchange)
    return assembly.sessions()


def _session(roots: Sequence[_Node], trees: Sequence[list[_Node]]) -> Session:
    main = max(range(len(roots)), key=lambda place: (len(trees[place]), len(_last(trees[place]).turns), -place))
    first = roots[main].exchange
    name = first.client.session or first.call
    lines = _lines(trees[main], LineKind.MAIN, name, "")
    for place, tree in enumerate(trees):
        if place != main:
            lines += _lines(tree, _kind(tree, trees[main]), f"{name}/{tree[0].exchange.call}", name)
    return Session(name, tuple(lines))


def _last(tree: Sequence[_Node]) -> _Node:
    """The end of a tree's main line: of the calls that nothing goes on from, the one with the longest history, last of equals."""
    ends = [node for node in tree if not node.goes_on]
    return max(enumerate(ends), key=lambda one: (len(one[1].turns), one[0]))[1]


def _lines(tree: Sequence[_Node], kind: LineKind, name: str, parent: str) -> list[Line]:
    main = _last(tree)
    found = [_line(main, kind, name, parent, 0)]
    trunk = set(map(id, _path(main)))
    for node in tree:
        if not node.goes_on and node is not main:
            fork = next(one.shared for one in _path(node) if id(one) not in trunk)
            found.append(_line(node, LineKind.FORK, f"{name}/{node.exchange.call}", name, fork))
    return found


def _line(end: _Node, kind: LineKind, name: str, parent: str, fork: int) -> Line:
    path = _path(end)
    unmatched = sum(1 for turn in end.turns if turn.role is Role.ASSISTANT and not turn.key)
    conversation = Conversation(end.turns, _tools(path), None, name, parent, fork)
    return Line(kind, tuple(node.exchange.call for node in path), conversation, unmatched)


def _path(node: _Node) -> list[_Node]:
    path = [node]
    while path[-1].parent is not None:
        path.append(path[-1].parent)
    return path[::-1]


def _tools(path: Sequence[_Node]) -> tuple[Tool, ...]:
    """All tools that were ever there, as they were defined last: clients add some while a session goes on."""
    tools: dict[str, Tool] = {}
    for node in path:
        tools |= {f"{tool.kind} {tool.name}": tool for tool in node.exchange.asked.tools}
    return tuple(tools.values())


def _kind(tree: Sequence[_Node], main: Sequence[_Node]) -> LineKind:
    """What a line of its own is to the main one."""
    first = [text_of(turn) for turn in tree[0].turns if turn.role is Role.USER][:1]
    asked = first[0].strip() if first else ""
    for node in main:
        answer = node.exchange.answer
        if answer is None:
            continue
        text = text_of(answer).strip()
        if len(text) >= _LONG and text in asked:
            return LineKind.SUMMARY
        if asked and any(_quotes(part, asked) for part in answer.parts if isinstance(part, Call)):
            return LineKind.SUB_AGENT
    alone = len(tree) == 1 and not tree[0].exchange.asked.tools
    return LineKind.SIDE if alone else LineKind.OTHER


def _quotes(call: Call, text: str) -> bool:
    """Does a call hand this text on, as the task of a sub-agent?"""
    try:
        said = msgspec.json.decode(call.arguments)
    except (ValueError, RecursionError):
        return False
    values = said.values() if isinstance(said, dict) else ()
    return any(isinstance(value, str) and value.strip() and text.endswith(value.strip()) for value in values)
