"""The decision: for a stamp, a set of stamps, a dataset. Pure; nothing is looked up but what the policy was made of.

In order, and forbid wins: what a lab revoked; the organisation's own rules; how the teacher was reached; what the terms say, or
an agreement in their place. A waiver lifts what is unknown or the organisation's own; a document's ban and a revocation not, and
what is unknown is never published.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple

import msgspec

from stillhouse.canon import is_digest
from stillhouse.nouns import AccessChange, AccessKind, Channel, Decision, Ground, Origin, Stamp, StampSet, Use, Waiver
from stillhouse.permission.known_hosts import offered_by, owner_of
from stillhouse.permission.known_names import fold_lab, is_same_model, is_variant, labs_in
from stillhouse.permission.rules import Rule, Rules
from stillhouse.permission.terms_registry import Registry, TermsVersion, is_day, shipped
from stillhouse.permission.verdict_table import TABLE, Cell, TermsVerdict

_WORDS = {
    TermsVerdict.ALLOW: "allows it",
    TermsVerdict.CONDITIONS: "allows it on conditions",
    TermsVerdict.NO_COMPETING_MODEL: "forbids competing models",
    TermsVerdict.NO_MODEL: "forbids training any model on outputs",
    TermsVerdict.NO_GENERATION_FOR_TRAINING: "forbids generating content for training",
    TermsVerdict.NON_COMMERCIAL: "allows non-commercial use only",
    TermsVerdict.NO_USE_BY_COMPETITORS: "forbids use by competitors",
    TermsVerdict.FORBIDDEN: "forbids it",
    TermsVerdict.UPSTREAM: "leaves it to the model's own terms",
    TermsVerdict.UNCLEAR: "was not read with certainty",
    TermsVerdict.UNKNOWN: "is not known",
}
_REACHED_BADLY = {
    Channel.PERSONAL: "it came through a personal account, which the organisation's rules deny whatever the lab allows",
    Channel.INTERMEDIARY: "it came through an intermediary, which the organisation's rules deny whatever the lab allows",
    Channel.UNKNOWN: "it is not known how it was reached",
}
OWN_TERMS = "organisation/own"
# Who answers for something answers for it anew after a year.
LONGEST_WAIVER_DAYS = 366
_WAIVABLE = frozenset({Ground.ORGANISATION, Ground.UNKNOWN})


class Organisation(msgspec.Struct, frozen=True):
    """Facts about whoever runs this. ``competes_with`` holds labs, ``*`` meaning all of them; ``regions`` where it works.

    ``monthly_users`` decides on duties that begin with a number of users; 0 means that it is not known, and all of them count.
    """

    competes_with: tuple[str, ...] = ("*",)
    commercial: bool = True
    regions: tuple[str, ...] = ()
    monthly_users: int = 0

    def competes(self, lab: str) -> bool:
        """Would a model trained here compete with that lab's? With an unknown lab, it may."""
        return (
            not lab or "*" in self.competes_with or fold_lab(lab) in {fold_lab(known) for known in self.competes_with}
        )


class Door(StrEnum):
    """What is about to happen to a record, or to the answer that will be one."""

    ASK = "ask"  # a teacher is asked: a revocation forbids it even where the answers would only be stored
    CONTINUE = "continue"  # a call that was allowed goes on, or its answer is fetched: only a revocation stops it
    KEEP = "keep"  # it stands in a dataset: what is revoked stands in none, not even in one to be stored
    USE = "use"  # it serves a use


class _Denial(NamedTuple):
    ground: Ground
    reason: str
    citation: str = ""


class _Finding(NamedTuple):
    """What one source says: a denial, or reasons, duties and citations that speak for it."""

    denial: _Denial | None = None
    reason: str = ""
    duties: tuple[str, ...] = ()
    citation: str = ""


