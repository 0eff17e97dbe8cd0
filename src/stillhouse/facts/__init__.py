"""The entries of the log: everything that can happen, as values. The ledger is a view of these and of nothing else."""

import msgspec

from stillhouse.facts.base import Fact
from stillhouse.facts.custody import (
    CopyMade as CopyMade,
)
from stillhouse.facts.custody import (
    DayPassed as DayPassed,
)
from stillhouse.facts.custody import (
    Deleted as Deleted,
)
from stillhouse.facts.custody import (
    DeletionUndone as DeletionUndone,
)
from stillhouse.facts.custody import (
    Discarded as Discarded,
)
from stillhouse.facts.custody import (
    Drilled as Drilled,
)
from stillhouse.facts.custody import (
    Erased as Erased,
)
from stillhouse.facts.custody import (
    ErasureKeyDestroyed as ErasureKeyDestroyed,
)
from stillhouse.facts.custody import (
    ErasureKeyMade as ErasureKeyMade,
)
from stillhouse.facts.custody import (
    Examined as Examined,
)
from stillhouse.facts.custody import (
    HoldPlaced as HoldPlaced,
)
from stillhouse.facts.custody import (
    HoldReleased as HoldReleased,
)
from stillhouse.facts.custody import (
    Reclaimed as Reclaimed,
)
from stillhouse.facts.custody import (
    Recovered as Recovered,
)
from stillhouse.facts.custody import (
    Registered as Registered,
)
from stillhouse.facts.custody import (
    Scrubbed as Scrubbed,
)
from stillhouse.facts.custody import (
    SnapshotTaken as SnapshotTaken,
)
from stillhouse.nouns import (
    AccessChange,
    DatasetVersion,
    Evaluation,
    GatewayKey,
    Message,
    Model,
    Outcome,
    Plan,
    Receipt,
    Roster,
    Signature,
    Stamp,
    Teacher,
    Usage,
    Verdict,
    Waiver,
)


class TeacherRegistered(Fact, frozen=True, tag="teacher-registered"):
    """A teacher was registered, or registered anew under its name."""

    teacher: Teacher


class StampsSeen(Fact, frozen=True, tag="stamps-seen"):
    """A stamp set was used for the first time; from now on its integer stands for it."""

    id: int
    digest: str
    stamps: tuple[Stamp, ...]


class PromptSeen(Fact, frozen=True, tag="prompt-seen"):
    """A prompt was used for the first time; from now on its digest stands for it."""

    prompt: str
    messages: tuple[Message, ...]


class PlanMade(Fact, frozen=True, tag="plan-made"):
    """A plan was made and is about to be executed, or waits for approval."""

    digest: str
    plan: Plan


class ReceiptLeft(Fact, frozen=True, tag="receipt-left"):
    """What came of a plan."""

    receipt: Receipt


class PlanApproved(Fact, frozen=True, tag="plan-approved"):
    """Somebody says yes to a plan, over its digest."""

    plan: str
    signature: Signature


class RosterChanged(Fact, frozen=True, tag="roster-changed"):
    """Another roster holds from now on. ``signatures`` are those of its predecessor's members, or of its recovery key."""

    roster: Roster
    change: str
    plan: str
    previous: str
    signatures: tuple[Signature, ...]


class AccessChanged(Fact, frozen=True, tag="access-changed"):
    """A lab's access was granted or revoked. All acts of permission are one chain: ``previous`` names the one before."""

    change: AccessChange
    plan: str
    previous: str
    signatures: tuple[Signature, ...]


class WaiverGiven(Fact, frozen=True, tag="waiver-given"):
    """A waiver acts from now on."""

    waiver: Waiver
    plan: str
    previous: str
    signatures: tuple[Signature, ...]


class BudgetLeased(Fact, frozen=True, tag="budget-leased"):
    """A process took a slice of some caps: what it asks under this lease is charged to them. Slices of a lease add up.

    ``holder`` is the file whose lock the process holds for as long as it lives.
    """

    lease: str
    holder: str
    scopes: tuple[str, ...]
    usd: str


class BudgetReturned(Fact, frozen=True, tag="budget-returned"):
    """A lease is over: from now on its caps are charged what it used, calls of unknown fate at their worst case.

    Where a call of an ended lease is settled later, another one corrects it by its ``used_usd``, which may be negative.
    """

    lease: str
    used_usd: str


