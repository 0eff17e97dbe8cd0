"""Caps that nothing passes, held by any number of processes at once.

A process that wants to spend takes a *lease*: a slice of every cap concerned, written to the log while it alone holds the
lock of the money (``locks/money``), after the view has caught up with what the others wrote. Within its lease it admits
calls without asking anybody: the worst case is reserved before a call and settled at what it cost. When it ends, it returns
what it did not use; of one that was killed, whoever next needs money returns what the log does not say it used.

Covered: any concurrency, any number of processes and restarts, kills at any moment; calls of unknown fate stay charged at
their worst case. Several hosts, where they share the home's folder and its locks work between them (NFS 4, any cluster file
system); the ledger may then be a PostgreSQL. Not covered: a provider that bills more than its own counts say; homes that do
not share a folder (give each its own cap).
"""

import contextlib
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from stillhouse.clock import now
from stillhouse.errors import BudgetReached, TeacherContradiction
from stillhouse.home import facts
from stillhouse.home.ledger import money_queries
from stillhouse.home.plans.prices import usd
from stillhouse.home.recorder import Recorder
from stillhouse.vault.locks import Lock, try_for, wait_for

# A lease is topped up by so many calls like the present one: often enough to leave others their share, seldom enough that
# the lock costs nothing.
_CALLS_AHEAD = 64
# And by no more than this part of what is left, so that the last money goes round.
_PART_OF_THE_REST = 4


_AFTER_A_BROKEN_BOUND = (
    "Register the teacher again with the --hidden-tokens that it bills, and ask it under a new run or key."
)


def _broken(held: Decimal, paid: Decimal) -> str:
    return f"A call that could cost ${usd(held)} at most was billed at ${usd(paid)}: nothing more is bought under this cap."


