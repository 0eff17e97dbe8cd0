"""Acts that need a signature, and some of them a second one: what is common to proposing, approving and executing them.

A proposal is a plan in the log. What needs nobody else's yes is executed at once; the rest waits for `plan approve` by others and
`plan execute` (``approvals``). Every signature is over the plan, what it brings about, and the place in the chain of permission
that it takes (``identity.chain``): it is worth nothing for another plan, and nothing once something else took that place. Whether
signatures suffice is asked of the same function before an act is written down and whenever it is read.

What each kind means is not known here: the part that it belongs to says it in a ``Handling``.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from stillhouse.canon import digest_value
from stillhouse.clock import now
from stillhouse.errors import (
    ApprovalMissing,
    CorruptObject,
    PlanRefused,
    RuleError,
    SignatureRefused,
    StillhouseError,
    StorageError,
    TermsError,
)
from stillhouse.home import facts
from stillhouse.home.current_permission import governor, keep_head, load, own_home_key, own_signatory
from stillhouse.home.open_home import Home
from stillhouse.home.plans.planning import executing, make_plan, plan_digest
from stillhouse.nouns import Plan, Role, Signature
from stillhouse.permission.acts import act_of
from stillhouse.permission.acts.act import CUSTODIANS, ChainState
from stillhouse.permission.chain import KIND, ChainEntry, digest, lacking, statement
from stillhouse.permission.roster import holders, member
from stillhouse.permission.signatures import Signatory

Content = TypeVar("Content", bound=msgspec.Struct)
_LOCK = "permission"


class Proposed(NamedTuple):
    """What came of a proposal: its plan, whether it was executed, and who could still say yes."""

    plan: Plan
    digest: str
    done: bool
    waits_for: tuple[str, ...]


class Written(NamedTuple):
    """What every act is written down with: the fields that its fact shares with others, and the head that it makes."""

    home: Home
    shared: dict[str, Any]
    head: str

    @property
    def signed_by(self) -> list[str]:
        """Who signed it."""
        return [signature.by for signature in self.shared["signatures"]]

    def keep(self) -> None:
        """Remember it as the newest act: from now on nobody can take it out of the view unseen."""
        keep_head(self.home.settings, self.head)


class Findings(NamedTuple):
    """What a plan is about, and the impact that its author must have written, as both are found now."""

    about: dict[str, Any]
    impact: dict[str, Any]


class Handling(ABC, Generic[Content]):
    """What the part that a kind of act belongs to does with it.

    ``kinds`` are those of its plans, ``name`` is where a plan has what it brings about.
    """

    kinds: tuple[str, ...]
    name: str
    content: type[Content]

    def read(self, plan: Plan) -> Content:
        """What a plan brings about. Raises msgspec.ValidationError."""
        return msgspec.convert(plan.does[self.name], self.content)

    def rests_on(self, home: Home, content: Content) -> tuple[str, ...]:
        """What it rests on besides the chain before it: where that changes, the plan is void."""
        return ()

    @abstractmethod
    def differences(self, home: Home, plan: Plan, content: Content) -> list[str]:
        """Where what a plan says is not what it would do. Raises UnknownName, CorruptObject."""

    @abstractmethod
    def found(self, home: Home, content: Content) -> Findings:
        """What it would do as of now. Raises UnknownName, UsageError, CorruptObject."""

    def prepare(self, home: Home, content: Content) -> Any:
        """What carrying it out needs; asked before anything is written. Raises whatever refuses it."""
        return None

    @abstractmethod
    def carry_out(self, plan: Plan, content: Content, written: Written, prepared: Any) -> dict[str, Any]:
        """Write it down, and do it; returns what its receipt says."""

    def approver(self, home: Home, state: ChainState, content: Content, signatory: Signatory) -> Signatory:
        """As whom somebody says yes to it. Raises SignatureRefused where that would mean nothing."""
        who = member(state.roster, signatory.name) if state.roster else None
        if who is None or Role.APPROVER not in who.roles:
            raise SignatureRefused(f"{signatory.name} has not the role {Role.APPROVER}.")
        return signatory

    def keys(self, content: Content) -> list[str]:
        """Keys whose signatures mean something for it, besides those of the roster in force."""
        return []


def plan_act(
    home: Home,
    handling: Handling[Any],
    kind: str,
    subject: str,
    does: dict[str, Any],
    impact: dict[str, Any] | None = None,
) -> Plan:
    """An act as a plan; nothing is done. It rests on all that was permitted before it."""
    state = load(home.ledger, home.settings).state
    content = msgspec.convert(does[handling.name], handling.content)
    needed = 0
    if act_of(content).needs_approval(content) and state.roster is not None:
        author = own_signatory(home.ledger, home.settings).name
        needed = int(any(known.name != author for known in holders(state.roster, Role.APPROVER)))
    rests = _rests_on(home, handling, state, content)
    return make_plan(kind, subject, does, (), Decimal(0), rests, approvals=needed, impact=impact)


def propose(home: Home, handling: Handling[Any], plan: Plan, *sign_as: Signatory) -> Proposed:
    """Write a plan down with its author's signature, and execute it where nobody else must say yes.

    Raises SignatureRefused, PlanRefused where something was permitted since it was made.
    """
    with home.alone(_LOCK):
        proposed, state, signed = _write_down(home, handling, plan, sign_as or (governor(home.ledger, home.settings),))
        if proposed.waits_for:
            return proposed
        carry_out(home, handling, plan, state, signed)
    return proposed._replace(done=True)


def submit(home: Home, handling: Handling[Any], plan: Plan) -> Proposed:
    """Write a plan down with its author's signature, and no more: even alone one says it twice. Raises like ``propose``."""
    with home.alone(_LOCK):
        return _write_down(home, handling, plan, (governor(home.ledger, home.settings, CUSTODIANS),))[0]


