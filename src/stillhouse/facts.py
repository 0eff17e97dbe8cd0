"""The entries of the log: everything that can happen, as values. The ledger is a view of these and of nothing else."""

import msgspec

from stillhouse.nouns import DatasetVersion, Evaluation, Message, Model, Plan, Receipt, Stamp, Teacher, Usage, Verdict


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="fact"):
    """Something that happened. ``at`` is when it was written down; ``by`` who or what wrote it."""

    at: str
    by: str


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


class Asked(Fact, frozen=True, tag="asked"):
    """These calls are about to be sent. Until each is answered or failed it may have been paid for: *unsettled*."""

    run: str
    teacher: str
    keys: tuple[str, ...]
    worst_case_usd: str


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


class CallFailed(Fact, frozen=True, tag="call-failed"):
    """A call brought no answer. ``charged`` stays true where nobody can know that it was free."""

    run: str
    teacher: str
    key: str
    reason: str
    status: int
    charged: bool


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


class StepTaken(Fact, frozen=True, tag="step-taken"):
    """One step of a training: what it learned from, and how it went. A step that a kill made happen twice stands twice."""

    training: str
    step: int
    records: tuple[str, ...]
    tokens: int
    answer_tokens: int
    loss: float
    learning_rate: float
    seconds: float


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
    | Asked
    | Answered
    | CallFailed
    | Judged
    | DatasetFormed
    | RecordsPlaced
    | Derived
    | StepTaken
    | ModelTrained
    | Evaluated
    | PassportWritten
    | RefusalMade
    | TailCut
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyFact] = msgspec.json.Decoder(AnyFact)


def encode(fact: AnyFact) -> bytes:
    """A fact as the payload of a log entry."""
    return _encoder.encode(fact)


def decode(payload: bytes) -> AnyFact:
    """The fact of a log entry. Raises msgspec.MsgspecError for a kind that this version does not know."""
    return _decoder.decode(payload)
