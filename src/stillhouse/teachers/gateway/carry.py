"""One call on its way: to the teacher and back, each piece written down before it passes.

Covered: answers and streams of any size within bounded memory; clients and teachers that are slow, stop, or close at any
moment; a log that cannot be written (nothing passes); an echoed managed key. Redirects are not followed, and no part of a
request but its body and query reaches the address that a teacher was registered with.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from stillhouse.errors import StillhouseError
from stillhouse.nouns import GatewayKey, Outcome, TeacherKind
from stillhouse.teachers.gateway.admission import Admission, Admitted, Refused
from stillhouse.teachers.gateway.counters import Counters
from stillhouse.teachers.gateway.dialects import Endpoint, Refusal, StreamReader, error_body
from stillhouse.teachers.gateway.journal import End, Journal
from stillhouse.teachers.gateway.keys import Keyring
from stillhouse.teachers.gateway.memory import Memory
from stillhouse.teachers.gateway.redact import Redactor
from stillhouse.teachers.http import LARGEST_ANSWER, Dialect, read_answer, unpack

# A client that takes nothing for so long is gone.
_WRITE_SECONDS = 60.0
IN_MEMORY = 512 << 20
_SENT_AT_ONCE = 64 << 10
PURPOSE_HEADER = "x-stillhouse-purpose"
_DROPPED_FROM_REQUESTS = frozenset(
    {
        "host", "connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
        "upgrade", "content-length", "authorization", "x-api-key", "accept-encoding", "cookie", "expect", "forwarded",
        "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", PURPOSE_HEADER,
    }
)  # fmt: skip
_DROPPED_FROM_ANSWERS = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
     "set-cookie", "alt-svc", "strict-transport-security", "server", "date"}
)  # fmt: skip
_Post = contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]
_COUNTED = {
    Outcome.ANSWERED: "answered_total",
    Outcome.REFUSED: "refused_by_teacher_total",
    Outcome.UPSTREAM_DIED: "upstream_died_total",
    Outcome.NOT_SENT: "upstream_died_total",
    Outcome.CANCELLED: "cancelled_total",
    Outcome.CUT: "cut_total",
}


class Carrier:
    """What all calls of a worker share. ``reload_keys`` is called where a key may have been revoked."""

    def __init__(
        self,
        admission: Admission,
        keyring: Keyring,
        dialects: Mapping[TeacherKind, Dialect],
        counters: Counters,
        reload_keys: Callable[[], Awaitable[None]],
    ) -> None:
        self._admission, self.keyring, self._dialects, self._counters = admission, keyring, dialects, counters
        self.reload_keys = reload_keys
        self.memory = Memory(IN_MEMORY)
        self.session: aiohttp.ClientSession | None = None
        self.draining = False

    def open(self, admitted: Admitted, endpoint: Endpoint, request: web.BaseRequest, body: bytes) -> "_Post":
        """The call to the teacher, as a context manager."""
        assert self.session is not None
        upstream = self._admission.upstream(admitted.teacher.name)
        dialect = self._dialects[endpoint.kind]
        headers: CIMultiDict[str] = CIMultiDict()
        named = {name.strip().lower() for name in request.headers.get("Connection", "").split(",")}
        for name, value in request.headers.items():
            if name.lower() not in _DROPPED_FROM_REQUESTS and name.lower() not in named:
                headers.add(name, value)
        for name, value in dialect.headers(upstream.secret).items():
            if name.lower() not in ("anthropic-version",) or name not in headers:
                headers[name] = value
        headers["Accept-Encoding"] = "identity"
        base = (admitted.teacher.base_url or dialect.default_base_url).rstrip("/")
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        url = URL(base + endpoint.upstream + query, encoded=True)
        return self.session.post(url, data=body, headers=headers, allow_redirects=False)

    def redactor(self, admitted: Admitted) -> Redactor:
        """What takes the managed key out of this teacher's answers."""
        return Redactor(self._admission.upstream(admitted.teacher.name).secret)

    def count(self, outcome: Outcome, size: int, redacted: int) -> None:
        """A call is over."""
        self._counters.add("in_flight", -1)
        self._counters.add(_COUNTED[outcome])
        self._counters.add("answer_bytes_total", size)
        if redacted:
            self._counters.add("redacted_total", redacted)

    def added(self, seconds: float) -> None:
        """A call took so much longer for passing through here."""
        self._counters.added(seconds)


class _ClientGone(Exception):
    """There is nobody to pass anything on to."""


