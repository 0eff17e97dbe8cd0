"""Ask a teacher over HTTP: slots kept full, retries where they can help, and an honest word on what may have been paid.

The event loop runs in a thread of its own, so that the rest stays synchronous.
"""

import asyncio
import random
import threading
import time
from collections.abc import Iterator, Sequence, Set
from typing import Any, NamedTuple, Protocol

import aiohttp
import msgspec

from stillhouse.errors import BudgetReached, StillhouseError, TeacherRejected, TeacherUnreachable
from stillhouse.nouns import Ask, Teacher, Usage
from stillhouse.teachers.client import Admit, Deliver, Failure, Reply

# Statuses by which a teacher says that it did no work: 529 is Anthropic's "overloaded". All others may have been billed,
# a gateway's time-out after the model had run among them.
_FREE = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 425, 429, 503, 529})
# Answers that may come out differently on another try.
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# Errors that every other call will meet, too: going on would only repeat them.
_HOPELESS = frozenset({401, 403, 404})
_TRIES = 6
_MOST_TOKENS = 2**40  # more is not a count of tokens
_TRIES_TO_CONNECT = 3
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_CONNECT_SECONDS = 10.0
_STOP_POLL_SECONDS = 0.1
_SETTLE_POLL_SECONDS = 0.02
# A teacher may think for minutes, but then it sends something; silence for longer is a stall.
STALL_SECONDS = 300.0


class Read(NamedTuple):
    """What a dialect reads from an answer."""

    text: str
    finish: str
    usage: Usage


class Dialect(Protocol):
    """How one provider's requests are written and its answers read. No I/O."""

    path: str
    default_base_url: str

    def headers(self, key: str) -> dict[str, str]:
        """Headers of every request."""

    def body(self, teacher: Teacher, ask: Ask) -> dict[str, Any]:
        """The JSON of a request."""

    def read(self, answer: Any) -> Read:
        """What an answer's JSON says; raises KeyError, TypeError or IndexError where it is malformed."""


class HttpOptions(NamedTuple):
    """The key never appears in an error, a log or a repr of this module's making."""

    key: str = ""
    in_flight: int = 64
    stall_seconds: float = STALL_SECONDS