class Asked(Fact, frozen=True, tag="asked"):
    """These calls are about to be sent. Until each is answered or failed it may have been paid for: *unsettled*."""

    run: str
    teacher: str
    keys: tuple[str, ...]
    worst_case_usd: str
    lease: str = ""


class BatchedCall(msgspec.Struct, frozen=True):
    """A call within a batch: enough to write its answer down, whoever comes to fetch it."""

    key: str
    task: str
    prompt: str
    sample: int


class BatchPrepared(Fact, frozen=True, tag="batch-prepared"):
    """These calls are about to be submitted as one batch; their answers carry these stamps."""

    batch: str
    run: str
    teacher: str
    stamps: int
    calls: tuple[BatchedCall, ...]


class BatchSubmitted(Fact, frozen=True, tag="batch-submitted"):
    """The provider has taken a batch, and calls it ``remote``."""

    batch: str
    remote: str


class BatchEnded(Fact, frozen=True, tag="batch-ended"):
    """Every call of a batch is settled, or surely was never submitted (``reason``)."""

    batch: str
    reason: str


class Answered(Fact, frozen=True, tag="answered"):
    """An answer, as it came (``raw``) and as it was read (``text``, ``finish``)."""

    run: str
    teacher: str
    key: str
    task: str
    prompt: str
    sample: int
    stamps: int
    text: str
    finish: str
    usage: Usage
    cost_usd: str
    seconds: float
    raw: str
    lease: str = ""


class CallFailed(Fact, frozen=True, tag="call-failed"):
    """A call brought no answer. ``charged`` stays true where nobody can know that it was free."""

    run: str
    teacher: str
    key: str
    reason: str
    status: int
    charged: bool
    lease: str = ""


class KeyIssued(Fact, frozen=True, tag="key-issued"):
    """A client may use the gateway with this key."""

    key: GatewayKey


class KeyRevoked(Fact, frozen=True, tag="key-revoked"):
    """A key opens nothing any more."""

    key: str
    reason: str


class CallReceived(Fact, frozen=True, tag="call-received"):
    """A call came to the gateway and is about to be forwarded, with these headers besides the managed ones.

    ``body`` is text, or base64 where it is not UTF-8. ``digest`` is of all by which two calls are the same.
    """

    call: str
    key: str
    teacher: str
    path: str
    purpose: str
    stamps: int
    body: str
    base64: bool = False
    idempotency: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    digest: str = ""


class ChunkReceived(Fact, frozen=True, tag="chunk-received"):
    """A piece of a call's answer came from the teacher, and is about to be forwarded."""

    call: str
    data: str
    base64: bool = False


class CallReturned(Fact, frozen=True, tag="call-returned"):
    """A call through the gateway is over. ``body`` is empty where it came in pieces. ``redacted`` counts echoed keys."""

    call: str
    status: int
    outcome: Outcome
    reason: str
    kind: str
    body: str
    base64: bool = False
    redacted: int = 0
    idempotency: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class CorpusImported(Fact, frozen=True, tag="corpus-imported"):
    """What somebody else collected was read in: as which dataset's run, from which file, and of which shape.

    Where it is ``erasable`` as a source, its answers are in the log without their words, and known by aliases.
    """

    run: str
    source: str
    digest: str
    shape: str
    rows: int
    skipped: dict[str, int]
    erasable: str = ""


class Judged(Fact, frozen=True, tag="judged"):
    """An answer's code was run. ``judge`` is the digest of the tests and of the way they are applied."""

    run: str
    key: str
    task: str
    judge: str
    verdict: Verdict


class DatasetFormed(Fact, frozen=True, tag="dataset-formed"):
    """A dataset version exists."""

    run: str
    dataset: DatasetVersion


class Placed(msgspec.Struct, frozen=True):
    """Where one record ended in the forming of a dataset: kept (no step), or dropped at a step for a reason."""

    key: str
    stamps: int
    step: str = ""
    reason: str = ""


class RecordsPlaced(Fact, frozen=True, tag="records-placed"):
    """Which records a dataset version kept and which it dropped, and why. Written before its DatasetFormed."""

    dataset: str
    records: tuple[Placed, ...]


class Derived(Fact, frozen=True, tag="derived"):
    """An edge of lineage: ``child`` was made from ``parent``."""

    parent: str
    child: str
    kind: str


class Exported(Fact, frozen=True, tag="exported"):
    """A dataset version left the home as a file with these bytes."""

    dataset: str
    digest: str
    name: str
    rows: int