class Rows(NamedTuple):
    """Rows by the decision on their stamp set: (how many, which)."""

    decided: tuple[tuple[int, Decision], ...]

    @property
    def allowed(self) -> int:
        """Rows that may be used."""
        return sum(rows for rows, decision in self.decided if decision.allowed)

    @property
    def denied(self) -> int:
        """Rows that may not."""
        return sum(rows for rows, decision in self.decided if not decision.allowed)

    @property
    def denials(self) -> tuple[str, ...]:
        """Why not, each reason once."""
        return _unique(decision.reason for _, decision in self.decided if not decision.allowed)

    @property
    def duties(self) -> tuple[str, ...]:
        """What must be done for those that may."""
        return _unique(duty for _, decision in self.decided for duty in decision.duties)

    @property
    def waivers(self) -> tuple[str, ...]:
        """The waivers by which some of them may."""
        return _unique(waiver for _, decision in self.decided for waiver in decision.waivers)


class Policy:
    """Everything that decides, as of one moment. ``changes`` and ``waivers`` are in the order in which they were made."""

    def __init__(
        self,
        organisation: Organisation | None = None,
        registry: Registry | None = None,
        rules: Rules | None = None,
        changes: Sequence[AccessChange] = (),
        waivers: Sequence[Waiver] = (),
        today: str = "",
    ) -> None:
        """``today`` decides which waivers have expired; without it all have."""
        self.organisation = organisation or Organisation()
        self.registry = registry or shipped()
        self.rules = rules or Rules()
        self.changes = standing(changes)
        self.today = today
        self.waivers = tuple(waiver for waiver in waivers if today and waiver.expires >= today)
        self._decided: dict[tuple[Stamp, Use], Decision] = {}

    def check(self, door: Door, stamps: Iterable[Stamp], use: Use) -> Decision:
        """May a record with these stamps pass a door for a use? That of its strictest part; duties add up; unknown means no."""
        members = list(stamps)
        if door is Door.USE:
            return join(use, [self._by_stamp(stamp, use) for stamp in members])
        revoked = [denial for stamp in members if (denial := self._revocation(stamp, use)) is not None]
        if revoked:
            return _decision(use, revoked, [])
        if door is Door.CONTINUE:
            return Decision(use, True, "access is not revoked")
        stored = self.check(Door.USE, members, Use.STORE) if door is Door.ASK else None
        return stored if stored is not None and not stored.allowed else self.check(Door.USE, members, use)

    def check_rows(self, counts: Mapping[str, int], sets: Mapping[int, StampSet], use: Use) -> Rows:
        """May a dataset's rows be used so? Decided once per stamp set. ``counts`` are rows by stamp set, as a version has them;
        a set that nobody knows may not be used.
        """
        known = ((rows, sets[int(id)].stamps if int(id) in sets else ()) for id, rows in counts.items())
        return Rows(tuple((rows, self.check(Door.USE, stamps, use)) for rows, stamps in known))

    def _by_stamp(self, stamp: Stamp, use: Use) -> Decision:
        known = self._decided.get((stamp, use))
        if known is None:
            known = self._decided[stamp, use] = self._decide(stamp, use)
        return known

    def revoked_by(self, stamp: Stamp, use: Use) -> AccessChange | None:
        """The revocation that is in force for this, if any: of all changes of a lab that are about it, the last one counts.

        An answer can be of two labs: the one that it is said to be of, and the one that its model's name gives away.
        """
        return next((change for change in self.last_words(stamp, use) if change.kind == AccessKind.REVOKE), None)

    def last_words(self, stamp: Stamp, use: Use) -> list[AccessChange]:
        """The last change that is about this, of each lab that it may be of, and of whoever offers what it came through."""
        found = []
        through = frozenset() if stamp.origin is Origin.PROMPT_SEED else offered_by(stamp.terms, stamp.provider)
        for lab in sorted(_labs(stamp) | through):
            about = (c for c in reversed(self.changes) if fold_lab(c.lab) == lab and _concerns(c, stamp, use))
            found += [change for change in (next(about, None),) if change is not None]
        return found

    def _decide(self, stamp: Stamp, use: Use) -> Decision:
        denials: list[_Denial] = []
        findings: list[_Finding] = []
        if use is not Use.STORE:
            revocation = self._revocation(stamp, use)
            denials += [revocation] if revocation else []
        rules = self._rules(stamp, use)
        denials += [
            _Denial(
                Ground.ORGANISATION,
                f"{_who(stamp)}: {rule.reason} (rule {rule.name})",
                f"rule {rule.name} ({rule.owner})",
            )
            for rule in rules
            if rule.effect == "forbid"
        ]
        by_model = stamp.origin in (Origin.TEACHER, Origin.OWN_MODEL)
        if by_model and use is not Use.STORE and stamp.channel in _REACHED_BADLY:
            permit = next((rule for rule in rules if rule.effect == "permit"), None)
            if permit is None:
                denials.append(_Denial(Ground.ORGANISATION, f"{_who(stamp)}: {_REACHED_BADLY[stamp.channel]}"))
            else:
                reason = f"{_who(stamp)}: {permit.reason}"
                findings.append(_Finding(reason=reason, citation=f"rule {permit.name} ({permit.owner})"))
        for finding in self._terms(stamp, use):
            if finding.denial is not None:
                denials.append(finding.denial)
            else:
                findings.append(finding)
        standing, waivers = self._waive(stamp, use, denials)
        return _decision(use, standing, findings, waivers)

    def _rules(self, stamp: Stamp, use: Use) -> list[Rule]:
        """Rules about this, by whichever lab it may be of: one that forbids counts for any of them, one that permits for all."""
        if not self.rules.rules:
            return []
        labs = sorted(_labs(stamp)) or [stamp.lab]
        found = [self.rules.matching(msgspec.structs.replace(stamp, lab=lab), use) for lab in labs]
        matched = {rule.name: rule for rules in found for rule in rules}.values()
        return [rule for rule in matched if rule.effect == "forbid" or all(rule in rules for rules in found)]

    def _revocation(self, stamp: Stamp, use: Use) -> _Denial | None:
        change = self.revoked_by(stamp, use)
        if change is None:
            return None
        since = f" for answers of {change.since} and later" if change.since else ""
        why = f" ({change.reason})" if change.reason else ""
        unknown = "" if stamp.day else "; on which day it was given is not known"
        reason = f"{_who(stamp)}: {change.lab} revoked access{since}{why}{unknown}"
        return _Denial(Ground.REVOCATION, reason, f"revocation {change.id}")

    def _agreement(self, stamp: Stamp, use: Use) -> AccessChange | None:
        """The negotiated agreement in whose force an answer was given."""
        given = (
            c
            for c in reversed(self.changes)
            if c.kind == AccessKind.GRANT and c.verdict and fold_lab(c.lab) == fold_lab(stamp.lab)
        )
        return next((change for change in given if _concerns(change, stamp, use)), None)

    def _terms(self, stamp: Stamp, use: Use) -> list[_Finding]:
        agreement = self._agreement(stamp, use)
        if agreement is not None:
            name = f"agreement {agreement.id} ({agreement.authority or agreement.document})"
            return [self._apply(stamp, use, TermsVerdict(agreement.verdict), name, agreement.duties)]
        if not stamp.terms:
            return [self._apply(stamp, use, TermsVerdict.UNKNOWN, "no terms are recorded, so what they allow", ())]
        found: list[_Finding] = []
        versions: list[TermsVersion] = []
        bound = list(stamp.terms)
        for terms in bound:  # it grows by what these documents make part of themselves
            if terms == OWN_TERMS:
                found.append(_Finding(reason=f"{_who(stamp)}: the organisation's own work", citation=terms))
                continue
            governing = self.registry.governing(terms, stamp.day)
            versions += governing
            bound += [more for version in governing for more in version.incorporates if more not in bound]
            found += [self._version(stamp, use, version) for version in governing]
            if not governing:
                on = f" as of {stamp.day}" if stamp.day else ""
                found.append(self._apply(stamp, use, TermsVerdict.UNKNOWN, terms, (), beside=on))
        by_model = stamp.origin in (Origin.TEACHER, Origin.OWN_MODEL)
        own = OWN_TERMS in stamp.terms
        if by_model and versions and not own and all(version.verdict is TermsVerdict.UPSTREAM for version in versions):
            found.append(
                self._apply(stamp, use, TermsVerdict.UNKNOWN, "no terms of the model itself are recorded: it", ())
            )
        return found

    def _version(self, stamp: Stamp, use: Use, version: TermsVersion) -> _Finding:
        barred = set(version.excluded_regions) & {stamp.region, *self.organisation.regions}
        if barred and use is not Use.STORE:
            reason = f"{_who(stamp)}: {version.id} does not hold in {', '.join(sorted(barred))}"
            return _Finding(_Denial(Ground.TERMS, reason, version.id))
        users = self.organisation.monthly_users
        display = [limit.duty for limit in version.thresholds if not users or users > limit.users]
        conditions = (f"condition: {condition}" for condition in version.conditions)
        duties = tuple(dict.fromkeys((*version.duties, *display, *conditions)))
        stale = (
            f" (stale: last seen on {version.last_seen or version.observed})"
            if version.is_stale(stamp.day or self.today)
            else ""
        )
        verdict, owner = version.verdict_for(use), owner_of(version.service)
        return self._apply(stamp, use, verdict, version.id, duties, owner, stale)

    def _apply(
        self,
        stamp: Stamp,
        use: Use,
        verdict: TermsVerdict,
        document: str,
        duties: tuple[str, ...],
        owner: str = "",
        beside: str = "",
    ) -> _Finding:
        """``owner`` is whose service the document is of: what competes with it, or with the model's lab, competes. ``beside`` is
        said after its name: as of which day, or that its text was not seen for long.
        """
        cell = TABLE[verdict][use]
        reason = f"{_who(stamp)}: {document}{beside} {_WORDS[verdict]}"
        organisation = self.organisation
        match cell:
            case Cell.ALLOW:
                allowed = True
            case Cell.IF_NOT_COMPETING:
                whom = [lab for lab in dict.fromkeys((stamp.lab, owner or stamp.lab)) if organisation.competes(lab)]
                allowed = not whom
                does = "does not compete" if allowed else "competes"
                reason += f", and this organisation {does} with {(whom[0] if whom else stamp.lab) or 'an unknown lab'}"
            case Cell.IF_NOT_FOR_TRAINING:
                allowed = stamp.purpose != Use.TRAIN
                reason += f", and it was collected to {stamp.purpose or 'an unknown end'}"
            case Cell.IF_NON_COMMERCIAL:
                allowed = not organisation.commercial
                reason += ", and this organisation is " + ("commercial" if organisation.commercial else "not")
            case Cell.DENY:
                allowed = False
        if allowed:
            return _Finding(None, reason, duties, document)
        vague = verdict in (TermsVerdict.UNKNOWN, TermsVerdict.UNCLEAR)
        return _Finding(_Denial(Ground.UNKNOWN if vague else Ground.TERMS, reason, document))

    def _waive(self, stamp: Stamp, use: Use, denials: list[_Denial]) -> tuple[list[_Denial], list[Waiver]]:
        """Denials that stand, and the waivers that lifted the others. Where one stands, no waiver acts."""
        waiver = next((waiver for waiver in self.waivers if _lifts(waiver, stamp, use)), None)
        publishes = use is Use.PUBLISH_DATA
        waivable = _WAIVABLE - {Ground.UNKNOWN} if publishes else _WAIVABLE
        if publishes and stamp.channel is Channel.UNKNOWN:
            waivable -= {Ground.ORGANISATION}  # how it was reached is unknown, too
        standing = [
            denial
            for denial in denials
            if waiver is None or denial.ground not in waivable or not _is_about(waiver, denial.citation)
        ]
        if standing or waiver is None or not denials:
            return denials, []
        return [], [waiver]


