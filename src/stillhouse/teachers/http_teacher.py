"""Ask a teacher over HTTP: slots kept full, retries where they can help, and an honest word on what may have been paid.

The event loop runs in a thread of its own, so that the rest stays synchronous. Covered: answers of any size up to a limit,
stalls, broken connections, compression bombs, redirects (not followed: a key must not travel). Not covered: a teacher that
sends a little for ever is left only after an hour.
"""

import asyncio
import threading
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import aiohttp
import msgspec
import uvloop

from stillhouse.conversations.answers import Read, read_answer
from stillhouse.conversations.streams import StreamReader
from stillhouse.conversations.troubles import Trouble
from stillhouse.errors import BudgetReached, FieldRejected, StillhouseError, TeacherRejected, TeacherUnreachable
from stillhouse.nouns import Ask, Teacher
from stillhouse.permission.known_hosts import address_of
from stillhouse.teachers.client import FREE, REJECTED, Admit, Deliver, Failure, Load, More, Reply, nothing_more
from stillhouse.teachers.connections import post, tracing
from stillhouse.teachers.dialect import LIMITS, OPTIONAL, Dialect, error_message, rejected_field
from stillhouse.teachers.pace import LONGEST_WAIT, Pace, PaceOptions, seconds_of
from stillhouse.teachers.packed import TooLarge, Unreadable, unpack
from stillhouse.teachers.queue import Item, RequestQueue, backoff

# Answers that may come out differently on another try.
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# "Too much at present": says nothing of the ask, so it does not use up its tries.
_BUSY = frozenset({429, 503, 529})
# Errors that every other call will meet, too, where none was answered yet: going on would only repeat them. Where some were,
# 403 and 404 can be about one prompt.
_HOPELESS, _HOPELESS_AT_FIRST = frozenset({401, 402}), frozenset({403, 404})
_NOWHERE = 404  # is about an address or a model, and about no prompt
# So many calls, each refused for what they have in common, and none answered: the others would meet the same.
_SURE = 5
_TRIES = 6
_PATIENCE_SECONDS = 900.0
_TRIES_TO_CONNECT = 3
_CONNECT_SECONDS = 10.0
_CALL_SECONDS = 3600.0
_STOP_POLL_SECONDS = 0.1
# So many calls are admitted by one entry of the log.
_ADMITTED_AT_ONCE = 64
# Far more than any model says today; six times that, when every byte must be escaped, still fits into an entry of the log.
LARGEST_ANSWER = 40 << 20
# A teacher may think for minutes, but then it sends something; silence for longer is a stall.
STALL_SECONDS = 300.0


class HttpOptions(NamedTuple):
    """The key never appears in an error, a log or a repr of this module's making."""

    key: str = ""
    in_flight: int = 64
    stall_seconds: float = STALL_SECONDS
    requests_a_minute: int = 0
    tokens_a_minute: int = 0