def _write_down(
    home: Home, handling: Handling[Any], plan: Plan, authors: Sequence[Signatory]
) -> tuple[Proposed, ChainState, tuple[Signature, ...]]:
    name, content = plan_digest(plan), handling.read(plan)
    home.recorder.refresh()
    state = load(home.ledger, home.settings).state
    check_rests_on(home, handling, plan, state)
    at, by = now(), home.recorder.by
    signed = tuple(sign(author, content, name, state) for author in authors)
    waits_for = lacking(state, content, name, signed, own_home_key(home.settings))
    yes = [facts.PlanApproved(at=at, by=by, plan=name, signature=signature) for signature in signed]
    home.recorder.record(facts.PlanMade(at=at, by=by, digest=name, plan=plan), *yes)
    home.recorder.refresh()
    return Proposed(plan, name, False, waits_for), state, signed


def check_rests_on(home: Home, handling: Handling[Any], plan: Plan, state: ChainState) -> None:
    """Raises PlanRefused where what a plan rests on has changed."""
    if plan.facts != _rests_on(home, handling, state, handling.read(plan)):
        raise PlanRefused("What it rests on has changed since it was made.")


def _rests_on(home: Home, handling: Handling[Any], state: ChainState, content: msgspec.Struct) -> str:
    return digest_value(["permission", state.head, *handling.rests_on(home, content)])


def sign(signatory: Signatory, content: msgspec.Struct, plan: str, state: ChainState) -> Signature:
    """Somebody's signature for the place that an act would take now."""
    return signatory.sign(KIND, statement(content, plan, state.head))


def carry_out(
    home: Home, handling: Handling[Any], plan: Plan, state: ChainState, signatures: Sequence[Signature]
) -> None:
    """Do what a plan says, under its signatures; whoever calls this holds the lock. Raises ApprovalMissing, PlanRefused."""
    content, name, signed = handling.read(plan), plan_digest(plan), tuple(signatures)
    # Nothing is written that could not be read again.
    if lacking(state, content, name, signed, own_home_key(home.settings)):
        raise ApprovalMissing("(its signatures do not suffice)")
    shared = {"at": now(), "by": home.recorder.by, "plan": name, "previous": state.head, "signatures": signed}
    written = Written(home, shared, digest(ChainEntry(content, name, state.head, signed)))
    prepared = handling.prepare(home, content)
    try:
        with executing(home.recorder, plan, plan.facts) as result:
            result.update(handling.carry_out(plan, content, written, prepared))
            home.marker.mark()  # at once: what fails from here on must not keep others from noticing
            home.recorder.refresh()
            written.keep()
    except BaseException:
        with contextlib.suppress(StillhouseError):
            home.reload_policy()
        raise
    with contextlib.suppress(CorruptObject, StorageError, TermsError, RuleError):  # the act stands; every door is shut
        home.reload_policy()


def locked(home: Home) -> Any:
    """The lock of the chain of permission: one act at a time."""
    return home.alone(_LOCK)


def unlike(name: str, says: object, found: object) -> list[str]:
    """Where a plan says something else than what is found."""
    return [] if says == found else [f"{name}: it says {says}, and it is {found}"]
