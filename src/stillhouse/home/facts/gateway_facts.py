"""Entries about the gateway: its keys, and every call through it."""

import msgspec

from stillhouse.conversations.requests import request_mark
from stillhouse.home.facts.declarations import Fact, StampSetId, Table
from stillhouse.nouns import GatewayKey, Outcome


class KeyIssued(Fact, frozen=True, tag="key-issued"):
    """A client may use the gateway with this key."""

    key: GatewayKey

    tables = (Table("gateway_keys", indexes=("key",), columns={"key": "key.id", "issued": "key"}),)


class KeyRevoked(Fact, frozen=True, tag="key-revoked"):
    """A key was revoked."""

    key: str
    reason: str

    tables = (Table("key_revocations", indexes=("key",)),)


def _mark_of_question(call: "CallReceived") -> str:
    return "" if call.base64 else request_mark(call.body)


class CallReceived(Fact, frozen=True, tag="call-received"):
    """A call came to the gateway and is about to be forwarded, with these headers besides the managed ones.

    ``body`` is text, or base64 where it is not UTF-8. ``digest`` is of all by which two calls are the same.
    """

    call: str
    key: str
    teacher: str
    path: str
    purpose: str
    stamps: StampSetId
    body: str
    base64: bool = False
    idempotency: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    digest: str = ""

    tables = (
        Table(
            "calls",
            indexes=("call", "key", "idempotency"),
            columns={"request": "digest", "question": _mark_of_question},
            without=("body", "base64", "headers"),
        ),
    )


class ChunkReceived(Fact, frozen=True, tag="chunk-received"):
    """A piece of a call's answer came from the teacher, and is about to be forwarded."""

    call: str
    data: str
    base64: bool = False

    tables = ()  # the log keeps the pieces; what they say together is in the answer


def _body_to_repeat(fact: "CallReturned") -> str:
    """Needed again only where the same call may come twice; the log has all of them."""
    return msgspec.json.encode([fact.body, fact.base64]).decode() if fact.idempotency else ""


class CallReturned(Fact, frozen=True, tag="call-returned"):
    """A call through the gateway is over. ``body`` is empty where it came in pieces. ``redacted`` counts echoed keys."""

    call: str
    status: int
    outcome: Outcome
    reason: str
    kind: str
    body: str
    base64: bool = False
    redacted: int = 0
    idempotency: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)

    tables = (
        Table(
            "returns",
            indexes=("call",),
            columns={"body": _body_to_repeat},
            without=("base64", "idempotency", "headers"),
        ),
    )


class SessionJudged(Fact, frozen=True, tag="session-judged"):
    """Somebody, or a test, says how a session ended. ``call`` is the last one of its main line then, or any call of it where no
    ``session`` is named (a client knows its calls); ``verdict`` is "passed", "failed" or empty; ``reward`` a decimal number as
    text, or empty. What is said later counts.
    """

    session: str
    call: str
    verdict: str
    reward: str = ""
    why: str = ""

    tables = (Table("session_outcomes", indexes=("session",)),)
