"""Ask a teacher over HTTP: slots kept full, retries where they can help, and an honest word on what may have been paid.

The event loop runs in a thread of its own and hands finished calls over a queue, so that the rest stays synchronous.
"""

import asyncio
import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence, Set
from typing import Any, NamedTuple, Protocol

import aiohttp
import msgspec

from stillhouse.errors import BudgetReached, StillhouseError, TeacherRejected, TeacherUnreachable
from stillhouse.nouns import Ask, Teacher, Usage
from stillhouse.teachers.client import Admit, Failure, Reply

# Answers that may come out differently on another try. 529 is Anthropic's "overloaded".
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# Errors that every other call will meet, too: going on would only repeat them.
_HOPELESS = frozenset({401, 403, 404})
_TRIES = 6
_TRIES_TO_CONNECT = 3
_LONGEST_WAIT = 60.0
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
    first_wait: float = 0.5


class HttpTeacher:
    """A teacher behind an HTTP API."""

    def __init__(self, teacher: Teacher, dialect: Dialect, options: HttpOptions) -> None:
        self._teacher, self._dialect, self._options = teacher, dialect, options
        base = (teacher.base_url or dialect.default_base_url).rstrip("/")
        self._url = base + dialect.path
        self._answered = False
        self._outstanding = 0  # calls that were admitted and are not settled yet

    def answers(self, asks: Sequence[Ask], wanted: Set[str], admit: Admit) -> Iterator[Reply | Failure]:
        """Keep the slots full until everything wanted is answered or failed."""
        done: queue.SimpleQueue[Reply | Failure | BaseException | None] = queue.SimpleQueue()
        todo = iter([ask for ask in asks if ask.key in wanted])
        stopping = threading.Event()

        def loop() -> None:
            try:
                asyncio.run(self._run(todo, admit, done, stopping))
            except BaseException as failure:
                done.put(failure)

        thread = threading.Thread(target=loop, name="teacher", daemon=True)
        thread.start()
        try:
            while (item := done.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
                self._outstanding -= 1
        finally:
            stopping.set()
            thread.join()

    def close(self) -> None:
        """Connections are closed at the end of every ``answers``."""

    async def _run(
        self,
        todo: Iterator[Ask],
        admit: Admit,
        done: "queue.SimpleQueue[Reply | Failure | BaseException | None]",
        stopping: threading.Event,
    ) -> None:
        """Workers share one iterator: a slow answer holds its own slot and no other. The first error stops them all."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=self._options.stall_seconds
        )
        error: BaseException | None = None
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session:

            async def work() -> None:
                nonlocal error
                for ask in todo:
                    if stopping.is_set() or error is not None:
                        return
                    try:
                        await self._admitted(ask, admit)
                        done.put(await self._ask(session, ask, stopping))
                    except StillhouseError as failure:
                        error = error or failure
                        return

            async def watch() -> None:
                while not stopping.is_set():
                    await asyncio.sleep(_STOP_POLL_SECONDS)
                for task in tasks:
                    task.cancel()

            tasks = [asyncio.create_task(work()) for _ in range(self._options.in_flight)]
            watching = asyncio.create_task(watch())
            results = await asyncio.gather(*tasks, return_exceptions=True)
            watching.cancel()
        done.put(error or next((result for result in results if isinstance(result, BaseException)), None))

    async def _admitted(self, ask: Ask, admit: Admit) -> None:
        """Wait for the budget while calls are out that may cost less than is held for them."""
        while True:
            try:
                admit([ask])
            except BudgetReached:
                if self._outstanding <= 0:
                    raise
                await asyncio.sleep(_SETTLE_POLL_SECONDS)
            else:
                self._outstanding += 1
                return

    async def _ask(self, session: aiohttp.ClientSession, ask: Ask, stopping: threading.Event) -> Reply | Failure:
        """One call, tried again where that can help. Raises TeacherRejected, TeacherUnreachable where nothing will."""
        failure, wait = Failure(ask, "it was stopped before it was sent", 0, False), 0.0
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(wait or self._backoff(attempt))
            result, wait = await self._try(session, ask)
            if isinstance(result, Reply):
                self._answered = True
                return result
            failure = result
            if failure.status in _HOPELESS:
                raise TeacherRejected(f"{self._teacher.name} answered {failure.status}: {failure.reason}.")
            unreachable = failure.status == 0 and not failure.charged
            if unreachable and not self._answered and attempt + 1 == _TRIES_TO_CONNECT:
                raise TeacherUnreachable(f"{self._teacher.name} at {self._url}: {failure.reason}.")
            if failure.charged or (failure.status and failure.status not in _RETRIED):
                break  # what may have been paid for is asked again by decision, not by reflex
        return failure

    def _backoff(self, attempt: int) -> float:
        """Exponential with jitter, for when the teacher names no time of its own."""
        base: float = min(_LONGEST_WAIT, self._options.first_wait * 2.0 ** (attempt - 1))
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
            return Failure(ask, self._clean(_message(text)), status, charged=False), _seconds(retry_after)
        read = _read(self._dialect, raw)
        whole = self._clean(text, len(text))
        return Reply(
            ask, self._clean(read.text, len(text)), read.finish, read.usage, time.monotonic() - started, whole
        ), 0.0

    def _clean(self, text: str, longest: int = 300) -> str:
        """A text that may echo the key, without it."""
        key = self._options.key
        return (text.replace(key, "[redacted key]") if key else text)[: longest + 20]


def _read(dialect: Dialect, raw: bytes) -> Read:
    """What an answer says; one that cannot be read is an answer all the same, and was paid for."""
    try:
        read = dialect.read(msgspec.json.decode(raw))
        if isinstance(read.text, str):
            return read
    except (msgspec.MsgspecError, KeyError, TypeError, IndexError, AttributeError, ValueError):
        pass
    return Read("", "malformed", Usage())


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
