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

from stillhouse.conversations.answers import Answer, Read, read_answer, read_chat
from stillhouse.conversations.streams import StreamReader
from stillhouse.conversations.troubles import Trouble
from stillhouse.errors import StillhouseError
from stillhouse.nouns import GatewayKey, Outcome, TeacherKind
from stillhouse.permission.known_hosts import address_of
from stillhouse.teachers.connections import post
from stillhouse.teachers.dialect import Dialect
from stillhouse.teachers.gateway.admission import Admission, Admitted, Refused
from stillhouse.teachers.gateway.azure_paths import without_version
from stillhouse.teachers.gateway.body_memory import Memory
from stillhouse.teachers.gateway.counters import Counters
from stillhouse.teachers.gateway.endpoints import Endpoint, Refusal, error_body
from stillhouse.teachers.gateway.journal import CallEnd, Journal
from stillhouse.teachers.gateway.keyring import Keyring
from stillhouse.teachers.gateway.redact import Redactor
from stillhouse.teachers.http_teacher import LARGEST_ANSWER
from stillhouse.teachers.packed import TooLarge, Unreadable, unpack

# A client that takes nothing for so long is gone.
_WRITE_SECONDS = 60.0
IN_MEMORY = 512 << 20
_SENT_AT_ONCE = 64 << 10
# What of a client's headers reaches a teacher: all that a dialect needs, and nothing that could be a secret, choose another
# account or say who asks. They are in the log, so that whatever changed an answer is.
_PASSED = frozenset(
    {"content-type", "accept", "user-agent", "anthropic-version", "anthropic-beta", "openai-beta", "idempotency-key",
     "x-request-id", "x-client-request-id", "traceparent"}
)  # fmt: skip
_PASSED_PREFIX = "x-stainless-"
_DROPPED_FROM_ANSWERS = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
     "set-cookie", "alt-svc", "strict-transport-security", "server", "date"}
)  # fmt: skip
# What follows a stream's terminal event is passed on, but not waited for any longer.
_AFTER_THE_END_SECONDS = 2.0
_COUNTED = {
    Outcome.ANSWERED: "answered_total",
    Outcome.REFUSED: "refused_by_teacher_total",
    Outcome.UPSTREAM_DIED: "upstream_died_total",
    Outcome.NOT_SENT: "upstream_died_total",
    Outcome.CANCELLED: "cancelled_total",
    Outcome.CUT: "cut_total",
}


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a client that pass."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower() in _PASSED or name.lower().startswith(_PASSED_PREFIX)
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
        self.admission, self.keyring, self._dialects, self._counters = admission, keyring, dialects, counters
        self.reload_keys = reload_keys
        self.memory = Memory(IN_MEMORY)
        self.session: aiohttp.ClientSession | None = None
        self.fresh: aiohttp.ClientSession | None = None  # keeps no connection: every call gets one of its own
        self.draining = False

    @contextlib.asynccontextmanager
    async def open(
        self, admitted: Admitted, endpoint: Endpoint, request: web.BaseRequest, body: bytes
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The call to the teacher."""
        assert self.session is not None
        upstream = self.admission.upstream(admitted.teacher.name)
        dialect = self._dialects[endpoint.kind]
        headers: CIMultiDict[str] = CIMultiDict(forwarded(request.headers))
        for name, value in dialect.headers(upstream.secret).items():
            if name.lower() not in ("anthropic-version",) or name not in headers:
                headers[name] = value
        headers["Accept-Encoding"] = "identity"
        base = address_of(admitted.teacher).rstrip("/")
        query = without_version(request.rel_url.raw_query_string)
        url = URL(base + endpoint.upstream + (f"?{query}" if query else ""), encoded=True)
        assert self.fresh is not None
        answer = await post(self.session, self.fresh, url, data=body, headers=headers)
        async with answer:
            yield answer

    def redactor(self, admitted: Admitted) -> Redactor:
        """What takes the managed key out of this teacher's answers."""
        return Redactor(self.admission.upstream(admitted.teacher.name).secret)

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


class _Cut(Exception):
    """The gateway ends a call."""


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
        self._known = carrier.keyring.version
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
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as failure:
            reason = f"the teacher cannot be reached ({self._clean(str(failure))})"
            return await self._fail(CallEnd(Outcome.NOT_SENT, 502, reason))
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            reason = f"the teacher broke off ({self._clean(str(failure) or type(failure).__name__)})"
            return await self._fail(CallEnd(Outcome.UPSTREAM_DIED, 502, reason))
        except Exception as failure:
            if not self._ended:
                await self._end(
                    CallEnd(Outcome.CUT, 0, f"it failed here: {self._clean(str(failure) or type(failure).__name__)}")
                )
            raise
        except asyncio.CancelledError:
            if not self._ended:  # what was sent may be billed
                await self._end(CallEnd(Outcome.CANCELLED, 0, "the client went away before the answer began"))
            raise

    async def _whole(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """An answer in one piece: read, write down, pass on."""
        began = time.monotonic()
        try:
            raw = await self._read_whole(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            reason = f"the teacher broke off within its answer ({self._clean(str(failure) or type(failure).__name__)})"
            return await self._fail(CallEnd(Outcome.UPSTREAM_DIED, 502, reason))
        self._waited += time.monotonic() - began
        if raw is None:
            reason = f"the answer is larger than {LARGEST_ANSWER >> 20} MiB, or there are too many large ones at once"
            return await self._fail(CallEnd(Outcome.CUT, 502, reason))
        packed = answer.headers.get("Content-Encoding", "identity").lower()
        plain, failed = _opened(raw, packed)
        if failed and self._redactor.armed:  # what cannot be read cannot be searched for the managed key
            return await self._fail(CallEnd(Outcome.CUT, 502, f"the answer is packed and cannot be opened ({failed})"))
        if packed != "identity" and self._redactor.armed:
            raw, packed = plain, "identity"
        body, kind, size = self._redactor.whole(raw), answer.headers.get("Content-Type", ""), len(raw)
        redacted = self._redactor.count
        end = CallEnd(Outcome.REFUSED, answer.status, "", kind, body, redacted, self._idempotency)
        read = self._read(answer.status, body if packed == "identity" else plain)
        if isinstance(read, Trouble):
            end.reason, end.meant = self._clean(read.reason), read.status
        elif answer.status == 200:
            end.outcome = Outcome.ANSWERED
        outcome, headers = end.outcome, self._headers(answer)
        if isinstance(read, Answer):
            await self._journal.answered(end, read, time.monotonic() - self._started)
        else:
            await self._journal.failed(end)
        self._ended = True
        self._carrier.count(outcome, size, redacted)
        self._carrier.added(time.monotonic() - self._started - self._waited)
        if packed == "identity":
            headers.popall("Content-Encoding", None)
        if len(body) <= _SENT_AT_ONCE:
            return web.Response(status=answer.status, body=body, headers=headers)
        return await self._send(web.StreamResponse(status=answer.status, headers=headers), body)

    def _read(self, status: int, body: bytes) -> Read | None:
        """What a whole answer says; None where there is none, or nothing that is read."""
        if status != 200 or self._endpoint.reader is None:
            return None
        return read_answer(self._endpoint.reader, body)

    async def _send(self, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
        """A long answer, in pieces, to a client that may be slow but must not stop."""
        response.content_length = len(body)
        try:
            await response.prepare(self._request)
            for start in range(0, len(body), _SENT_AT_ONCE):
                await self._within(response.write(body[start : start + _SENT_AT_ONCE]))
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
        packed = answer.headers.get("Content-Encoding", "identity").lower()
        if packed != "identity":  # it was asked not to be; it could neither be read nor be searched for the managed key
            return await self._fail(CallEnd(Outcome.CUT, 502, f"the stream is packed ({packed[:20]})"))
        response = web.StreamResponse(status=200, headers=self._headers(answer))
        response.enable_chunked_encoding()
        reader, kept = StreamReader(self._endpoint.reader or read_chat), list[bytes]()
        end = CallEnd(Outcome.ANSWERED, 200, kind=answer.headers.get("Content-Type", ""), idempotency=self._idempotency)
        try:
            async with self._carrier.memory.growing() as memory:
                async for piece in self._pieces(answer):
                    if memory.take(len(piece)) > LARGEST_ANSWER:
                        raise _Cut(f"the stream is larger than {LARGEST_ANSWER >> 20} MiB")
                    await self._pass_on(response, reader, kept, self._redactor.feed(piece), end)
                    if self._ended:
                        break
                if not self._ended:
                    await self._pass_on(response, reader, kept, self._redactor.rest(), end)
            if not self._ended:
                reader.close()
                if not reader.whole:  # a clean end of the connection is no end of the answer
                    raise aiohttp.ClientPayloadError("it ended before its end")
                await self._answered(reader, kept, end)
        except asyncio.CancelledError:
            if not self._ended:
                await self._end(self._broken(_ClientGone("the client went away"), end))
            raise
        except Exception as failure:
            if not self._ended:
                return await self._cut(response, self._broken(failure, end))
        with contextlib.suppress(_ClientGone, StillhouseError, aiohttp.ClientError, TimeoutError, OSError):
            await self._rest(answer, response)
            if not response.prepared:
                await response.prepare(self._request)
            await self._within(response.write_eof())
        return response

    async def _answered(self, reader: StreamReader, kept: list[bytes], end: CallEnd) -> None:
        """The answer is whole by its own words: from here on it is answered, whichever side closes first."""
        end.body, end.redacted = b"".join(kept), self._redactor.count
        read = reader.answer
        if isinstance(read, Trouble):
            end.outcome, end.reason, end.meant = Outcome.REFUSED, self._clean(read.reason), read.status
            await self._journal.failed(end)
        else:
            await self._journal.answered(end, read, time.monotonic() - self._started)
        self._ended = True
        self._carrier.count(end.outcome, self._size, self._redactor.count)

    async def _rest(self, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        """What comes after a stream's terminal event, written down and passed on as the rest of it was."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AFTER_THE_END_SECONDS):
                async for piece in self._pieces(answer):
                    await self._written(response, self._redactor.feed(piece))
        await self._written(response, self._redactor.rest())

    async def _pass_on(
        self, response: web.StreamResponse, reader: StreamReader, kept: list[bytes], piece: bytes, end: CallEnd
    ) -> None:
        """Write a piece down, then hand it to the client, whose key must still be in force.

        With the piece that ends the answer its end is written down, too, before the client sees either.
        """
        if not piece:
            return
        await self._journal.chunk(piece)
        reader.feed(piece)
        kept += [piece] if self._idempotency else []
        if self._carrier.keyring.stale():
            await self._carrier.reload_keys()
        if not self._carrier.keyring.holds(self._key):
            raise _Cut("the key was revoked")
        if self._carrier.keyring.version != self._known:
            self._known = self._carrier.keyring.version
            revoked = self._carrier.admission.revoked(self._admitted)
            if revoked:
                raise _Cut(f"access was revoked ({revoked})")
        if reader.ended:
            held = self._redactor.rest()  # the beginning of a key, it seemed; nothing can follow that makes it one
            if held:
                await self._journal.chunk(held)
                kept += [held] if self._idempotency else []
            await self._answered(reader, kept, end)
            piece += held
        if not response.prepared:
            self._carrier.added(time.monotonic() - self._started - self._waited)
            await response.prepare(self._request)
        await self._within(response.write(piece))

    async def _written(self, response: web.StreamResponse, piece: bytes) -> None:
        if piece:
            await self._journal.chunk(piece)
            await self._within(response.write(piece))

    def _broken(self, failure: Exception, end: CallEnd) -> CallEnd:
        """How a stream ended that did not end well."""
        end.redacted, end.body = self._redactor.count, b""
        match failure:
            case _ClientGone() if self._carrier.draining:
                end.outcome, end.reason = Outcome.CUT, "the gateway was stopped"
            case _ClientGone():
                end.outcome, end.reason = Outcome.CANCELLED, str(failure)
            case TimeoutError() | aiohttp.ClientError() | OSError():
                said = self._clean(str(failure) or type(failure).__name__)
                end.outcome, end.reason = Outcome.UPSTREAM_DIED, f"the teacher broke off within its stream ({said})"
            case StillhouseError():
                end.outcome, end.reason, end.status = Outcome.CUT, f"it could not be written down: {failure}", 503
            case _:
                end.outcome, end.reason = Outcome.CUT, self._clean(str(failure) or type(failure).__name__)
        return end

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        while True:
            began = time.monotonic()
            piece = await answer.content.readany()
            self._waited += time.monotonic() - began
            if not piece:
                return
            self._size += len(piece)
            yield piece

    async def _cut(self, response: web.StreamResponse, end: CallEnd) -> web.StreamResponse:
        """End a stream that is not whole so that no client can take it for whole."""
        if not response.prepared:
            end.status = 502 if end.status == 200 else end.status
            return await self._fail(end)
        await self._end(end)
        transport = self._request.transport
        if transport is not None:
            transport.abort()
        response.force_close()
        return response

    async def _fail(self, end: CallEnd) -> web.Response:
        """Say in the client's dialect that nothing came."""
        await self._end(end)
        kinds = {Outcome.NOT_SENT: "teacher_unreachable", Outcome.UPSTREAM_DIED: "teacher_broke_off"}
        kind = kinds.get(end.outcome, "not_recorded" if end.status == 503 else "cut")
        return refuse(self._endpoint.kind, Refusal(end.status, kind, end.reason))

    async def _end(self, end: CallEnd) -> None:
        """Write the end down; where that fails, the log shows that no end was seen."""
        self._ended = True
        with contextlib.suppress(StillhouseError):
            await self._journal.failed(end)
        self._carrier.count(end.outcome, self._size, end.redacted)

    async def _within(self, writing: Awaitable[None]) -> None:
        """Hand something to the client, who may be slow but must take it within a time."""
        try:
            await asyncio.wait_for(writing, _WRITE_SECONDS)
        except TimeoutError:
            raise _ClientGone(f"the client took nothing for {_WRITE_SECONDS:.0f} s") from None
        except (aiohttp.ClientError, OSError):
            raise _ClientGone("the client went away") from None

    def _clean(self, text: str) -> str:
        # Headers are bytes of any kind, and come here with half surrogates for what is no UTF-8.
        return self._redactor.whole(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def _headers(self, answer: aiohttp.ClientResponse) -> "CIMultiDict[str]":
        headers: CIMultiDict[str] = CIMultiDict()
        named = {name.strip().lower() for name in answer.headers.get("Connection", "").split(",")}
        for name, value in answer.headers.items():
            if name.lower() not in _DROPPED_FROM_ANSWERS and name.lower() not in named:
                headers.add(name, self._clean(value))
        headers["x-stillhouse-call"] = self._journal.call
        return headers


def _opened(raw: bytes, packed: str) -> tuple[bytes, str]:
    """A body without its packing, and why it could not be opened."""
    try:
        return unpack(raw, packed, LARGEST_ANSWER), ""
    except TooLarge:
        return b"", f"it holds more than {LARGEST_ANSWER >> 20} MiB"
    except Unreadable as failure:
        return b"", str(failure)


def refuse(kind: TeacherKind, refusal: Refusal) -> web.Response:
    """A refusal; it says whether trying again can help, since SDKs try some statuses again by themselves."""
    again = refusal.kind in ("busy", "too_slow", "teacher_unreachable")  # nothing was sent
    headers = {"x-should-retry": "true" if again else "false"}
    if refusal.status == 429:
        headers["Retry-After"] = "60"
    return web.Response(
        status=refusal.status, body=error_body(kind, refusal), content_type="application/json", headers=headers
    )
