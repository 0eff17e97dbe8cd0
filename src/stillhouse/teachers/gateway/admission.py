"""Before a call is forwarded: may this key ask this model for this, does policy allow it, is there money? Default deny."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillhouse.clock import now
from stillhouse.conversations.answers import read_chat
from stillhouse.errors import BudgetReached, PolicyRefusal, StillhouseError, TeacherContradiction
from stillhouse.home import facts
from stillhouse.home.doors import Doors
from stillhouse.home.plans.bounds import bound_of
from stillhouse.home.plans.budgets import BudgetLease
from stillhouse.home.plans.prices import is_metered, worst_case_of_request
from stillhouse.home.stamping import stamps_of
from stillhouse.nouns import GatewayKey, Grade, Origin, Stamp, StampSet, Teacher, TeacherKind, Use
from stillhouse.permission.decide import OWN_TERMS, Door
from stillhouse.permission.stamp_sets import stamp_set
from stillhouse.teachers.dialect import LIMITS
from stillhouse.teachers.gateway.endpoints import REROUTING, Endpoint, GatewayRequest, Refusal, limit_of

PURPOSE_HEADER = "x-stillhouse-purpose"

# Beta features by which the same tokens cost more.
_DEARER_BETAS = ("context-1m", "fast-mode")


def run_of(project: str) -> str:
    """The run to which the calls of a project belong."""
    return f"gateway:{project}"


class Refused(Exception):
    """A call is not forwarded; ``refusal`` is what its client is told."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Admitted(NamedTuple):
    """A call that may be forwarded: to whom, with which body, under which stamps, and what is held for it."""

    teacher: Teacher
    body: bytes
    purpose: Use
    stamps: StampSet
    worst: Decimal
    lease: str
    budget: BudgetLease | None


class Upstream(NamedTuple):
    """A teacher that can be asked: with its key, and the fingerprint of the account behind it."""

    teacher: Teacher
    secret: str
    account: str


