"""Batches: many calls handed over at once, answered within a day, at a part of the price. The same log, the same money.

A batch is written down before it is submitted and again when the provider has taken it. A kill in between leaves a batch
whose fate nobody knows: it stays pending, and charged, until the provider's listing or its results settle it, call by call,
by ``custom_id``. Only a listing that is complete, and asked for long enough after, proves that it never arrived; a second
batch of the same calls is never submitted before that.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import msgspec

from stillhouse.clock import now, utc_now
from stillhouse.conversations.answers import read_answer
from stillhouse.conversations.troubles import Trouble
from stillhouse.errors import BudgetReached, PolicyRefusal
from stillhouse.home import facts
from stillhouse.home.ledger import answer_queries, money_queries
from stillhouse.home.ledger.answer_queries import OpenBatch
from stillhouse.home.plans.budgets import BudgetLease
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import Ask, Parameters, Teacher
from stillhouse.teachers.client import FREE, Failure, Load, Reply
from stillhouse.teachers.collect import AskCheck, ResultWriter
from stillhouse.teachers.dialect import Dialect

# Well within both providers' limits (50,000 requests or 200 MB; 100,000 or 256 MB), and little to lose sight of at once.
_CALLS, _BYTES = 10_000, 100 << 20
# Listings may lag; what is not in one so long after was not accepted.
ARRIVES_WITHIN = timedelta(minutes=15)
_FIRST_POLL, _LONGEST_POLL = 1.0, 60.0


class Result(NamedTuple):
    """What came of one call of a batch: the answer's JSON, or why there is none. Only answers are billed.

    Without a ``custom_id`` it is a line that cannot be read, or belongs to nobody.
    """

    custom_id: str
    answer: bytes
    error: str = ""


class BatchState(NamedTuple):
    """A search for a batch: what the provider calls it, or whether it surely has none."""

    remote: str = ""
    absent: bool = False


class BatchProvider(Protocol):
    """One provider's batches. Raises TeacherUnreachable or TeacherRejected."""

    async def submit(self, name: str, calls: Sequence[tuple[str, bytes]]) -> str:
        """Hand over calls (custom id, request's JSON); returns what the provider calls the batch."""

    async def ended(self, remote: str) -> bool:
        """Is every call of a batch over?"""

    def results(self, remote: str) -> AsyncIterator[Result]:
        """What came of an ended batch, in any order; a result may come twice."""

    async def reason(self, remote: str) -> str:
        """Why a batch ended without all of its results, in the provider's words; empty where it does not say."""

    async def find(self, name: str, custom_ids: frozenset[str], since: datetime) -> BatchState:
        """Look for a batch that may have been taken since a moment."""

    async def close(self) -> None:
        """Close connections."""


