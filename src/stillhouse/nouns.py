"""The nouns: what the log's entries and everyone's arguments are made of. Frozen values; no I/O, no behaviour.

Times are RFC 3339 in UTC, days ``YYYY-MM-DD``, digests tagged (``blake3:...``), money in USD as decimal text.
"""

from enum import StrEnum
from typing import Any

import msgspec

# --- where a thing comes from -------------------------------------------------------------------------------------


class Origin(StrEnum):
    """Who or what wrote it."""

    TEACHER = "teacher"
    OWN_MODEL = "own model"
    HUMAN = "human"
    LICENSED = "licensed"
    WEB = "web"
    PROMPT_SEED = "prompt seed"
    UNKNOWN = "unknown"


class Channel(StrEnum):
    """By which way a teacher was reached."""

    OFFICIAL = "official"
    CLOUD = "cloud"
    INTERMEDIARY = "intermediary"
    PERSONAL = "personal"
    OPEN_WEIGHTS = "open-weights"
    PUBLISHED = "published"
    UNKNOWN = "unknown"


class Grade(StrEnum):
    """How well an origin is known."""

    OBSERVED = "observed"
    DECLARED = "declared"
    INFERRED = "inferred"
    UNKNOWN = "unknown"


class Use(StrEnum):
    """What somebody wants to do with a record."""

    STORE = "store"
    EVALUATE = "evaluate"
    TRAIN_INTERNAL_CLASSIFIER = "train-internal-classifier"
    TRAIN = "train"
    RELEASE_WEIGHTS = "release-weights"
    PUBLISH_DATA = "publish-data"


class Stamp(msgspec.Struct, frozen=True, order=True):
    """One origin of a record. ``model`` is a name or a weights digest; ``account`` a fingerprint, never a key; ``provider`` who
    stood in between, as an answer itself names them.
    """

    origin: Origin
    lab: str = ""
    model: str = ""
    channel: Channel = Channel.UNKNOWN
    account: str = ""
    terms: tuple[str, ...] = ()
    region: str = ""
    day: str = ""
    purpose: str = ""
    grade: Grade = Grade.UNKNOWN
    provider: str = ""


class StampSet(msgspec.Struct, frozen=True):
    """All origins of a record: those of its parts too. ``id`` is the integer that rows carry."""

    id: int
    digest: str
    stamps: tuple[Stamp, ...]


class Ground(StrEnum):
    """Why something is denied. ``UNKNOWN`` and ``ORGANISATION`` can be waived; what a document or a revocation says cannot."""

    TERMS = "terms"
    REVOCATION = "revocation"
    ORGANISATION = "organisation"
    UNKNOWN = "unknown"


class Decision(msgspec.Struct, frozen=True):
    """May this be used so? ``duties`` are what must be done where it may; ``grounds`` why it is denied.

    ``citations`` are the terms, rules, grants and revocations that it rests on, ``waivers`` those that lifted a denial.
    """

    use: Use
    allowed: bool
    reason: str
    duties: tuple[str, ...] = ()
    grounds: tuple[Ground, ...] = ()
    citations: tuple[str, ...] = ()
    waivers: tuple[str, ...] = ()


# --- who ----------------------------------------------------------------------------------------------------------


class Role(StrEnum):
    """What somebody may do: run recipes, answer for permission, hold the vault, say yes to others' plans, run unattended."""

    ENGINEER = "engineer"
    GOVERNANCE = "governance"
    CUSTODIAN = "custodian"
    APPROVER = "approver"
    PROGRAM = "program"


class Member(msgspec.Struct, frozen=True):
    """A person, or a program, with the key that it signs with (PEM)."""

    name: str
    roles: tuple[Role, ...]
    key: str


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody whose signature means something. ``threshold`` of those who answer for permission change it together.

    ``recovery`` is the key (PEM) that may change it alone where too many keys are lost; empty where there is none.
    """

    version: int
    members: tuple[Member, ...]
    threshold: int
    recovery: str = ""


class Signature(msgspec.Struct, frozen=True):
    """Who signed, with which key, and as of which version of the roster (0: before there was one). ``value`` is base64."""

    by: str
    key: str
    roster: int
    value: str


# --- access -------------------------------------------------------------------------------------------------------


class AccessKind(StrEnum):
    """What a change of access does."""

    GRANT = "grant"
    REVOKE = "revoke"


class AccessChange(msgspec.Struct, frozen=True, kw_only=True):
    """A grant or a revocation of a lab's access. What stands nowhere is not narrowed: no channels means all of them.

    It concerns answers of ``since`` (a UTC day; empty: all days) and later, up to ``until``. ``exempt`` uses stay as they were.
    ``verdict`` is what a negotiated ``document`` (a digest) says in place of the public terms, while it is in force.
    ``reverses`` names an earlier change that is void from now on.
    """

    id: str
    kind: AccessKind
    lab: str
    models: tuple[str, ...] = ()
    channels: tuple[Channel, ...] = ()
    accounts: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()
    exempt: tuple[Use, ...] = ()
    since: str = ""
    until: str = ""
    notice: str = ""
    authority: str = ""
    document: str = ""
    verdict: str = ""
    duties: tuple[str, ...] = ()
    reverses: str = ""
    reason: str = ""


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody answers, until a day, for a use that nobody could permit otherwise. It lifts what is unknown, unclear, or the
    organisation's own rule; never what a document forbids or a lab revoked.
    """

    id: str
    use: Use
    owner: str
    expires: str
    reason: str
    lab: str = ""
    channel: Channel | None = None
    terms: str = ""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """GPUs that somebody may use until ``end``. ``notice`` is in minutes, ``price`` for a GPU-hour."""

    pool: str
    gpus: int
    tenant: str
    outside: bool
    start: str
    end: str
    notice: int
    price: str
    currency: str
    reason: str