class Admission:
    """Decides, and holds money. One per worker."""

    def __init__(
        self,
        doors: Doors,
        locks: Path,
        upstreams: Callable[[], Mapping[str, Upstream]],
        caps: Callable[[str, str], dict[str, Decimal]],
    ) -> None:
        self._doors, self._recorder = doors, doors.recorder
        self._locks, self._load, self._caps = locks, upstreams, caps
        self._budgets: dict[tuple[str, str], BudgetLease] = {}
        self._decided: dict[tuple[str, Use, str, tuple[str, ...]], StampSet] = {}
        self._upstreams: Mapping[str, Upstream] = {}
        self._linked: set[tuple[str, str]] = set()
        self._day = now()[:10]

    def reload(self) -> None:
        """Forget what was decided, and reload policy and teachers."""
        self._doors.reload_policy()
        self._decided.clear()
        self._upstreams = self._load()

    def upstream(self, name: str) -> Upstream:
        """A teacher by its registered name."""
        return self._upstreams[name]

    def models(self, key: GatewayKey, kind: TeacherKind) -> list[str]:
        """The models that a key may ask in a dialect."""
        return sorted({found.teacher.model for found in self._allowed(key, kind)})

    async def admit(
        self,
        key: GatewayKey,
        endpoint: Endpoint,
        request: GatewayRequest,
        body: bytes,
        headers: Mapping[str, str],
        call: str,
    ) -> Admitted:
        """Raises Refused with what the client is told."""
        teacher = self._teacher(key, endpoint.kind, request.model)
        use = self._purpose(key, headers.get(PURPOSE_HEADER, ""))
        rerouted = sorted(REROUTING & request.fields.keys())
        if rerouted:
            raise Refused(
                Refusal(
                    400,
                    "rerouting_not_allowed",
                    f"{rerouted[0]} could bring another model than the one that is asked for.",
                )
            )
        if bytes(request.fields.get("background", b"false")) not in (b"false", b"null"):
            raise Refused(
                Refusal(400, "background_not_recorded", "Answers to background requests would not pass here.")
            )
        stamps = self._stamps(teacher, use, key.inputs)
        self._link(teacher, key.project)
        if not is_metered(teacher) or not endpoint.billed:
            return Admitted(teacher, body, use, stamps, Decimal(0), "", None)
        limit = limit_of(request, endpoint)
        if limit is None:
            limit, body = _limited(key, teacher, endpoint, body)
        worst = self._worst_case(teacher, limit, request, body, headers)
        budget = self._budget(key, teacher)
        try:
            if budget.covers(worst):
                lease = budget.reserve([(call, worst)])
            else:  # another process may hold the lock, and the view may have to catch up: nobody else waits for that
                lease = await _reserved(budget, call, worst)
        except BudgetReached as failure:
            raise Refused(Refusal(402, "budget_reached", f"{failure}")) from failure
        except TeacherContradiction as failure:
            raise Refused(Refusal(402, "bound_broken", f"{failure}")) from failure
        return Admitted(teacher, body, use, stamps, worst, lease, budget)

    def revoked(self, admitted: Admitted) -> str:
        """Why a call that was admitted may not go on; empty where it may."""
        decision = self._doors.policy.check(Door.CONTINUE, admitted.stamps.stamps, admitted.purpose)
        return "" if decision.allowed else decision.reason

    def close(self) -> None:
        """Return every lease."""
        for budget in self._budgets.values():
            budget.close()

    def _allowed(self, key: GatewayKey, kind: TeacherKind) -> list[Upstream]:
        return [
            found
            for found in self._upstreams.values()
            if found.teacher.kind is kind
            and (not key.teachers or found.teacher.name in key.teachers)
            and (key.budget or not is_metered(found.teacher))
        ]

    def _teacher(self, key: GatewayKey, kind: TeacherKind, model: str) -> Teacher:
        found = [upstream.teacher for upstream in self._allowed(key, kind) if upstream.teacher.model == model]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(sorted(teacher.name for teacher in found))
            raise Refused(
                Refusal(400, "model_ambiguous", f"Several teachers are {model!r} ({names}); scope the key to one.")
            )
        known = ", ".join(self.models(key, kind)) or "none"
        raise Refused(
            Refusal(404, "model_not_allowed", f"This key may not ask {model[:200]!r} here; it may ask: {known}.")
        )

    def _purpose(self, key: GatewayKey, purpose: str) -> Use:
        if not purpose:
            return key.uses[0]
        if purpose in key.uses:
            return Use(purpose)
        uses = ", ".join(key.uses)
        raise Refused(Refusal(403, "use_not_allowed", f"This key is for {uses}, not for {purpose[:80]!r}."))

    def _stamps(self, teacher: Teacher, use: Use, inputs: tuple[str, ...]) -> StampSet:
        """The stamps of today's answers to what is under these terms, once policy has allowed them."""
        day = now()[:10]
        if day != self._day:  # waivers and agreements end with a day
            self._day = day
            self.reload()
        known = self._decided.get((teacher.name, use, day, inputs))
        if known is not None:
            return known
        account = self._upstreams[teacher.name].account
        by_teacher = stamps_of(self._recorder.ledger, teacher, purpose=use, account=account)
        by_client = Stamp(origin=Origin.PROMPT_SEED, terms=inputs or (OWN_TERMS,), day=day, grade=Grade.DECLARED)
        stamps = stamp_set([*by_teacher, by_client])
        try:
            self._doors.check(Door.ASK, f"teacher {teacher.name}", stamps.stamps, use)
        except PolicyRefusal as failure:
            raise Refused(Refusal(403, "policy_refusal", f"{failure} {failure.next_step}")) from failure
        self._recorder.intern([stamps], {})
        self._decided[teacher.name, use, day, inputs] = stamps
        return stamps

    def _link(self, teacher: Teacher, project: str) -> None:
        """Lineage: what this teacher answers from now on belongs to this project."""
        if (teacher.name, project) not in self._linked:
            edge = {"parent": f"teacher:{teacher.name}", "child": f"run:{run_of(project)}", "kind": "answered"}
            self._recorder.record(facts.Derived(at=now(), by=self._recorder.by, **edge))
            self._linked.add((teacher.name, project))

    def _worst_case(
        self, teacher: Teacher, limit: int, request: GatewayRequest, body: bytes, headers: Mapping[str, str]
    ) -> Decimal:
        betas = headers.get("anthropic-beta", "")
        dearer = next((beta for beta in _DEARER_BETAS if beta in betas), "")
        bound = bound_of(msgspec.json.decode(body))
        if dearer or bound.unpriced:
            item = dearer or bound.unpriced
            said = f"{item} has no price by the token, so what it costs is not bounded. Switch it off in the client."
            raise Refused(Refusal(400, "unpriced", said))
        return worst_case_of_request(teacher, len(body), limit, request.answers, bound.tokens)

    def _budget(self, key: GatewayKey, teacher: Teacher) -> BudgetLease:
        known = self._budgets.get((key.id, teacher.name))
        if known is None:
            try:
                caps = {f"key:{key.id}": Decimal(key.budget)} | self._caps(teacher.name, key.project)
            except StillhouseError as failure:
                raise Refused(Refusal(503, "configuration", f"{failure}")) from failure
            known = self._budgets[key.id, teacher.name] = BudgetLease(self._recorder, self._locks, caps)
        return known


def _limited(key: GatewayKey, teacher: Teacher, endpoint: Endpoint, body: bytes) -> tuple[int, bytes]:
    """The limit that the key sets where a request sets none, and the request with it: a limit that the teacher does not know
    bounds nothing.
    """
    if not key.max_tokens:
        raise Refused(
            Refusal(
                400, "max_tokens_required",
                f"{endpoint.limit} is required: this model costs money, and the key has no --max-tokens.",
            )
        )  # fmt: skip
    field = (teacher.limit_field or LIMITS[0]) if endpoint.reader is read_chat else endpoint.limit
    body = _without_nulls(body, {*LIMITS, endpoint.limit})
    opening = body.index(b"{") + 1
    rest = body[opening:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    return key.max_tokens, body[:opening] + f'"{field}":{key.max_tokens}'.encode() + comma + rest


def _without_nulls(body: bytes, names: set[str]) -> bytes:
    """A request without limits that are null: a client says by them that it sets none, and the last of two names would win."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    nulls = {name for name in names & fields.keys() if bytes(fields[name]).strip() == b"null"}
    return msgspec.json.encode({name: value for name, value in fields.items() if name not in nulls}) if nulls else body


async def _reserved(budget: BudgetLease, call: str, worst: Decimal) -> str:
    """Reserve in a thread; where the client goes away meanwhile, nothing stays held for it."""
    reserving = asyncio.ensure_future(asyncio.to_thread(budget.reserve, [(call, worst)]))
    try:
        return await asyncio.shield(reserving)
    except asyncio.CancelledError:
        with contextlib.suppress(StillhouseError):
            await reserving
            budget.settle(call, Decimal(0))
        raise