def latest_end(given: str) -> str:
    """The last day on which a waiver that was given on a day may act: a year on."""
    return (date.fromisoformat(given) + timedelta(days=LONGEST_WAIVER_DAYS)).isoformat()


def join(use: Use, decisions: Sequence[Decision]) -> Decision:
    """Forbid wins; with nothing to go by, no."""
    if not decisions:
        return Decision(use, False, "it carries no stamp, and unknown means no", grounds=(Ground.UNKNOWN,))
    if len(decisions) == 1:
        return decisions[0]
    denied = [decision for decision in decisions if not decision.allowed]
    which = denied or decisions
    return Decision(
        use,
        not denied,
        "; ".join(dict.fromkeys(decision.reason for decision in which)),
        () if denied else _unique(duty for decision in decisions for duty in decision.duties),
        tuple(sorted({ground for decision in denied for ground in decision.grounds})),
        _unique(citation for decision in which for citation in decision.citations),
        () if denied else _unique(waiver for decision in decisions for waiver in decision.waivers),
    )


def _decision(
    use: Use, denials: Sequence[_Denial], findings: Sequence[_Finding], waivers: Sequence[Waiver] = ()
) -> Decision:
    if denials:
        return Decision(
            use,
            False,
            "; ".join(dict.fromkeys(denial.reason for denial in denials)),
            grounds=tuple(sorted({denial.ground for denial in denials})),
            citations=_unique(denial.citation for denial in denials),
        )
    reasons = [finding.reason for finding in findings]
    reasons += [f"WAIVED by {waiver.owner} until {waiver.expires}: {waiver.reason}" for waiver in waivers]
    return Decision(
        use,
        True,
        "; ".join(dict.fromkeys(reason for reason in reasons if reason)),
        _unique(duty for finding in findings for duty in finding.duties),
        citations=_unique(finding.citation for finding in findings),
        waivers=tuple(waiver.id for waiver in waivers),
    )