class NotACopy(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody looked at what was recognised, and found that it is none of what the home knows: from now on it is not recognised.

    ``objects`` are what ``reviewer`` wrote about it (``evidence``), and the marks of the rows that were looked at (``marks``), by
    digest; ``weights`` is the digest of the weights that were, instead.
    """

    subject: str
    reviewer: str
    reason: str
    objects: dict[str, str]
    rows: int = 0
    weights: str = ""


class PolicyAdoption(msgspec.Struct, frozen=True, kw_only=True):
    """What decides besides the log, from now on and in place of any earlier adoption.

    ``documents`` are the organisation's facts, rules, terms and prices, by file name, each as the digest of its bytes in the
    vault; ``teachers`` are the digests of the registrations that count.
    """

    documents: dict[str, str]
    teachers: tuple[str, ...]


# --- teachers and what they are asked -----------------------------------------------------------------------------


class TeacherKind(StrEnum):
    """How a teacher is spoken to."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    LOCAL = "local"
    REPLAY = "replay"


class Teacher(msgspec.Struct, frozen=True, kw_only=True):
    """A registered teacher. Prices are USD per million tokens, as decimal text; empty means unmetered.

    ``weights_digest`` is of everything that makes its answers, ``tensors`` of the files that hold its weights alone.
    ``hidden_tokens`` is the most that it bills for thinking beyond ``max_tokens``; ``prices_of`` says where prices are from,
    ``batch_share`` which part of them it takes for calls in a batch (empty: all).
    ``limit_field`` is what its server calls the most tokens of an answer (empty: max_tokens); ``rejects`` are the optional
    fields of a request that it refuses.
    """

    name: str
    kind: TeacherKind
    model: str
    lab: str
    channel: Channel
    terms: tuple[str, ...]
    base_url: str = ""
    key_env: str = ""
    weights: str = ""
    weights_digest: str = ""
    tensors: tuple[str, ...] = ()
    price_in: str = ""
    price_out: str = ""
    hidden_tokens: int = 0
    prices_of: str = ""
    batch_share: str = ""
    limit_field: str = ""
    rejects: tuple[str, ...] = ()
    grade: Grade = Grade.DECLARED


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt, and for code how its answers are judged.

    ``tests`` are input/output values (the checker stays outside); ``check`` is source that runs inside the program's
    process ("trusting"). With neither, answers are collected and not judged. ``turns`` are what the user says next, each
    after an answer; the last answer is the task's.
    """

    id: str
    messages: tuple[Message, ...]
    entry_point: str = ""
    tests: tuple["Example", ...] = ()
    check: str = ""
    prefix: str = ""
    family: str = ""
    split: str = ""
    solution: str = ""
    turns: tuple[str, ...] = ()


class Example(msgspec.Struct, frozen=True):
    """Arguments, and what the function must return."""

    arguments: tuple[Any, ...]
    returns: Any


class Parameters(msgspec.Struct, frozen=True):
    """Everything in a request that changes the answer, but for its messages and its sample number.

    ``more`` goes into the request as it stands: tools, logprobs, top_p, reasoning_effort ...
    """

    max_tokens: int
    temperature: float
    seed: int
    stop_at_code: bool = False
    more: dict[str, Any] = {}


class Ask(msgspec.Struct, frozen=True):
    """One answer wanted. ``key`` identifies it for good: teacher, messages, parameters, sample.

    ``turn`` counts from 0 where a task has several; ``tries`` is how often the call surely failed before.
    """

    key: str
    task: str
    prompt: str
    messages: tuple[Message, ...]
    parameters: Parameters
    sample: int
    turn: int = 0
    tries: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the teacher counted them; -1 where it did not say."""

    prompt_tokens: int = -1
    completion_tokens: int = -1


class GatewayKey(msgspec.Struct, frozen=True, kw_only=True):
    """A client's key to the gateway. The secret is not in it, only its digest.

    ``uses`` are what its calls may be for, the first being meant where a call does not say; ``teachers`` those it may ask,
    none meaning all; ``budget`` is in USD, empty: unmetered teachers only; ``expires`` is a day; ``inputs`` are terms that bind
    what is sent. ``max_tokens`` limits answers of calls to metered teachers that set no limit; 0: such calls are refused.
    """

    id: str
    name: str
    digest: str
    project: str
    uses: tuple[Use, ...]
    teachers: tuple[str, ...] = ()
    budget: str = ""
    expires: str = ""
    max_tokens: int = 0
    inputs: tuple[str, ...] = ()


class Outcome(StrEnum):
    """How a call through the gateway ended."""

    ANSWERED = "answered"
    REFUSED = "refused by the teacher"
    UPSTREAM_DIED = "the teacher broke off"
    CANCELLED = "the client went away"
    CUT = "cut by the gateway"
    NOT_SENT = "it was never sent"


# --- verdicts ------------------------------------------------------------------------------------------------------


class VerdictStatus(StrEnum):
    """What running an answer's code showed."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    MEMORY = "memory"
    OUTPUT = "output"
    CRASH = "crash"
    NO_CODE = "no code"
    NOT_JUDGED = "not judged"


class Verdict(msgspec.Struct, frozen=True):
    """``check`` names the first test that failed; ``trust`` is "separate" (checker outside) or "trusting"."""

    status: VerdictStatus
    reason: str
    check: str = ""
    trust: str = "separate"
    isolation: str = ""
    checks: int = 0
    checks_passed: int = 0
    cpu_seconds: float = 0.0


# --- plans, receipts, datasets -------------------------------------------------------------------------------------


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an act will do, before it is done. Dry-run prints this value; executing re-checks it."""

    kind: str
    subject: str
    does: dict[str, Any]
    decisions: tuple[Decision, ...]
    worst_case_usd: str
    facts: str
    made: str
    expires: str
    approvals_needed: int = 0
    impact: dict[str, Any] = {}


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """Something that may be forgotten. ``mentions`` says how often the log names each subject: named once more, it stays.

    ``bytes`` are those of the objects that nothing else names, ``usd`` what it would cost to get them back.
    """

    id: str
    mentions: dict[str, int]
    objects: int
    bytes: int
    usd: str
    reason: str


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """A source whose key is destroyed, so that nobody can read it any more, in any copy. ``key`` is the key's digest."""

    source: str
    key: str
    reason: str


class HoldRelease(msgspec.Struct, frozen=True, kw_only=True):
    """A hold may end."""

    hold: str
    reason: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a plan. ``outcome`` is done | stopped | failed | refused."""

    plan: str
    outcome: str
    result: dict[str, Any]
    made: str
    signature: Signature | None = None


class FunnelStep(msgspec.Struct, frozen=True):
    """How many records were left after a step, and why the others were not."""

    step: str
    kept: int
    dropped: dict[str, int]


class DatasetVersion(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable dataset. ``files`` maps names to objects; ``index`` says where each record ended, without words. ``tokens`` of
    each stamp set are those that were counted, ``answer_tokens`` those by the sets of answers, where rows hold several sets.
    ``erasable``: the source with whose key its files are encrypted.
    """

    name: str
    version: int
    rows: int
    content_digest: str
    manifest_digest: str
    recipe: str
    funnel: tuple[FunnelStep, ...]
    files: dict[str, str]
    stamp_sets: dict[str, int]
    made: str
    tokens: dict[str, int] = {}
    erasable: str = ""
    index: tuple[str, ...] = ()
    answer_tokens: dict[str, int] = {}

    @property
    def label(self) -> str:
        """The name by which commands know it."""
        return f"{self.name}@{self.version}"


# --- models and what they are worth --------------------------------------------------------------------------------


class Method(StrEnum):
    """What of a student is trained: adapters beside its weights (Hu et al. 2021, arXiv 2106.09685), or all of it."""

    LORA = "lora"
    FULL = "full"


class Signal(StrEnum):
    """What a student learns from: the teacher's words, or its distribution over them."""

    TEXT = "text"
    FORWARD_KL = "forward-kl"
    REVERSE_KL = "reverse-kl"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was trained here. ``folder`` counts from the home; ``files`` maps each file there to its digest.

    ``stamps`` is the stamp set that its answers inherit: those of its rows, of its base and of the teacher whose
    distribution it learned from. ``loss`` is the mean over the last step's answer tokens, in nats.
    """

    name: str
    version: int
    weights_digest: str
    files: dict[str, str]
    folder: str
    base: str
    base_digest: str
    dataset: str
    dataset_digest: str
    training: str
    method: dict[str, Any]
    stamps: int
    rows: int
    left_out: dict[str, int]
    steps: int
    tokens: int
    loss: float
    made: str

    @property
    def label(self) -> str:
        """The name by which commands, and recipes that use it as a teacher, know it."""
        return f"{self.name}@{self.version}"


class How(StrEnum):
    """How a child came of its parents."""

    MERGED = "merged"
    QUANTISED = "quantised"
    DISTILLED = "distilled"
    FINE_TUNED = "fine-tuned"


class Estimate(msgspec.Struct, frozen=True):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What one suite says of some models, all asked the same.

    ``arms`` maps an arm ("before", "after", "unverified", or a model's name) to its measures ("pass@1", "loss" ...), and
    ``models`` to the model that it is; ``differences`` maps "after - before" and the like to paired differences.
    """

    suite: str
    split: str
    tasks: int
    samples: int
    answers: int
    tokens: int
    temperature: float
    seed: int
    models: dict[str, str]
    arms: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]
    isolation: str
    limits: tuple[str, ...]
