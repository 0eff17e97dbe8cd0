"""Every byte of a call, written down before anyone sees it: the request before it is sent, each piece before it is passed on.

Covered: whatever becomes of this process, the log holds the request, every piece that a client can have seen, and, if it was
seen, the end. A call without an end is *unsettled*: it stays charged. Not covered: what the teacher sent and a kill kept from
being read.
"""

import asyncio
import base64
import secrets
from collections.abc import Callable, Mapping
from decimal import Decimal

from stillhouse.canon import digest_bytes, digest_value
from stillhouse.clock import now
from stillhouse.conversations.answers import Answer
from stillhouse.home import facts
from stillhouse.home.plans.prices import cost, is_metered, usd
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import GatewayKey, Outcome
from stillhouse.teachers.client import FREE
from stillhouse.teachers.gateway.admission import Admitted, run_of
from stillhouse.vault.durability import Durability

_FREE_OUTCOMES = (Outcome.NOT_SENT,)


def new_call() -> str:
    """A name for a call."""
    return secrets.token_hex(12)


def as_text(data: bytes) -> tuple[str, bool]:
    """Bytes as a log entry can hold them: text where they are UTF-8, else base64; and which of the two."""
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError:
        return base64.b64encode(data).decode("ascii"), True


def as_bytes(text: str, is_base64: bool) -> bytes:
    """The bytes that were written down so."""
    return base64.b64decode(text) if is_base64 else text.encode()


class Journal:
    """Writes the facts of one call. Each method returns when they are as safe as the durability says."""

    def __init__(
        self, recorder: Recorder, durability: Durability, key: GatewayKey, admitted: Admitted, call: str, billed: bool
    ) -> None:
        self._recorder, self._power = recorder, durability is Durability.POWER
        self._key, self._admitted, self.call, self._billed = key, admitted, call, billed
        self.run = run_of(key.project)
        self._prompt = ""

    async def received(self, path: str, body: bytes, headers: Mapping[str, str], idempotency: str, digest: str) -> None:
        """The request, before it is sent. Raises StorageError: then it must not be."""
        text, is_base64 = as_text(body)
        self._prompt = digest_bytes(body)
        received = facts.CallReceived(
            at=now(), by=self._recorder.by, call=self.call, key=self._key.id, teacher=self._admitted.teacher.name, path=path,
            purpose=str(self._admitted.purpose), stamps=self._admitted.stamps.id, body=text, base64=is_base64,
            idempotency=idempotency, headers=dict(headers), digest=digest,
        )  # fmt: skip
        asked = facts.Asked(
            at=received.at, by=received.by, run=self.run, teacher=self._admitted.teacher.name, keys=(self.answer_key,),
            worst_case_usd=usd(self._admitted.worst), lease=self._admitted.lease,
        )  # fmt: skip
        await self._write(received, *([asked] if self._billed else []))

    async def chunk(self, data: bytes) -> None:
        """A piece of the answer, before it is passed on."""
        text, is_base64 = as_text(data)
        await self._write(
            facts.ChunkReceived(at=now(), by=self._recorder.by, call=self.call, data=text, base64=is_base64)
        )

    async def answered(self, end: "CallEnd", read: Answer, seconds: float) -> None:
        """The whole answer, before its last byte is passed on."""
        teacher, usage = self._admitted.teacher, read.usage
        counted = min(usage.prompt_tokens, usage.completion_tokens) >= 0
        price = (cost(teacher, usage) if counted else self._admitted.worst) if is_metered(teacher) else Decimal(0)
        answered = facts.Answered(
            at=now(), by=self._recorder.by, run=self.run, teacher=teacher.name, key=self.answer_key, task=self.call,
            prompt=self._prompt, sample=0, stamps=self._admitted.stamps.id, text=read.text, finish=read.finish, usage=usage,
            cost_usd=usd(price), seconds=round(seconds, 4), raw="", lease=self._admitted.lease,
        )  # fmt: skip
        await self._write(self._returned(end), *([answered] if self._billed else []))
        self._settle(price)

    async def failed(self, end: "CallEnd") -> None:
        """The end of a call that brought no whole answer."""
        status = end.meant or end.status
        free = end.outcome in _FREE_OUTCOMES or (end.outcome is Outcome.REFUSED and status in FREE)
        failure = facts.CallFailed(
            at=now(), by=self._recorder.by, run=self.run, teacher=self._admitted.teacher.name, key=self.answer_key,
            reason=end.reason or str(end.outcome), status=status, charged=not free, lease=self._admitted.lease,
        )  # fmt: skip
        await self._write(self._returned(end), *([failure] if self._billed else []))
        if free:
            self._settle(Decimal(0))
        elif self._admitted.budget is not None:
            self._admitted.budget.keep(self.call)

    @property
    def answer_key(self) -> str:
        """The key of the answer: every call through the gateway is a purchase of its own."""
        return digest_value(["gateway", self.call])

    def _settle(self, price: Decimal) -> None:
        if self._admitted.budget is not None:
            self._admitted.budget.settle(self.call, price)

    def _returned(self, end: "CallEnd") -> facts.CallReturned:
        text, is_base64 = as_text(end.body)
        return facts.CallReturned(
            at=now(), by=self._recorder.by, call=self.call, status=end.status, outcome=end.outcome, reason=end.reason,
            kind=end.kind, body=text, base64=is_base64, redacted=end.redacted, idempotency=end.idempotency,
            headers=end.headers,
        )  # fmt: skip

    async def _write(self, *entries: facts.Fact) -> None:
        """With power durability each write waits for the disk: in a thread, so that one fsync serves many calls."""
        if self._power:
            await _uncancelled(lambda: self._recorder.record(*entries))
        else:
            self._recorder.record(*entries)


async def _uncancelled(write: Callable[[], object]) -> None:
    """Run a write to its end, even where whoever waits for it is cancelled meanwhile."""
    pending = asyncio.ensure_future(asyncio.to_thread(write))
    try:
        await asyncio.shield(pending)
    except asyncio.CancelledError:
        await pending
        raise


class CallEnd:
    """How a call ended. ``body`` is empty where it came in pieces that are written down already.

    ``meant`` is the status that a body of another status means.
    """

    def __init__(
        self,
        outcome: Outcome,
        status: int = 0,
        reason: str = "",
        kind: str = "",
        body: bytes = b"",
        redacted: int = 0,
        idempotency: str = "",
    ) -> None:
        self.headers: dict[str, str] = {}
        self.meant = 0
        self.outcome, self.status, self.reason, self.kind = outcome, status, reason, kind
        self.body, self.redacted, self.idempotency = body, redacted, idempotency
