"""Take calls in: who asks, what for, has it been bought already? Then ``carry`` carries it.

Covered: keys that open nothing, requests that are too large or too slow, a second call under the same idempotency key, a log
that cannot be written. Not covered: TLS (put a reverse proxy in front where clients are on other machines).
"""

import asyncio
import contextlib
import hashlib
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
from aiohttp import web

from stillhouse.canon import digest_bytes, digest_value
from stillhouse.clock import now
from stillhouse.errors import StillhouseError
from stillhouse.home import facts
from stillhouse.home.ledger import gateway_queries
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import GatewayKey, Outcome, TeacherKind
from stillhouse.teachers.connections import tracing
from stillhouse.teachers.dialect import Dialect
from stillhouse.teachers.gateway.admission import PURPOSE_HEADER, Admission, Refused
from stillhouse.teachers.gateway.azure_paths import KEY_HEADER, plain_path, with_deployment
from stillhouse.teachers.gateway.body_memory import MemoryShare
from stillhouse.teachers.gateway.carry import Carried, Carrier, forwarded, refuse
from stillhouse.teachers.gateway.counters import Counters
from stillhouse.teachers.gateway.endpoints import (
    ENDPOINTS,
    MODELS,
    OUTCOMES,
    Endpoint,
    GatewayRequest,
    Refusal,
    models_body,
    read_outcome,
    read_request,
)
from stillhouse.teachers.gateway.journal import Journal, as_bytes, new_call
from stillhouse.teachers.gateway.keyring import Keyring
from stillhouse.vault.durability import Durability
from stillhouse.vault.locks import try_for

LARGEST_REQUEST = 32 << 20
_BODY_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_LONGEST_CALL_SECONDS = 3600.0
_LONGEST_IDEMPOTENCY_KEY = 255
# As many files as there are locks; two keys that share one only wait for each other.
_SAME_LOCKS, _SAME_POLL_SECONDS = 4096, 0.02


class GatewayOptions(NamedTuple):
    """``stall_seconds`` is the silence after which a teacher is left."""

    durability: Durability = Durability.KILL
    stall_seconds: float = 300.0


class Incoming(NamedTuple):
    """A call as it came: whose, to where, and what. ``idempotency`` is empty where the client gave no such key."""

    request: web.BaseRequest
    key: GatewayKey
    endpoint: Endpoint
    asked: GatewayRequest
    body: bytes
    idempotency: str

    def digest(self) -> str:
        """What must be the same for two calls to be one: the path, what it is for, the headers that pass, the body."""
        # What an SDK says of itself, and of its tries, changes no answer.
        volatile = (
            "idempotency-key",
            "x-stainless-",
            "user-agent",
            "x-request-id",
            "x-client-request-id",
            "traceparent",
        )
        passed = forwarded(self.request.headers)
        kept = sorted((name.lower(), value) for name, value in passed.items() if not name.lower().startswith(volatile))
        purpose = self.request.headers.get(PURPOSE_HEADER, "")
        return digest_value([self.request.rel_url.raw_path_qs, purpose, kept, digest_bytes(self.body)])