class BudgetLease:
    """What this process may spend under some caps: reserve before a call, settle after it. Safe to use from threads."""

    def __init__(
        self, recorder: Recorder, locks: Path, caps: Mapping[str, Decimal], before: Decimal = Decimal(0)
    ) -> None:
        """``caps`` in USD by scope (``run:...``, ``project:...``, ``teacher:...``, ``key:...``); none: nothing costs money.

        ``before`` is what was spent under the first of them before leases were kept.
        """
        self._recorder, self._locks, self._caps, self._before = recorder, locks, dict(caps), before
        self._mutex = threading.RLock()
        self._held: dict[str, list[Decimal]] = {}
        self._leased = self._used = self.spent = Decimal(0)
        self._broken = ""
        self._checked: dict[str, int] = {}
        self.lease = ""
        self._holder: Lock | None = None
        self._holder_path = Path()

    def covers(self, amount: Decimal) -> bool:
        """Does the lease hold so much, so that reserving it asks nobody?"""
        with self._mutex:
            return not self._caps or self._used + amount <= self._leased

    def reserve(self, calls: Sequence[tuple[str, Decimal]]) -> str:
        """Hold the worst case of some calls; returns the lease that they are charged to.

        Raises BudgetReached where they do not fit, TeacherContradiction where a call has cost more than it could.
        """
        amount = sum((price for _, price in calls), Decimal(0))
        with self._mutex:
            if self._broken:
                raise TeacherContradiction(self._broken, next_step=_AFTER_A_BROKEN_BOUND)
            if self._caps and amount:
                if self._used + amount > self._leased:
                    self._take(self._used + amount - self._leased, amount / len(calls))
                self._used += amount
                for key, price in calls:
                    self._held.setdefault(key, []).append(price)
            return self.lease if amount else ""

    def settle(self, key: str, actual: Decimal) -> None:
        """A call's cost is known; what was held for it beyond that is free again.

        A bill above what was held is charged whole, and ends this cap: what else could be bought under it has no bound. The
        log says so to every other process, and to every later one.
        """
        with self._mutex:
            held = self._release(key)
            self._used += actual - held
            self.spent += actual
            if self._caps and actual > held:
                self._broken = _broken(held, actual)
                if self._used > self._leased:  # others must find it taken
                    with self._alone():
                        self._lease(self._used - self._leased)

    def keep(self, key: str) -> None:
        """Nobody knows whether a call was charged: it stays charged at its worst case."""
        with self._mutex:
            self._release(key)

    def _release(self, key: str) -> Decimal:
        held = self._held.get(key)
        if not held:
            return Decimal(0)
        price = held.pop()
        if not held:
            del self._held[key]
        return price

    def reconcile(self, lease: str) -> None:
        """Calls of an earlier process's lease are settled at last: its caps are given back what they did not cost."""
        if not lease or lease == self.lease:
            return
        with self._mutex, self._alone():
            self._recorder.refresh()
            spent = money_queries.spending_of_lease(self._recorder.ledger, lease)
            difference = spent.paid + spent.held - money_queries.returned_of_lease(self._recorder.ledger, lease)
            if difference:
                self._return(lease, difference)

    def close(self) -> None:
        """Return what is left of the lease; calls that are not settled keep what is held for them."""
        with self._mutex:
            if self._holder is None:
                return
            with self._alone():  # nobody may find this process dead while it returns its lease
                self._return(self.lease, self._used)
                self._holder.release()
                with contextlib.suppress(OSError):
                    self._holder_path.unlink()
            self._holder, self.lease, self._leased, self._used = None, "", Decimal(0), Decimal(0)

    def _take(self, missing: Decimal, one: Decimal) -> None:
        """A slice that covers what is missing, with something ahead where there is plenty."""
        with self._alone():
            self._recorder.refresh()
            self._look_for_broken_bounds()
            free = min(self._free(scope, cap, missing) for scope, cap in self._caps.items())
            ahead = min(one * _CALLS_AHEAD, (free - missing) / _PART_OF_THE_REST)
            amount = missing + max(ahead, Decimal(0)).quantize(Decimal("0.000001"))
            if self._holder is None:
                self._hold()
            self._lease(amount)

    def _lease(self, amount: Decimal) -> None:
        self._recorder.record(
            facts.BudgetLeased(
                at=now(),
                by=self._recorder.by,
                lease=self.lease,
                holder=self._holder_path.name,
                scopes=tuple(self._caps),
                usd=usd(amount),
            )
        )
        self._leased += amount

    def _look_for_broken_bounds(self) -> None:
        """Has a call under the first cap cost more than was held for it, in whatever process? Raises TeacherContradiction."""
        scope = next(iter(self._caps))
        bill, self._checked = money_queries.bill_above_its_bound(self._recorder.ledger, scope, self._checked)
        if bill is not None:
            self._broken = _broken(bill.held, bill.paid)
            raise TeacherContradiction(self._broken, next_step=_AFTER_A_BROKEN_BOUND)

    def _free(self, scope: str, cap: Decimal, wanted: Decimal) -> Decimal:
        """What a cap has left. The dead return theirs first, if it would not do otherwise. Raises BudgetReached."""
        ledger = self._recorder.ledger
        before = self._before if scope == next(iter(self._caps)) else Decimal(0)
        leases = money_queries.open_leases(ledger, scope)
        free = cap - before - money_queries.returned_spending(ledger, scope) - sum(lease.usd for lease in leases)
        if free < wanted:
            dead = [lease for lease in leases if lease.lease != self.lease and not self._alive(lease.holder)]
            for lease in dead:
                self._reap(lease.lease)
            if dead:
                self._recorder.refresh()
                return self._free(scope, cap, wanted)
            unused = self._leased - self._used  # of this process's own lease, too small for the call
            raise BudgetReached(
                f"${usd(cap - free - unused)} of the ${cap} of {scope} is spent or held, and the next call may cost "
                f"${usd(wanted + unused)}."
            )
        return free

    def _reap(self, lease: str) -> None:
        spent = money_queries.spending_of_lease(self._recorder.ledger, lease)
        self._return(lease, spent.paid + spent.held)

    def _return(self, lease: str, used: Decimal) -> None:
        self._recorder.record(
            facts.BudgetReturned(at=now(), by=self._recorder.by, lease=lease, used_usd=str(used.normalize()))
        )

    def _hold(self) -> None:
        """Take a lock that dies with this process, so that others can see whether it lives."""
        self.lease = secrets.token_hex(8)
        self._holder_path = self._locks / f"holder-{self.lease}"
        self._holder = wait_for(self._holder_path)

    def _alive(self, holder: str) -> bool:
        if not (self._locks / holder).exists():
            return False
        lock = try_for(self._locks / holder)
        if lock is None:
            return True
        lock.release()
        with contextlib.suppress(OSError):
            (self._locks / holder).unlink()
        return False

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the money: nobody else takes or returns anything while the block runs."""
        with wait_for(self._locks / "money"):
            yield
