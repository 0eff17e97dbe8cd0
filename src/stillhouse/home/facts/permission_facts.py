"""Entries about who may do what: the chain of permission, and what was decided by it."""

from stillhouse.home.facts.declarations import Fact, Kept, Table, table_of_acts
from stillhouse.nouns import AccessChange, NotACopy, PolicyAdoption, Roster, Signature, Teacher, Waiver


class RosterChanged(Fact, frozen=True, tag="roster-changed"):
    """Another roster holds from now on. ``signatures`` are those of its predecessor's members, or of its recovery key."""

    roster: Roster
    change: str
    plan: str
    previous: str
    signatures: tuple[Signature, ...]

    tables = (table_of_acts("Roster", "roster", "change"),)
    act = "roster"


class AccessChanged(Fact, frozen=True, tag="access-changed"):
    """A lab's access was granted or revoked. All acts of permission are one chain: ``previous`` names the one before."""

    change: AccessChange
    plan: str
    previous: str
    signatures: tuple[Signature, ...]

    tables = (table_of_acts("AccessChange", "change"),)
    act = "change"


class WaiverGiven(Fact, frozen=True, tag="waiver-given"):
    """A waiver acts from now on."""

    waiver: Waiver
    plan: str
    previous: str
    signatures: tuple[Signature, ...]

    tables = (table_of_acts("Waiver", "waiver"),)
    act = "waiver"


class PolicyAdopted(Fact, frozen=True, tag="policy-adopted"):
    """The organisation's documents and teachers, as they decide from now on."""

    adoption: PolicyAdoption
    plan: str
    previous: str
    signatures: tuple[Signature, ...]

    tables = (table_of_acts("PolicyAdoption", "adoption"),)
    keeps = (Kept("policy", "adoption.documents"),)
    act = "adoption"


class TeacherApproved(Fact, frozen=True, tag="teacher-approved"):
    """A teacher was registered under signatures, as it must be where there is a roster."""

    teacher: Teacher
    plan: str
    previous: str
    signatures: tuple[Signature, ...]

    tables = (
        table_of_acts("Teacher", "teacher"),
        Table(
            "teachers", indexes=("name",), columns={"name": "teacher.name"}, without=("plan", "previous", "signatures")
        ),
    )
    act = "teacher"


class FoundNotACopy(Fact, frozen=True, tag="found-not-a-copy"):
    """Something that was recognised was found to be no copy, and is recognised no more."""

    finding: NotACopy
    plan: str
    previous: str
    signatures: tuple[Signature, ...]

    tables = (table_of_acts("NotACopy", "finding"),)
    keeps = (Kept("policy", "finding.objects"),)
    act = "finding"


class GateDecided(Fact, frozen=True, tag="gate-decided"):
    """Whether a job may start on some datasets, and why."""

    subjects: tuple[str, ...]
    use: str
    allowed: bool
    reasons: tuple[str, ...]
    job: str
    signature: Signature

    tables = (Table("gates"),)


class RefusalMade(Fact, frozen=True, tag="refusal-made"):
    """Something was refused by policy, and why."""

    subject: str
    reason: str

    tables = (Table("refusals"),)
