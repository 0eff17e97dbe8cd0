"""Lend GPUs of a pool: a signed act that ends by itself.

Covers: a pool that lets nobody from outside in, by the fleet as it was adopted or by a hold on ``pool:NAME``, is lent to
nobody outside; nothing is lent beyond what the floors leave, or twice. Does not cover: what happens on the cluster. This
writes down who may, until when; the scheduler's own configuration does it, and ``compute drill`` measures whether it gives
back.
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from stillhouse.clock import now
from stillhouse.compute.accounting.allocations import Window, steps_of
from stillhouse.compute.decisions.offering import CHECKLIST
from stillhouse.compute.imports import fleet_of, readings_of
from stillhouse.compute.readings import PARTS
from stillhouse.errors import Held, PolicyRefusal, UnknownName, UsageError
from stillhouse.home import facts
from stillhouse.home.current_permission import load
from stillhouse.home.fleet import Fleet, Pool
from stillhouse.home.ledger import custody_queries
from stillhouse.home.open_home import Home
from stillhouse.home.proposals import Findings, Handling, Written, plan_act, unlike
from stillhouse.nouns import HoldRelease, Lease, Plan

LEND = "lend"
_CHECKLIST = "outside tenants need"


class _Leases(Handling[Lease]):
    kinds, name, content = (LEND,), "lease", Lease

    def rests_on(self, home: Home, content: Lease) -> tuple[str, ...]:
        return tuple(sorted(hold.hold for hold in _holds(home, content.pool)))

    def differences(self, home: Home, plan: Plan, content: Lease) -> list[str]:
        return unlike("subject", plan.subject, subject_of(content.pool)) + objections(content)

    def found(self, home: Home, content: Lease) -> Findings:
        about = {name: value for name, value in msgspec.to_builtins(content).items() if value not in ("", False)}
        return Findings({**about, **({_CHECKLIST: list(CHECKLIST)} if content.outside else {})}, {})

    def prepare(self, home: Home, content: Lease) -> None:
        refuse_forbidden(home, content)
        refuse_too_many(home, content)

    def carry_out(self, plan: Plan, content: Lease, written: Written, prepared: Any) -> dict[str, Any]:
        written.home.recorder.record(facts.LeaseGiven(lease=content, **written.shared))
        return {"pool": content.pool, "gpus": content.gpus, "until": content.end, "signed by": written.signed_by}


LEASES = _Leases()


def subject_of(pool: str) -> str:
    """The node by which holds and plans name a pool."""
    return f"pool:{pool}"


def plan_lease(home: Home, lease: Lease) -> Plan:
    """A lease as a plan. Raises UnknownName, UsageError, PolicyRefusal, Held."""
    wrong = objections(lease)
    if wrong:
        raise UsageError(
            f"{'; '.join(wrong)}.", next_step="Correct it; `stillhouse compute lend --help` says what it takes."
        )
    refuse_forbidden(home, lease)
    refuse_too_many(home, lease)
    return plan_act(home, LEASES, LEND, subject_of(lease.pool), {"lease": msgspec.to_builtins(lease)})


def refuse_forbidden(home: Home, lease: Lease) -> None:
    """Raises PolicyRefusal, Held where outsiders may not use a pool, UnknownName where the fleet has no such pool."""
    pool = pool_of(fleet_of(home), lease.pool)
    if lease.outside and not pool.outside:
        raise PolicyRefusal(
            f"(fleet.toml lets no tenant from outside use {lease.pool})",
            next_step=f"Where it may, set outside = true for [pools.{lease.pool}], and adopt it: `stillhouse policy adopt`.",
        )
    if not lease.outside and lease.tenant not in known_teams(home):
        raise PolicyRefusal(
            f"({lease.tenant} is no team of the fleet)",
            next_step="Say --outside where it is none of yours; else declare it in fleet.toml: [teams.NAME].",
        )
    holds = _holds(home, lease.pool)
    if lease.outside and holds:
        raise Held(
            f"({lease.pool}: {holds[0].reason})",
            next_step=f"`stillhouse vault release {holds[0].hold}` asks that it end.",
        )


def pool_of(fleet: Fleet, name: str) -> Pool:
    """A pool by its name. Raises UnknownName."""
    if name not in fleet.pools:
        names = ", ".join(sorted(fleet.pools)) or "none"
        raise UnknownName(f"The fleet has no pool {name!r}; there is: {names}.", next_step="Declare it in fleet.toml.")
    return fleet.pools[name]


def objections(lease: Lease) -> list[str]:
    """Why a lease may not be given as it is, in words."""
    start, end = _moment(lease.start), _moment(lease.end)
    wrong = []
    if lease.gpus < 1:
        wrong.append("a lease is of one GPU at least")
    if not lease.tenant.strip() or not lease.reason.strip():
        wrong.append("a lease has a tenant, and a reason")
    if start is None or end is None:
        wrong.append("start and end are times such as 2026-12-01T00:00:00Z")
    elif end <= start:
        wrong.append("it ends before it starts")
    elif lease.end < now():
        wrong.append("it is over already")
    if lease.notice < 0:
        wrong.append("notice is 0 minutes at least")
    try:
        amount = Decimal(lease.price or "0")
        good = amount.is_finite() and amount >= 0
    except InvalidOperation:
        good = False
    wrong += [] if good else [f"the price {lease.price!r} is no amount of money"]
    return wrong


def refuse_too_many(home: Home, lease: Lease) -> None:
    """Raises PolicyRefusal where floors and other leases leave less than it asks for."""
    room = room_of(home, fleet_of(home), lease.pool) - lent(home, lease.pool, lease.start, lease.end)
    if lease.gpus > room:
        raise PolicyRefusal(
            f"({max(room, 0)} GPUs of {lease.pool} can be lent then, after its floors and other leases)",
            next_step="Lend fewer, or change the floors in fleet.toml and adopt it.",
        )


def known_teams(home: Home) -> set[str]:
    """The teams of the fleet: those that fleet.toml names, and those whose jobs were imported."""
    fleet = fleet_of(home)
    named = {*fleet.teams, *(team for pool in fleet.pools.values() for team in pool.teams)}
    return named | set(readings_of(home, "jobs").jobs["team"].unique().to_list()) - {""}


def size_of(home: Home, fleet: Fleet, name: str) -> int:
    """How many GPUs a pool has: as fleet.toml says, else as its nodes were reported last."""
    if fleet.pool(name).gpus:
        return fleet.pool(name).gpus
    capacity = readings_of(home, "capacity").capacity
    own = capacity.filter(capacity["pool"] == name)
    if not own.height:
        return 0
    whole = capacity.filter(capacity["snapshot"])["time"].unique().to_list()
    return steps_of(own, Window(0, int(own["time"].max()) + 1), whole)[-1].total // PARTS  # type: ignore[arg-type]


def room_of(home: Home, fleet: Fleet, name: str) -> int:
    """How many GPUs of a pool its floors leave."""
    pool = fleet.pool(name)
    return (
        size_of(home, fleet, name)
        - pool.floor
        - sum(fleet.teams[team].floor for team in pool.teams if team in fleet.teams)
    )


def lent(home: Home, pool: str, start: str, end: str) -> int:
    """How many GPUs of a pool leases have taken at most at some moment of a span."""
    overlapping = [one for one in leases(home) if one.pool == pool and one.start < end and start < one.end]
    moments = {max(one.start, start) for one in overlapping}
    return max((sum(one.gpus for one in overlapping if one.start <= at < one.end) for at in moments), default=0)


def lent_at(home: Home, pool: str, moment: str) -> int:
    """How many GPUs of a pool are lent at a moment."""
    return sum(one.gpus for one in leases(home) if one.pool == pool and one.start <= moment < one.end)


def leases(home: Home) -> tuple[Lease, ...]:
    """Every lease that was given, in order; those that are over, too."""
    return load(home.ledger, home.settings).state.of(Lease)


def normalised(text: str) -> str:
    """A time as the log writes it, so that times can be compared as text. Raises UsageError."""
    moment = _moment(text)
    if moment is None:
        raise UsageError(f"{text!r} is no time.", next_step="Write it like 2026-12-01T18:00:00Z.")
    return moment


def _moment(text: str) -> str | None:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    except (ValueError, OverflowError):
        return None


def _holds(home: Home, pool: str) -> list[facts.HoldPlaced]:
    """The holds on a pool that were not released."""
    released = {release.hold for release in load(home.ledger, home.settings).state.of(HoldRelease)}
    return [
        hold
        for hold in custody_queries.holds(home.ledger)
        if hold.subject == subject_of(pool) and hold.hold not in released
    ]