class HttpTeacher:
    """A teacher behind an HTTP API."""

    def __init__(self, teacher: Teacher, dialect: Dialect, options: HttpOptions) -> None:
        self._teacher, self._dialect, self._options = teacher, dialect, options
        base = (teacher.base_url or dialect.default_base_url).rstrip("/")
        self._url = base + dialect.path
        self._answered = False

    def answer(self, asks: Sequence[Ask], wanted: Set[str], admit: Admit, deliver: Deliver) -> None:
        """Keep the slots full until everything wanted is answered or failed.

        The event loop runs in a thread of its own, which no interrupt reaches: what was received is written down whatever
        happens to the main thread. An interrupt here cancels the calls in flight, whose fate is then unknown.
        """
        round_ = _Round(iter([ask for ask in asks if ask.key in wanted]), admit, deliver)

        def loop() -> None:
            try:
                asyncio.run(self._run(round_))
            except BaseException as failure:
                round_.error = round_.error or failure

        thread = threading.Thread(target=loop, name="teacher", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_STOP_POLL_SECONDS)  # a join without a limit would not hear an interrupt
        finally:
            round_.stopping.set()
            thread.join()
        if round_.error is not None:
            raise round_.error

    def close(self) -> None:
        """Connections are closed at the end of every ``answer``."""

    async def _run(self, round_: "_Round") -> None:
        """Workers share one iterator: a slow answer holds its own slot and no other. The first error stops them all."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=self._options.stall_seconds
        )
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session:

            async def work() -> None:
                for ask in round_.todo:
                    if round_.over:
                        return
                    try:
                        await self._ask(session, ask, round_)
                    except Exception as failure:  # whatever it is, no other call may wait for this one to be settled
                        round_.error = round_.error or failure
                        return

            async def watch() -> None:
                while not round_.stopping.is_set():
                    await asyncio.sleep(_STOP_POLL_SECONDS)
                for task in tasks:
                    task.cancel()

            tasks = [asyncio.create_task(work()) for _ in range(self._options.in_flight)]
            watching = asyncio.create_task(watch())
            await asyncio.gather(*tasks, return_exceptions=True)  # they keep their errors in the round
            watching.cancel()

    async def _admitted(self, ask: Ask, round_: "_Round") -> bool:
        """Admit a call; wait for the budget while calls are out that may cost less than is held for them."""
        while not round_.over:
            try:
                round_.admit([ask])
            except BudgetReached:
                if round_.outstanding == 0:
                    raise
                await asyncio.sleep(_SETTLE_POLL_SECONDS)
            else:
                round_.outstanding += 1
                return True
        return False

    async def _ask(self, session: aiohttp.ClientSession, ask: Ask, round_: "_Round") -> None:
        """One ask, tried again where that can help; every try that may have been billed is an admission of its own.

        Raises TeacherRejected, TeacherUnreachable where going on is pointless for all.
        """
        admitted = await self._admitted(ask, round_)
        for attempt in range(1, _TRIES + 1):
            if not admitted:
                return
            result, wait = await self._try(session, ask)
            if isinstance(result, Reply):
                self._answered = True
                round_.settle(result)
                return
            tryable = attempt < _TRIES and not round_.over and (result.status in _RETRIED or _unreachable(result))
            hopeless = self._hopeless(result, attempt)
            if hopeless is not None or not tryable:
                round_.settle(result)
                if hopeless is not None:
                    raise hopeless
                return
            if result.charged:
                round_.settle(msgspec.structs.replace(result, again=True))
            await asyncio.sleep(wait or self._backoff(attempt))
            if result.charged:
                admitted = await self._admitted(ask, round_)

    def _hopeless(self, failure: Failure, attempt: int) -> StillhouseError | None:
        """The error that ends the run, where every other call would meet the same."""
        if failure.status in _HOPELESS:
            return TeacherRejected(f"{self._teacher.name} answered {failure.status}: {failure.reason}.")
        if _unreachable(failure) and not self._answered and attempt >= _TRIES_TO_CONNECT:
            return TeacherUnreachable(f"{self._teacher.name} at {self._url}: {failure.reason}.")
        return None

    def _backoff(self, attempt: int) -> float:
        """Exponential with jitter, for when the teacher names no time of its own."""
        base: float = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (attempt - 1))
        return base * (0.5 + random.random() / 2)  # noqa: S311

    async def _try(self, session: aiohttp.ClientSession, ask: Ask) -> tuple[Reply | Failure, float]:
        """One request; with a failure, the seconds that the teacher asked us to wait (0 where it named none)."""
        started = time.monotonic()
        body = msgspec.json.encode(self._dialect.body(self._teacher, ask))
        headers = {"Content-Type": "application/json", **self._dialect.headers(self._options.key)}
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                raw = await response.read()
                status, retry_after = response.status, response.headers.get("Retry-After", "")
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as failure:
            return Failure(ask, self._clean(str(failure)), 0, charged=False), 0.0
        except TimeoutError:
            return Failure(ask, f"it said nothing for {self._options.stall_seconds:g} s", 0), 0.0
        except aiohttp.ClientError as failure:
            return Failure(ask, self._clean(f"the connection broke: {failure or type(failure).__name__}"), 0), 0.0
        text = raw.decode("utf-8", "replace")
        if status != 200:
            return Failure(ask, self._clean(_message(text)), status, status not in _FREE), _seconds(retry_after)
        read = _read(self._dialect, raw)
        whole = self._clean(text, len(text))
        return Reply(
            ask, self._clean(read.text, len(text)), read.finish, read.usage, time.monotonic() - started, whole
        ), 0.0

    def _clean(self, text: str, longest: int = 300) -> str:
        """A text that may echo the key, without it."""
        key = self._options.key
        return (text.replace(key, "[redacted key]") if key else text)[: longest + 20]


class _Round:
    """What the workers of one ``answer`` share. Used in the event loop's thread alone, but for ``stopping``."""

    def __init__(self, todo: Iterator[Ask], admit: Admit, deliver: Deliver) -> None:
        self.todo, self.admit, self._deliver = todo, admit, deliver
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.outstanding = 0  # calls that were admitted and are not settled yet

    @property
    def over(self) -> bool:
        """Shall nothing more be sent?"""
        return self.error is not None or self.stopping.is_set()

    def settle(self, item: Reply | Failure) -> None:
        """Hand on what became of an admitted call."""
        self._deliver(item)
        self.outstanding -= 1


def _unreachable(failure: Failure) -> bool:
    """Was nothing ever sent?"""
    return failure.status == 0 and not failure.charged


def _read(dialect: Dialect, raw: bytes) -> Read:
    """What an answer says; one that cannot be read is an answer all the same, and was paid for."""
    try:
        read = dialect.read(msgspec.json.decode(raw))
        if isinstance(read.text, str):
            return read._replace(usage=Usage(_count(read.usage.prompt_tokens), _count(read.usage.completion_tokens)))
    except (msgspec.MsgspecError, KeyError, TypeError, IndexError, AttributeError, ValueError):
        pass
    return Read("", "malformed", Usage())


def _count(tokens: int) -> int:
    """A teacher's count, where it can be one."""
    return tokens if 0 <= tokens <= _MOST_TOKENS else -1


def _message(text: str) -> str:
    try:
        error = msgspec.json.decode(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.MsgspecError, KeyError, TypeError):
        return " ".join(text.split()) or "an empty answer"


def _seconds(retry_after: str) -> float:
    """A Retry-After header in seconds, within reason; its date form is not used by any provider here."""
    try:
        return min(_LONGEST_WAIT, max(0.0, float(retry_after)))
    except ValueError:
        return 0.0