class HttpTeacher:
    """A teacher behind an HTTP API."""

    _fresh: aiohttp.ClientSession  # keeps no connection

    def __init__(self, teacher: Teacher, dialect: Dialect, options: HttpOptions) -> None:
        self._teacher, self._dialect, self._options = teacher, dialect, options
        base = address_of(teacher).rstrip("/")
        self._url = base + dialect.path
        self._headers = {
            "Content-Type": "application/json", "Accept-Encoding": "identity", **dialect.headers(options.key)
        }  # fmt: skip
        self._pace = Pace(PaceOptions(options.in_flight, options.requests_a_minute, options.tokens_a_minute))
        self._round: RequestQueue | None = None
        self._answered, self._refusals = False, 0
        self._suspected: StillhouseError | None = None

    def answer(
        self, asks: Sequence[Ask], wanted: Set[str], admit: Admit, deliver: Deliver, more: More = nothing_more
    ) -> None:
        """Keep the slots full until everything wanted is answered or failed.

        The event loop runs in a thread of its own, which no interrupt reaches: what was received is written down whatever
        happens to the main thread. An interrupt here cancels the calls in flight, whose fate is then unknown.
        """
        round_ = self._round = RequestQueue([ask for ask in asks if ask.key in wanted], admit, deliver, more)

        # Not the thread is waited for but what it says at its end: a ``join`` that an interrupt breaks off leaves a thread that
        # counts as ended (bpo-45274), and a process that ends below a running event loop.
        ended = threading.Event()

        def loop() -> None:
            try:
                uvloop.run(self._run(round_))
            except BaseException as failure:
                round_.error = round_.error or failure
            finally:
                ended.set()

        threading.Thread(target=loop, name="teacher", daemon=True).start()
        try:
            while not ended.wait(_STOP_POLL_SECONDS):  # a wait without a limit would not hear an interrupt
                pass
        finally:
            round_.stopping.set()
            ended.wait()
        if round_.error is not None:
            raise round_.error
        if self._suspected is not None and not self._answered:
            raise self._suspected

    def load(self) -> Load:
        """Calls in flight, asks that wait, and the present limit."""
        waiting = self._round.waiting if self._round else 0
        return Load(self._pace.in_flight, waiting, int(self._pace.limit))

    def close(self) -> None:
        """Connections are closed at the end of every ``answer``."""

    async def _run(self, round_: RequestQueue) -> None:
        """Start a call whenever the pace allows one: a slow answer holds its own slot and no other."""
        timeout = aiohttp.ClientTimeout(
            total=_CALL_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=self._options.stall_seconds
        )
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        tasks: set[asyncio.Task[None]] = set()
        shared: dict[str, Any] = {"timeout": timeout, "trust_env": False, "auto_decompress": False}
        unkept = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[tracing()], **shared
            ) as session,
            aiohttp.ClientSession(connector=unkept, cookie_jar=aiohttp.DummyCookieJar(), **shared) as self._fresh,
        ):
            try:
                while not round_.over:
                    batch, wait = self._ready(round_)
                    for item in self._admitted(batch, round_):
                        task = asyncio.create_task(self._one(session, item, round_))
                        tasks.add(task)
                        task.add_done_callback(tasks.discard)
                    if round_.finished:
                        return
                    if not batch or round_.short_of_money:
                        await round_.woken(min(wait, _STOP_POLL_SECONDS))
                    else:
                        await asyncio.sleep(0)
            finally:
                # What is out was paid for, so it is waited for; but an interrupt does not wait.
                while tasks and not round_.stopping.is_set():
                    await asyncio.wait(tasks, timeout=_STOP_POLL_SECONDS)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)  # they keep their errors in the round
                await round_.give_up()

    def _ready(self, round_: RequestQueue) -> tuple[list[Item], float]:
        """What may start now, and in how many seconds there may be more."""
        batch: list[Item] = []
        while len(batch) < _ADMITTED_AT_ONCE:
            item, wait = round_.next_item()
            if item is None:
                return batch, wait
            tokens = item.ask.parameters.max_tokens
            wait = self._pace.wait(tokens)
            if wait > 0:
                round_.put_back(item)
                return batch, wait
            self._pace.start(tokens)
            batch.append(item)
        return batch, 0.0

    def _admitted(self, batch: list[Item], round_: RequestQueue) -> Iterable[Item]:
        """Admit together what is new; where the budget is short, one by one, and the rest waits for what is out to be
        settled: it may cost less than is held for it.
        """
        round_.short_of_money = False
        fresh = [item for item in batch if item.free is None]
        try:
            if fresh:
                round_.admit([item.ask for item in fresh])
                round_.outstanding += len(fresh)
            return batch
        except BudgetReached as failure:
            if len(batch) > 1:
                admitted: list[Item] = []
                for place, item in enumerate(batch):
                    admitted += self._admitted([item], round_)
                    if round_.short_of_money:
                        for later in batch[place + 1 :]:
                            self._pace.end()
                            round_.put_back(later)
                        break
                return admitted
            self._pace.end()
            round_.put_back(fresh[0])
            round_.short_of_money = True
            if round_.outstanding == 0:
                round_.error = failure
            return []
        except BaseException as failure:
            round_.error = round_.error or failure
            return []

    async def _one(self, session: aiohttp.ClientSession, item: Item, round_: RequestQueue) -> None:
        """One try; what comes of it goes to the log, or the ask back into the queue."""
        try:
            try:
                result, headers = await self._try(session, item)
            finally:
                self._pace.end()
            if isinstance(result, Reply):
                self._answered, self._refusals = True, 0
                self._pace.answered(result.seconds, headers)
                await round_.settle(result)
            else:
                await self._failed(result, headers, item, round_)
        except Exception as failure:  # whatever it is, no other call may wait for this one to be settled
            round_.error = round_.error or failure
        finally:
            round_.wake()

    async def _failed(self, failure: Failure, headers: Mapping[str, str], item: Item, round_: RequestQueue) -> None:
        """Try again later, give the ask up, or give up altogether."""
        wait = seconds_of(headers.get("Retry-After", ""))
        busy = failure.status in _BUSY
        if busy:
            self._pace.refused(wait, headers)
        attempt = item.attempt + (0 if busy else 1)
        hopeless = self._hopeless(failure, attempt)
        patient = time.monotonic() - item.since < _PATIENCE_SECONDS if busy else attempt < _TRIES
        retried = failure.status in _RETRIED or unreachable(failure)
        if hopeless is not None or not (retried and patient) or round_.over:
            await round_.settle(failure)
            round_.error = round_.error or hopeless
            return
        if failure.charged:
            await round_.settle(msgspec.structs.replace(failure, again=True))
        seconds = max(wait, backoff(item.refusals + 1 if busy else attempt))
        kept = None if failure.charged else failure
        round_.later(item.again(attempt, kept, busy=busy), min(seconds, LONGEST_WAIT))

    def _hopeless(self, failure: Failure, attempt: int) -> StillhouseError | None:
        """The error that ends the run, where every other call would meet the same."""
        if failure.status in _HOPELESS:
            return TeacherRejected(f"{self._teacher.name} answered {failure.status}: {failure.reason}.")
        suspected = self._suspicion(failure)
        if suspected is not None:
            # One call may be refused for its own sake (a prompt that is too long, or not allowed): only several, or all, tell.
            self._suspected, self._refusals = suspected, self._refusals + 1
            most = self._options.in_flight + _TRIES if self._answered else 1 if failure.status == _NOWHERE else _SURE
            return suspected if self._refusals >= most else None
        if unreachable(failure) and not self._answered and attempt >= _TRIES_TO_CONNECT:
            return TeacherUnreachable(f"{self._teacher.name} at {self._url}: {failure.reason}.")
        return None

    def _suspicion(self, failure: Failure) -> StillhouseError | None:
        """What a refusal would mean, if every call met it."""
        if failure.status in _HOPELESS_AT_FIRST:
            return TeacherRejected(f"{self._teacher.name} answered {failure.status}: {failure.reason}.")
        field = rejected_field(failure.reason, (*LIMITS, *OPTIONAL)) if failure.status in REJECTED else ""
        if not field or self._answered:
            return None
        return FieldRejected(
            f"{self._teacher.name} answered {failure.status}: it rejects the field {field!r} ({failure.reason}).",
            field=field,
            next_step=f"`stillhouse teacher probe {self._teacher.name}` finds out what it takes, and writes it down.",
        )

    async def _try(self, session: aiohttp.ClientSession, item: Item) -> tuple[Reply | Failure, Mapping[str, str]]:
        """One request, and the headers of its answer."""
        ask, started = item.ask, time.monotonic()
        body = msgspec.json.encode(self._dialect.body(self._teacher, ask))
        headers = self._headers
        if self._dialect.idempotency_header:
            # The same for a call whose fate is not known; another once it surely failed.
            headers = {
                **headers,
                self._dialect.idempotency_header: f"{ask.key.rpartition(':')[2]}-{ask.tries + item.attempt}",
            }
        try:
            async with await post(session, self._fresh, self._url, data=body, headers=headers) as response:
                raw = await read_bounded(response)
                status, answered = response.status, response.headers
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as failure:
            return Failure(ask, self._clean(str(failure)), 0, charged=False), {}
        except TimeoutError:
            return Failure(ask, f"it said nothing for {self._options.stall_seconds:g} s", 0), {}
        except (aiohttp.ClientError, OSError) as failure:
            return Failure(ask, self._clean(f"the connection broke: {failure or type(failure).__name__}"), 0), {}
        if raw is None:
            return Failure(ask, f"the answer is larger than {LARGEST_ANSWER >> 20} MiB", status), answered
        text = raw.decode("utf-8", "replace")
        if status != 200:
            return Failure(ask, self._clean(error_message(text))[:320], status, status not in FREE), answered
        read = self._read(raw, answered.get("Content-Type", ""))
        if isinstance(read, Trouble):  # a 200 that means an error is that error, and is tried again by its kind
            return Failure(ask, self._clean(read.reason), read.status, read.status not in FREE), answered
        return Reply(
            ask, self._clean(read.text), read.finish, read.usage, time.monotonic() - started, self._clean(text)
        ), answered  # fmt: skip

    def _read(self, raw: bytes, kind: str) -> Read:
        """What an answer says; some servers stream whether or not they were asked to."""
        if not kind.startswith("text/event-stream"):
            return read_answer(self._dialect.reader, raw)
        reader = StreamReader(self._dialect.reader)
        reader.feed(raw)
        reader.close()
        return reader.answer if reader.whole else Trouble("the stream ended before its end", 502)

    def _clean(self, text: str) -> str:
        """A text that may echo the key, without it."""
        key = self._options.key
        return text.replace(key, "[redacted key]") if key else text


async def read_bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """A response's body, unpacked; None where it is larger than any answer is."""
    if (response.content_length or 0) > LARGEST_ANSWER:
        return None
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > LARGEST_ANSWER:
            return None
        pieces.append(piece)
    raw = b"".join(pieces)
    try:
        return unpack(raw, response.headers.get("Content-Encoding", ""), LARGEST_ANSWER)
    except TooLarge:
        return None
    except Unreadable:
        return raw  # whoever reads it says what it is


def unreachable(failure: Failure) -> bool:
    """Was nothing ever sent?"""
    return failure.status == 0 and not failure.charged
