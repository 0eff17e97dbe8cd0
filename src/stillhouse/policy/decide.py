"""The decision: for a stamp, a set of stamps, a dataset. Pure; nothing is looked up but the registry."""

from collections.abc import Iterable

import msgspec

from stillhouse.nouns import Channel, Decision, Origin, Stamp, Use
from stillhouse.policy.registry import resolve
from stillhouse.policy.table import TABLE, Rule, Verdict

_WORDS = {
    Verdict.ALLOW: "allows it",
    Verdict.CONDITIONS: "allows it on conditions",
    Verdict.NO_COMPETING_MODEL: "forbids competing models",
    Verdict.NO_MODEL: "forbids training any model on outputs",
    Verdict.NO_GENERATION_FOR_TRAINING: "forbids generating content for training",
    Verdict.NON_COMMERCIAL: "allows non-commercial use only",
    Verdict.UPSTREAM: "leaves it to the model's own terms",
    Verdict.UNCLEAR: "was not read with certainty",
    Verdict.UNKNOWN: "is not known",
}
_REACHED_BADLY = {
    Channel.PERSONAL: "it came through a personal account, which the organisation's rules deny whatever the lab allows",
    Channel.INTERMEDIARY: "it came through an intermediary, which the organisation's rules deny whatever the lab allows",
    Channel.UNKNOWN: "it is not known how it was reached",
}
OWN_TERMS = "organisation/own"


class Organisation(msgspec.Struct, frozen=True):
    """Facts about whoever runs this. ``competes_with`` holds labs; ``*`` means all of them."""

    competes_with: tuple[str, ...] = ("*",)
    commercial: bool = True

    def competes(self, lab: str) -> bool:
        """Would a model trained here compete with that lab's?"""
        return "*" in self.competes_with or lab in self.competes_with


def decide(stamp: Stamp, use: Use, organisation: Organisation) -> Decision:
    """May what carries this stamp be used so? Unknown means no."""
    by_model = stamp.origin in (Origin.TEACHER, Origin.OWN_MODEL)
    if by_model and use is not Use.STORE and stamp.channel in _REACHED_BADLY:
        return Decision(use, False, f"{_who(stamp)}: {_REACHED_BADLY[stamp.channel]}")
    if not stamp.terms:
        return _apply(stamp, use, organisation, Verdict.UNKNOWN, "no terms are recorded, so what they allow", ())
    decisions = [_decide_document(stamp, terms, use, organisation) for terms in stamp.terms]
    if by_model and all(_is_upstream(terms, stamp.day) for terms in stamp.terms):
        return _apply(stamp, use, organisation, Verdict.UNKNOWN, "no terms of the model itself are recorded: it", ())
    return join(use, decisions)


def decide_set(stamps: Iterable[Stamp], use: Use, organisation: Organisation) -> Decision:
    """The decision on a derived record: that of its strictest part; duties add up."""
    return join(use, [decide(stamp, use, organisation) for stamp in stamps])


def join(use: Use, decisions: list[Decision]) -> Decision:
    """Forbid wins; with nothing to go by, no."""
    if not decisions:
        return Decision(use, False, "it carries no stamp, and unknown means no")
    denied = [decision for decision in decisions if not decision.allowed]
    if denied:
        return Decision(use, False, "; ".join(dict.fromkeys(decision.reason for decision in denied)))
    duties = tuple(dict.fromkeys(duty for decision in decisions for duty in decision.duties))
    return Decision(use, True, "; ".join(dict.fromkeys(decision.reason for decision in decisions)), duties)


def _decide_document(stamp: Stamp, terms: str, use: Use, organisation: Organisation) -> Decision:
    if terms == OWN_TERMS:
        return Decision(use, True, f"{_who(stamp)}: the organisation's own work")
    version = resolve(terms, stamp.day)
    if version is None:
        on = f" as of {stamp.day}" if stamp.day else ""
        return _apply(stamp, use, organisation, Verdict.UNKNOWN, f"{terms}{on}", ())
    return _apply(stamp, use, organisation, version.verdict, version.id, version.duties)


def _is_upstream(terms: str, day: str) -> bool:
    version = resolve(terms, day)
    return version is not None and version.verdict is Verdict.UPSTREAM


def _apply(
    stamp: Stamp, use: Use, organisation: Organisation, verdict: Verdict, document: str, duties: tuple[str, ...]
) -> Decision:
    rule = TABLE[verdict][use]
    reason = f"{_who(stamp)}: {document} {_WORDS[verdict]}"
    match rule:
        case Rule.ALLOW:
            allowed = True
        case Rule.IF_NOT_COMPETING:
            allowed = not organisation.competes(stamp.lab)
            reason += (
                ", and this organisation " + ("does not compete" if allowed else "competes") + f" with {stamp.lab}"
            )
        case Rule.IF_NOT_FOR_TRAINING:
            allowed = stamp.purpose != Use.TRAIN
            reason += f", and it was collected to {stamp.purpose or 'an unknown end'}"
        case Rule.IF_NON_COMMERCIAL:
            allowed = not organisation.commercial
            reason += ", and this organisation is " + ("commercial" if organisation.commercial else "not")
        case Rule.DENY:
            allowed = False
    return Decision(use, allowed, reason, duties if allowed else ())


def _who(stamp: Stamp) -> str:
    return stamp.lab or str(stamp.origin)