class Carried:
    """One call that was admitted and written down, until its end is."""

    def __init__(
        self,
        carrier: "Carrier",
        request: web.BaseRequest,
        key: GatewayKey,
        endpoint: Endpoint,
        admitted: Admitted,
        journal: Journal,
        idempotency: str,
        started: float,
    ) -> None:
        self._carrier, self._request, self._key, self._endpoint = carrier, request, key, endpoint
        self._admitted, self._journal, self._idempotency, self._started = admitted, journal, idempotency, started
        self._redactor = carrier.redactor(admitted)
        self._waited = 0.0
        self._size = 0
        self._ended = False

    async def run(self, body: bytes) -> web.StreamResponse:
        """The answer for the client."""
        sent = time.monotonic()
        try:
            async with self._carrier.open(self._admitted, self._endpoint, self._request, body) as answer:
                self._waited = time.monotonic() - sent
                if answer.status == 200 and answer.content_type == "text/event-stream":
                    return await self._stream(answer)
                return await self._whole(answer)
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as failure:
            reason = f"the teacher cannot be reached ({self._clean(str(failure))})"
            return await self._fail(End(Outcome.NOT_SENT, 502, reason))
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            reason = f"the teacher broke off ({self._clean(str(failure) or type(failure).__name__)})"
            return await self._fail(End(Outcome.UPSTREAM_DIED, 502, reason))
        except asyncio.CancelledError:
            if not self._ended:  # what was sent may be billed
                await self._end(End(Outcome.CANCELLED, 0, "the client went away before the answer began"))
            raise

    async def _whole(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """An answer in one piece: read, write down, pass on."""
        began = time.monotonic()
        try:
            raw = await self._read_whole(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            reason = f"the teacher broke off within its answer ({self._clean(str(failure) or type(failure).__name__)})"
            return await self._fail(End(Outcome.UPSTREAM_DIED, 502, reason))
        self._waited += time.monotonic() - began
        if raw is None:
            reason = f"the answer is larger than {LARGEST_ANSWER >> 20} MiB, or there are too many large ones at once"
            return await self._fail(End(Outcome.CUT, 502, reason))
        body, kind, size = self._redactor.whole(raw), answer.headers.get("Content-Type", ""), len(raw)
        redacted = self._redactor.count
        outcome = Outcome.ANSWERED if answer.status == 200 else Outcome.REFUSED
        end = End(outcome, answer.status, "", kind, body, redacted, self._idempotency)
        if outcome is Outcome.ANSWERED:
            opened = unpack(body, answer.headers.get("Content-Encoding", "")) or b""
            read = read_answer(self._endpoint.answers, opened) if self._endpoint.answers else None
            if read is not None:
                await self._journal.answered(end, read.text, read.finish, read.usage, time.monotonic() - self._started)
            else:
                await self._journal.failed(end)
        else:
            await self._journal.failed(end)
        self._carrier.count(outcome, size, redacted)
        self._carrier.added(time.monotonic() - self._started - self._waited)
        headers = self._headers(answer)
        if len(body) <= _SENT_AT_ONCE:
            return web.Response(status=answer.status, body=body, headers=headers)
        return await self._send(web.StreamResponse(status=answer.status, headers=headers), body)

    async def _send(self, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
        """A long answer, in pieces, to a client that may be slow but must not stop."""
        response.content_length = len(body)
        try:
            async with self._carrier.memory.holding(len(body)):
                await response.prepare(self._request)
                for start in range(0, len(body), _SENT_AT_ONCE):
                    await self._pass(response, body[start : start + _SENT_AT_ONCE])
        except (_ClientGone, OSError):
            if self._request.transport is not None:
                self._request.transport.abort()
        return response

    async def _read_whole(self, answer: aiohttp.ClientResponse) -> bytes | None:
        """The body as it came, packed or not; None where it is larger than any answer is, or than there is room for."""
        if (answer.content_length or 0) > LARGEST_ANSWER:
            return None
        pieces: list[bytes] = []
        with contextlib.suppress(Refused):
            async with self._carrier.memory.growing() as memory:
                async for piece in answer.content.iter_any():
                    if memory.take(len(piece)) > LARGEST_ANSWER:
                        return None
                    pieces.append(piece)
                return b"".join(pieces)
        return None

    async def _stream(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """An answer in pieces: each is written down, then passed on, as it comes."""
        response = web.StreamResponse(status=200, headers=self._headers(answer))
        response.enable_chunked_encoding()
        reader, kind = StreamReader(self._endpoint), answer.headers.get("Content-Type", "")
        kept: list[bytes] = []
        started = False
        try:
            async for piece in self._pieces(answer):
                passed = self._redactor.feed(piece)
                if not passed:
                    continue
                await self._journal.chunk(passed)
                reader.feed(passed)
                kept += [passed] if self._idempotency else []
                if not started:
                    self._carrier.added(time.monotonic() - self._started - self._waited)
                    await response.prepare(self._request)
                    started = True
                await self._pass(response, passed)
                if self._carrier.keyring.stale():
                    await self._carrier.reload_keys()
                if not self._carrier.keyring.holds(self._key):
                    return await self._cut(response, End(Outcome.CUT, 200, "the key was revoked", kind), started)
            rest = self._redactor.rest()
            if rest:
                await self._journal.chunk(rest)
                reader.feed(rest)
                kept += [rest] if self._idempotency else []
        except _ClientGone as gone:
            return await self._cut(response, End(Outcome.CANCELLED, 200, str(gone), kind), started)
        except (aiohttp.ClientError, OSError) as failure:
            reason = f"the teacher broke off within its stream ({self._clean(str(failure) or type(failure).__name__)})"
            return await self._cut(response, End(Outcome.UPSTREAM_DIED, 200, reason, kind), started)
        except TimeoutError:
            reason = "the teacher said nothing for too long"
            return await self._cut(response, End(Outcome.UPSTREAM_DIED, 200, reason, kind), started)
        except StillhouseError as failure:
            return await self._cut(
                response, End(Outcome.CUT, 200, f"it could not be written down: {failure}", kind), started
            )
        except asyncio.CancelledError:
            how = End(Outcome.CANCELLED, 200, "the client went away", kind, redacted=self._redactor.count)
            await self._end(_with_reason(how, "the gateway was stopped") if self._carrier.draining else how)
            raise
        end = End(
            Outcome.ANSWERED, 200, "", kind, b"".join(kept), self._redactor.count, self._idempotency
        )  # fmt: skip
        finish = reader.finish or ("stop" if reader.ended else "broken off")
        await self._journal.answered(end, reader.text, finish, reader.usage, time.monotonic() - self._started)
        self._carrier.count(Outcome.ANSWERED, self._size, self._redactor.count)
        if not started:
            await response.prepare(self._request)
        if rest:
            await response.write(rest)
        await response.write_eof()
        return response

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        while True:
            began = time.monotonic()
            piece = await answer.content.readany()
            self._waited += time.monotonic() - began
            if not piece:
                return
            self._size += len(piece)
            yield piece

    async def _cut(self, response: web.StreamResponse, end: End, started: bool) -> web.StreamResponse:
        """End a stream that is not whole so that no client can take it for whole."""
        end.redacted = self._redactor.count
        if not started:
            return await self._fail(end if end.status != 200 else _with_status(end, 502))
        await self._end(end)
        transport = self._request.transport
        if transport is not None:
            transport.abort()
        response.force_close()
        return response

    async def _fail(self, end: End) -> web.Response:
        """Say in the client's dialect that nothing came."""
        await self._end(end)
        kind = "teacher_unreachable" if end.outcome is Outcome.NOT_SENT else "teacher_broke_off"
        return refuse(self._endpoint.kind, Refusal(end.status, kind, end.reason))

    async def _end(self, end: End) -> None:
        """Write the end down; where that fails, the log says by itself that no end was seen."""
        self._ended = True
        with contextlib.suppress(StillhouseError):
            await self._journal.failed(end)
        self._carrier.count(end.outcome, self._size, end.redacted)

    async def _pass(self, response: web.StreamResponse, data: bytes) -> None:
        """Hand a piece to the client, who may be slow but must take something."""
        try:
            await asyncio.wait_for(response.write(data), _WRITE_SECONDS)
        except TimeoutError:
            raise _ClientGone(f"the client took nothing for {_WRITE_SECONDS:.0f} s") from None
        except (aiohttp.ClientError, OSError):
            raise _ClientGone("the client went away") from None

    def _clean(self, text: str) -> str:
        return self._redactor.whole(text.encode()).decode("utf-8", "replace")

    def _headers(self, answer: aiohttp.ClientResponse) -> "CIMultiDict[str]":
        headers: CIMultiDict[str] = CIMultiDict()
        named = {name.strip().lower() for name in answer.headers.get("Connection", "").split(",")}
        for name, value in answer.headers.items():
            if name.lower() not in _DROPPED_FROM_ANSWERS and name.lower() not in named:
                headers.add(name, self._clean(value))
        headers["x-stillhouse-call"] = self._journal.call
        return headers


def _with_status(end: End, status: int) -> End:
    end.status = status
    return end


def _with_reason(end: End, reason: str) -> End:
    end.outcome, end.reason = Outcome.CUT, reason
    return end


def refuse(kind: TeacherKind, refusal: Refusal) -> web.Response:
    """A refusal; it says that trying again would not help, since SDKs try some statuses again by themselves."""
    again = refusal.status in (408, 503) or refusal.kind in ("busy",)
    headers = {"x-should-retry": "true" if again else "false"}
    if refusal.status == 429:
        headers["Retry-After"] = "60"
    return web.Response(
        status=refusal.status, body=error_body(kind, refusal), content_type="application/json", headers=headers
    )