class GateDecided(Fact, frozen=True, tag="gate-decided"):
    """Whether a job may start on some datasets, and why."""

    subjects: tuple[str, ...]
    use: str
    allowed: bool
    reasons: tuple[str, ...]
    job: str
    signature: Signature


class RunOpened(Fact, frozen=True, tag="run-opened"):
    """A recipe begins to run. Everything that it takes to run it again is in the objects that it names by digest."""

    run: str
    recipe: str
    inputs: dict[str, str]
    code: str
    environment: str
    machine: str


class StepTaken(Fact, frozen=True, tag="step-taken"):
    """One step of a training: what it learned from, and how it went. A step that a kill made happen twice stands twice.

    ``shares`` counts its answer tokens by stamp set.
    """

    training: str
    step: int
    records: tuple[str, ...]
    tokens: int
    answer_tokens: int
    loss: float
    learning_rate: float
    seconds: float
    shares: dict[str, int] = msgspec.field(default_factory=dict)


class ModelTrained(Fact, frozen=True, tag="model-trained"):
    """A model exists; from now on its weights are known by their digest."""

    model: Model


class Evaluated(Fact, frozen=True, tag="evaluated"):
    """Models were evaluated on a suite; ``subject`` is the one that it was done for."""

    subject: str
    evaluation: Evaluation


class PassportWritten(Fact, frozen=True, tag="passport-written"):
    """A passport was given out. ``digest`` is that of its file, ``signer`` the key that signed it."""

    model: str
    digest: str
    signer: str


class RefusalMade(Fact, frozen=True, tag="refusal-made"):
    """Something was refused by policy, and why."""

    subject: str
    reason: str


class TailCut(Fact, frozen=True, tag="tail-cut"):
    """A writer found a torn tail in its chain and cut it; the bytes were kept aside."""

    writer: str
    entry: int
    bytes: int
    kept_in: str


AnyFact = (
    TeacherRegistered
    | StampsSeen
    | PromptSeen
    | PlanMade
    | ReceiptLeft
    | PlanApproved
    | RosterChanged
    | AccessChanged
    | WaiverGiven
    | BudgetLeased
    | BudgetReturned
    | Asked
    | BatchPrepared
    | BatchSubmitted
    | BatchEnded
    | Answered
    | CallFailed
    | KeyIssued
    | KeyRevoked
    | CallReceived
    | ChunkReceived
    | CallReturned
    | CorpusImported
    | Judged
    | DatasetFormed
    | RecordsPlaced
    | Derived
    | Exported
    | GateDecided
    | RunOpened
    | StepTaken
    | ModelTrained
    | Evaluated
    | PassportWritten
    | SnapshotTaken
    | Registered
    | Examined
    | CopyMade
    | Scrubbed
    | Drilled
    | HoldPlaced
    | HoldReleased
    | Deleted
    | ErasureKeyMade
    | Erased
    | ErasureKeyDestroyed
    | DeletionUndone
    | Discarded
    | Recovered
    | Reclaimed
    | DayPassed
    | RefusalMade
    | TailCut
)

_encoder = msgspec.json.Encoder()
_PLAIN = {"str": str, "int": int, "bool": bool}
# The plain fields of every kind of fact: what comes from outside must not be written as something that cannot be read again.
_CHECKED = {
    kind: tuple((field.name, field.type) for field in msgspec.structs.fields(kind) if field.type in _PLAIN.values())
    for kind in AnyFact.__args__
}
_decoder: msgspec.json.Decoder[AnyFact] = msgspec.json.Decoder(AnyFact)


def encode(fact: AnyFact) -> bytes:
    """A fact as the payload of a log entry. Raises TypeError for one that could not be read again."""
    for name, kind in _CHECKED[type(fact)]:
        if type(getattr(fact, name)) is not kind and not isinstance(getattr(fact, name), str if kind is str else ()):
            raise TypeError(f"{type(fact).__name__}.{name} is {getattr(fact, name)!r:.80}, and no {kind.__name__}")
    if isinstance(fact, Answered) and not (type(fact.usage.prompt_tokens) is type(fact.usage.completion_tokens) is int):
        raise TypeError(f"{fact.usage} holds no counts")
    return _encoder.encode(fact)


def decode(payload: bytes) -> AnyFact:
    """The fact of a log entry. Raises msgspec.MsgspecError for a kind that this version does not know."""
    return _decoder.decode(payload)