class Gateway:
    """Handles calls. One per worker process."""

    def __init__(
        self,
        recorder: Recorder,
        keyring: Keyring,
        admission: Admission,
        dialects: Mapping[TeacherKind, Dialect],
        counters: Counters,
        options: GatewayOptions,
        locks: Path,
    ) -> None:
        self._locks = locks
        self._recorder, self._keyring, self._admission = recorder, keyring, admission
        self._counters, self._options = counters, options
        self._carrier = Carrier(admission, keyring, dialects, counters, self.reload)
        self._reloading = asyncio.Lock()
        self._same: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._finishing: set[asyncio.Future[web.StreamResponse]] = set()

    async def start(self) -> None:
        """Open what needs the event loop, and load keys and teachers."""
        timeout = aiohttp.ClientTimeout(
            total=_LONGEST_CALL_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=self._options.stall_seconds
        )
        self._carrier.session = _session(timeout, aiohttp.TCPConnector(limit=0, keepalive_timeout=60))
        self._carrier.fresh = _session(timeout, aiohttp.TCPConnector(limit=0, force_close=True))
        self._locks.mkdir(exist_ok=True)
        await self.reload()
        self._counters.set("in_flight", 0)
        self._counters.set("ready", 1)

    def drain(self) -> None:
        """From now on, what is cut is cut by the gateway."""
        self._carrier.draining = True
        self._counters.set("ready", 0)

    async def close(self, seconds: float) -> None:
        """Wait for answers that are still being recorded, but no longer than this; then release everything."""
        if self._finishing:
            await asyncio.wait(self._finishing, timeout=seconds)
        for task in self._finishing:
            task.cancel()
        for session in (self._carrier.session, self._carrier.fresh):
            if session is not None:
                await session.close()
        self._admission.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request of a client. Whatever happens, it gets an answer in its own dialect, or the connection is cut."""
        kind = _kind_of(request)
        if request.headers.get("Upgrade", "").strip().lower() == "websocket":
            # Codex tries a WebSocket first; told this, it uses HTTP at once.
            upgrade = refuse(kind, Refusal(426, "upgrade_required", "This gateway serves HTTP/1.1 without upgrades."))
            upgrade.headers["Upgrade"] = "HTTP/1.1"
            return upgrade
        try:
            if self._keyring.stale():
                await self.reload()
            return await self._handle(request, kind)
        except Refused as refused:
            self._counters.add("refused_by_gateway_total")
            return refuse(kind, refused.refusal)
        except StillhouseError as failure:
            self._counters.add("cut_total")
            return refuse(kind, Refusal(503, "not_recorded", f"Nothing passes that is not written down. {failure}"))
        except Exception as failure:
            self._counters.add("cut_total")
            sys.stderr.write(f"gateway: a call failed here: {type(failure).__name__}: {failure}\n")
            return refuse(kind, Refusal(500, "gateway_failed", "The gateway failed; its own output says how."))

    async def _handle(self, request: web.BaseRequest, kind: TeacherKind) -> web.StreamResponse:
        key = self._authenticate(request)
        path = request.rel_url.raw_path
        if path == MODELS and request.method == "GET":
            body = models_body(kind, self._admission.models(key, kind))
            return web.Response(body=body, content_type="application/json")
        if path == OUTCOMES and request.method == "POST":
            async with self._carrier.memory.growing() as memory:
                return await self._outcome(key, await self._body(request, memory))
        plain, deployment = plain_path(path)
        endpoint = ENDPOINTS.get(plain)
        if endpoint is None or request.method != "POST":
            served = ", ".join(("GET " + MODELS, "POST " + OUTCOMES, *(f"POST {name}" for name in ENDPOINTS)))
            raise Refused(Refusal(404, "not_served", f"This gateway serves {served}."))
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async with self._carrier.memory.growing() as memory:
            return await self._call(request, key, endpoint, await self._body(request, memory), deployment)

    async def _outcome(self, key: GatewayKey, body: bytes) -> web.Response:
        """Write down how the session of a call ended, as the client that made the call says."""
        try:
            said = read_outcome(body)
        except (msgspec.MsgspecError, ValueError) as failure:
            raise Refused(Refusal(400, "not_an_outcome", f"The body is no outcome: {failure}.")) from failure

        def write() -> None:
            self._recorder.refresh()
            if gateway_queries.key_of_call(self._recorder.ledger, said.call) != key.id:
                raise Refused(
                    Refusal(404, "no_such_call", "This key made no such call (x-stillhouse-call names each).")
                )
            reward = "" if said.reward is None else repr(said.reward)
            self._recorder.record(
                facts.SessionJudged(
                    at=now(),
                    by=self._recorder.by,
                    session="",
                    call=said.call,
                    verdict=said.outcome,
                    reward=reward,
                    why=said.why,
                )
            )

        await asyncio.to_thread(write)
        return web.json_response({"call": said.call, "outcome": said.outcome, "reward": said.reward})

    def _authenticate(self, request: web.BaseRequest) -> GatewayKey:
        address = str(request.remote or "")
        wait = self._keyring.must_wait(address)
        if wait:
            raise Refused(Refusal(429, "too_many_guesses", f"Too many keys that open nothing; wait {wait:.0f} s."))
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        key = self._keyring.find(given or request.headers.get("x-api-key", "") or request.headers.get(KEY_HEADER, ""))
        if key is None:
            self._keyring.guessed(address)
            self._counters.add("bad_keys_total")
            raise Refused(Refusal(401, "invalid_api_key", "Invalid or revoked API key."))
        return key

    async def _body(self, request: web.BaseRequest, memory: MemoryShare) -> bytes:
        """The whole request, within limits of size, time and memory."""
        too_large = Refused(Refusal(413, "too_large", f"A request may have {LARGEST_REQUEST >> 20} MiB."))
        if (request.content_length or 0) > LARGEST_REQUEST:
            raise too_large
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                async for piece in request.content.iter_any():
                    if memory.take(len(piece)) > LARGEST_REQUEST:
                        raise too_large
                    pieces.append(piece)
        except TimeoutError:
            raise Refused(Refusal(408, "too_slow", f"The request did not come within {_BODY_SECONDS:.0f} s.")) from None
        except (OSError, aiohttp.ClientError, web.RequestPayloadError) as failure:
            raise Refused(Refusal(400, "broken_off", f"The request broke off: {failure}.")) from failure
        return b"".join(pieces)

    async def _call(
        self, request: web.BaseRequest, key: GatewayKey, endpoint: Endpoint, body: bytes, deployment: str = ""
    ) -> web.StreamResponse:
        try:
            asked = read_request(body)
            if deployment:
                body = with_deployment(body, deployment)
                asked = read_request(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as failure:
            raise Refused(Refusal(400, "not_json", f"The body is not a request: {failure}.")) from failure
        idempotency = request.headers.get("Idempotency-Key", "")
        incoming = Incoming(request, key, endpoint, asked, body, idempotency)
        if not idempotency:
            return await self._purchase(incoming)
        if len(idempotency) > _LONGEST_IDEMPOTENCY_KEY:
            raise Refused(Refusal(400, "idempotency_key_too_long", "An Idempotency-Key may have 255 characters."))
        while (pending := self._same.get((key.id, idempotency))) is not None:
            await asyncio.shield(pending)  # the same call is under way: its answer will do for both
        self._same[key.id, idempotency] = done = asyncio.get_running_loop().create_future()
        once = self._once(incoming, done)
        return await (once if asked.stream else self._kept(once))

    async def _once(self, incoming: Incoming, done: asyncio.Future[None]) -> web.StreamResponse:
        """The call that goes by an idempotency key: bought once, whoever asks meanwhile or later."""
        key, idempotency = incoming.key, incoming.idempotency
        try:
            async with self._alone(key, idempotency):
                earlier = await asyncio.to_thread(self._earlier, key, idempotency, incoming.digest())
                return earlier if earlier is not None else await self._purchase(incoming)
        finally:
            del self._same[key.id, idempotency]
            done.set_result(None)

    @contextlib.asynccontextmanager
    async def _alone(self, key: GatewayKey, idempotency: str) -> AsyncIterator[None]:
        """While the block runs, no other worker buys under this idempotency key."""
        place = int.from_bytes(hashlib.blake2b(f"{key.id}/{idempotency}".encode(), digest_size=2).digest(), "big")
        path = self._locks / f"same-{place % _SAME_LOCKS:04d}"
        while (lock := try_for(path)) is None:
            await asyncio.sleep(_SAME_POLL_SECONDS)
        with lock:
            yield

    async def _kept(self, call: Coroutine[object, object, web.StreamResponse]) -> web.StreamResponse:
        """What is not a stream is bought whole, so it is read and written down whole, whoever still waits for it."""
        whole = asyncio.ensure_future(call)
        self._finishing.add(whole)
        whole.add_done_callback(self._finishing.discard)
        return await asyncio.shield(whole)

    def _earlier(self, key: GatewayKey, idempotency: str, digest: str) -> web.Response | None:
        """The answer that was bought under this idempotency key. Raises Refused where there is none, and may be none."""
        self._recorder.refresh()
        earlier = gateway_queries.earlier_call(self._recorder.ledger, key.id, idempotency)
        if earlier is None:
            return None
        if earlier.request != digest:
            raise Refused(Refusal(422, "idempotency_key_reused", "This Idempotency-Key stood for another request."))
        if earlier.outcome != Outcome.ANSWERED:
            how = earlier.outcome or "no end was seen"
            raise Refused(
                Refusal(409, "unsettled", f"Under this Idempotency-Key a call was made whose answer is lost ({how}); "
                "it may have been billed. Use another key to buy it again.")
            )  # fmt: skip
        self._counters.add("replayed_total")
        headers = {"Content-Type": earlier.kind, "x-stillhouse-replayed": earlier.call}
        return web.Response(status=earlier.status, body=as_bytes(earlier.body, earlier.base64), headers=headers)

    async def _purchase(self, incoming: Incoming) -> web.StreamResponse:
        """Admit, write down, send, write down, pass on."""
        request, key, endpoint, asked, body, idempotency = incoming
        started, call = time.monotonic(), new_call()
        admitted = await self._admission.admit(key, endpoint, asked, body, request.headers, call)
        body = admitted.body
        journal = Journal(self._recorder, self._options.durability, key, admitted, call, endpoint.billed)
        digest = incoming.digest() if idempotency else ""
        try:
            await journal.received(request.rel_url.raw_path_qs, body, forwarded(request.headers), idempotency, digest)
        except BaseException:
            if admitted.budget is not None:
                admitted.budget.keep(call)  # it may stand in the log, where it is charged
            raise
        self._counters.add("calls_total")
        self._counters.add("request_bytes_total", len(body))
        self._counters.add("in_flight")
        carried = Carried(self._carrier, request, key, endpoint, admitted, journal, idempotency, started)
        if asked.stream:
            return await carried.run(body)
        return await self._kept(carried.run(body))

    async def reload(self) -> None:
        """Reload keys and teachers; whoever comes meanwhile waits, so that a revoked key is refused."""
        async with self._reloading:
            if self._keyring.stale():
                await asyncio.to_thread(self._load)

    def _load(self) -> None:
        self._recorder.refresh()
        self._keyring.reload()
        self._admission.reload()


def _session(timeout: aiohttp.ClientTimeout, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=timeout,
        connector=connector,
        trust_env=False,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
        trace_configs=[tracing()],
    )


def _kind_of(request: web.BaseRequest) -> TeacherKind:
    """The dialect that a client speaks, by the path, or by the header that only one of them has."""
    endpoint = ENDPOINTS.get(plain_path(request.rel_url.raw_path)[0])
    if endpoint is not None:
        return endpoint.kind
    return TeacherKind.ANTHROPIC if "anthropic-version" in request.headers else TeacherKind.OPENAI