def standing(changes: Sequence[AccessChange]) -> tuple[AccessChange, ...]:
    """The changes that are not void. One that reverses another does nothing else; reversed itself, it does nothing at all."""
    void = void_ids(changes)
    return tuple(change for change in changes if change.id not in void and not change.reverses)


def void_ids(changes: Sequence[AccessChange]) -> frozenset[str]:
    """The changes that a later one has reversed, which is not void itself."""
    void: set[str] = set()
    for change in reversed(changes):
        if change.reverses and change.id not in void:
            void.add(change.reverses)
    return frozenset(void)


def _labs(stamp: Stamp) -> frozenset[str]:
    """Whose an answer may be, as far as grants and revocations go."""
    if stamp.origin is Origin.PROMPT_SEED:
        return frozenset()
    return frozenset({fold_lab(stamp.lab)} | labs_in(stamp.model)) - {""}


def _concerns(change: AccessChange, stamp: Stamp, use: Use) -> bool:
    """Is a change of one of its labs about this? What nobody knows of an answer counts where it is a revocation: it may have been
    given by that account, through that channel, after that day.
    """
    revokes = change.kind == AccessKind.REVOKE
    nameless = not stamp.model or is_digest(stamp.model)
    same = is_variant if revokes else is_same_model
    if change.models and not any(same(stamp.model, wanted) for wanted in change.models) and not (revokes and nameless):
        return False
    if change.channels and stamp.channel not in change.channels and not (revokes and stamp.channel is Channel.UNKNOWN):
        return False
    if change.accounts and stamp.account not in change.accounts and not (revokes and not stamp.account):
        return False
    if (change.uses and use not in change.uses) or use in change.exempt:
        return False
    if not is_day(stamp.day):
        return revokes or not (change.since or change.until)
    return stamp.day >= change.since and not (change.until and stamp.day > change.until)


def _lifts(waiver: Waiver, stamp: Stamp, use: Use) -> bool:
    if waiver.use is not use:
        return False
    if waiver.lab and fold_lab(waiver.lab) != fold_lab(stamp.lab):
        return False
    if waiver.channel is not None and waiver.channel is not stamp.channel:
        return False
    return not waiver.terms or waiver.terms.partition("@")[0] in {terms.partition("@")[0] for terms in stamp.terms}


def _is_about(waiver: Waiver, citation: str) -> bool:
    """A waiver of one document lifts what is unknown of that one, and nothing else that stands beside it."""
    return not waiver.terms or citation.partition("@")[0] == waiver.terms.partition("@")[0]


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


def _who(stamp: Stamp) -> str:
    return stamp.lab or str(stamp.origin)


def facts_of(organisation: Organisation) -> Mapping[str, object]:
    """What rules may ask of an organisation."""
    facts: Mapping[str, object] = msgspec.to_builtins(organisation)
    return facts