class Batches:
    """Collects asks in batches, until all are settled or it is interrupted."""

    def __init__(
        self,
        recorder: Recorder,
        provider: BatchProvider,
        dialect: Dialect,
        teacher: Teacher,
        run: str,
        result_writer: ResultWriter,
        budget: BudgetLease,
        *,
        say: Callable[[str], None],
        on_item: Callable[[Reply | Failure], None],
        poll_seconds: float = _FIRST_POLL,
    ) -> None:
        self._recorder, self._provider, self._dialect, self._teacher = recorder, provider, dialect, teacher
        self._run, self._result_writer, self._budget, self._say, self._on_item = (
            run,
            result_writer,
            budget,
            say,
            on_item,
        )
        self._poll_seconds = poll_seconds
        self.pending = 0

    def load(self) -> Load:
        """Calls that are with the provider."""
        return Load(self.pending, 0, 0)

    def collect(self, asks: Sequence[Ask]) -> None:
        """Settle earlier batches, submit what is in none, and wait. Raises BudgetReached where a cap was, after the rest."""
        asyncio.run(self._collect(asks))

    async def _collect(self, asks: Sequence[Ask]) -> None:
        by_id = {custom_id(ask.key): ask for ask in asks}
        try:
            waiting = await self._settle_earlier(by_id)
            under_way = {call.key for batch in waiting for call in batch.calls}
            reached: BudgetReached | PolicyRefusal | None = None
            for group in _groups([ask for ask in asks if ask.key not in under_way], self._body):
                try:
                    waiting.append(await self._submit(group))
                except (BudgetReached, PolicyRefusal) as failure:
                    reached = failure  # what is under way is paid for, and is waited for first
                    break
            await self._wait(waiting, by_id)
            if reached is not None:
                raise reached
        finally:
            await self._provider.close()

    async def _settle_earlier(self, by_id: Mapping[str, Ask]) -> list[OpenBatch]:
        """What earlier processes left: each batch found, proved absent, or kept pending."""
        waiting: list[OpenBatch] = []
        for batch in answer_queries.open_batches(self._recorder.ledger, self._teacher.name):
            if batch.remote:
                waiting.append(batch)
                continue
            since = datetime.fromisoformat(batch.at)
            found = await self._provider.find(
                batch.batch, frozenset(custom_id(call.key) for call in batch.calls), since
            )
            if found.remote:
                self._record_submitted(batch.batch, found.remote)
                waiting.append(batch._replace(remote=found.remote))
            elif found.absent and utc_now() - since > ARRIVES_WITHIN:
                self._never_arrived(batch, by_id)
            else:
                self.pending += len(batch.calls)
                self._say(
                    f"the fate of a batch of {len(batch.calls)} calls is not known yet; it is not submitted again"
                )
                waiting.append(batch)
        return waiting

    async def _submit(self, group: Sequence[Ask]) -> OpenBatch:
        """Reserve, write down, hand over, write down."""
        self._result_writer.admit(group)
        name, at = f"stillhouse-{secrets.token_hex(8)}", now()
        calls = tuple(facts.BatchedCall(ask.key, ask.task, ask.prompt, ask.sample) for ask in group)
        prepared = facts.BatchPrepared(
            at=at, by=self._recorder.by, batch=name, run=self._run, teacher=self._teacher.name,
            stamps=self._result_writer.stamps, calls=calls,
        )  # fmt: skip
        self._recorder.record(prepared)
        remote = await self._provider.submit(name, [(custom_id(ask.key), self._body(ask)) for ask in group])
        self._record_submitted(name, remote)
        self.pending += len(calls)
        self._say(f"{len(calls)} calls submitted as {remote}")
        return OpenBatch(name, self._run, at, self._result_writer.stamps, calls, remote)

    async def _wait(self, waiting: list[OpenBatch], by_id: Mapping[str, Ask]) -> None:
        """Ask now and then, less and less often, until every batch of known fate has ended."""
        pause = self._poll_seconds
        left = [batch for batch in waiting if batch.remote]
        while left:
            still: list[OpenBatch] = []
            for batch in left:
                if await self._provider.ended(batch.remote):
                    await self._take(batch, by_id)
                else:
                    still.append(batch)
            left = still
            if left:
                await asyncio.sleep(pause)
                pause = min(_LONGEST_POLL, pause * 1.5)

    async def _take(self, batch: OpenBatch, by_id: Mapping[str, Ask]) -> None:
        """Write down what came of each call, then that the batch is settled, then its money."""
        self._recorder.refresh()  # under which lease each call was asked last
        ledger, keys = self._recorder.ledger, [call.key for call in batch.calls]
        known = answer_queries.answered(ledger, keys)
        leases = money_queries.lease_of(ledger, keys)
        open_calls = {custom_id(call.key): call for call in batch.calls if call.key not in known}
        unread = 0
        async for result in self._provider.results(batch.remote):
            unread += not result.custom_id
            call = open_calls.pop(result.custom_id, None)
            if call is not None:
                self._deliver(self._item(_ask_of(by_id, call), result), batch, leases.get(call.key, ""))
        if open_calls:
            reason = await self._provider.reason(batch.remote) or "the provider's results do not hold it"
            reason += f"; {unread} lines of its results cannot be read" if unread else ""
            self._say(f"{len(open_calls)} of {len(batch.calls)} calls have no result: {reason}")
            for call in open_calls.values():  # a line that cannot be read may be its answer, and was paid for
                failure = Failure(_ask_of(by_id, call), reason[:320], charged=bool(unread))
                self._deliver(failure, batch, leases.get(call.key, ""))
        self._end(batch, "settled", set(leases.values()))
        self.pending -= len(batch.calls)

    def _never_arrived(self, batch: OpenBatch, by_id: Mapping[str, Ask]) -> None:
        leases = money_queries.lease_of(self._recorder.ledger, [call.key for call in batch.calls])
        for call in batch.calls:
            failure = Failure(_ask_of(by_id, call), "its batch never reached the provider", charged=False)
            self._deliver(failure, batch, leases.get(call.key, ""))
        self._end(batch, "never submitted", set(leases.values()))

    def _deliver(self, item: Reply | Failure, batch: OpenBatch, lease: str) -> None:
        self._result_writer.deliver(item, AskCheck(batch.run, batch.stamps, lease))
        self._on_item(item)

    def _end(self, batch: OpenBatch, reason: str, leases: set[str]) -> None:
        self._recorder.record(facts.BatchEnded(at=now(), by=self._recorder.by, batch=batch.batch, reason=reason))
        for lease in leases:
            self._budget.reconcile(lease)
        self._recorder.refresh()

    def _record_submitted(self, batch: str, remote: str) -> None:
        self._recorder.record(facts.BatchSubmitted(at=now(), by=self._recorder.by, batch=batch, remote=remote))

    def _item(self, ask: Ask, result: Result) -> Reply | Failure:
        if result.error:
            return Failure(ask, result.error[:320], charged=False)
        read = read_answer(self._dialect.reader, result.answer)
        if isinstance(read, Trouble):
            return Failure(ask, read.reason, read.status, charged=read.status not in FREE)
        return Reply(ask, read.text, read.finish, read.usage, 0.0, result.answer.decode("utf-8", "replace"))

    def _body(self, ask: Ask) -> bytes:
        return msgspec.json.encode(self._dialect.body(self._teacher, ask))


def custom_id(key: str) -> str:
    """How a call is called within a batch: 64 letters, which both providers take."""
    return key.partition(":")[2]


def _ask_of(by_id: Mapping[str, Ask], call: facts.BatchedCall) -> Ask:
    """The ask of a call; one that the recipe no longer has is settled all the same."""
    known = by_id.get(custom_id(call.key))
    return known or Ask(call.key, call.task, call.prompt, (), Parameters(0, 0.0, 0), call.sample)


def _groups(asks: Sequence[Ask], body: Callable[[Ask], bytes]) -> Iterator[list[Ask]]:
    """Asks in batches that no provider refuses for their size."""
    group: list[Ask] = []
    size = 0
    for ask in asks:
        length = len(body(ask)) + 256
        if group and (len(group) == _CALLS or size + length > _BYTES):
            yield group
            group, size = [], 0
        group.append(ask)
        size += length
    if group:
        yield group
