"""What a run's report says. A value: every form of it shows the same."""

import msgspec

from stillhouse.nouns import Decision, Evaluation, FunnelStep


class Family(msgspec.Struct, frozen=True):
    """How one family of tasks fared. ``low`` and ``high`` bound the pass rate (Wilson, 95 %, by answers)."""

    name: str
    tasks: int
    answers: int
    passed: int
    low: float
    high: float


class Sample(msgspec.Struct, frozen=True):
    """One answer, to look at."""

    task: str
    question: str
    code: str
    outcome: str
    reason: str


class ReportEdge(msgspec.Struct, frozen=True):
    """One step of lineage."""

    parent: str
    child: str
    kind: str


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the report: how it was trained, and its loss (nats an answer token) at each step."""

    model: str
    weights_digest: str
    base: str
    dataset: str
    method: str
    rows: int
    left_out: dict[str, int]
    steps: int
    tokens: int
    seconds: float
    losses: tuple[float, ...]


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is shown of a run."""

    title: str
    made: str
    teacher: dict[str, str]
    dataset: str
    rows: int
    content_digest: str
    manifest_digest: str
    isolation: str
    answers: int
    verified: int
    prompt_tokens: int
    completion_tokens: int
    spent_usd: str
    unsettled: int
    funnel: tuple[FunnelStep, ...]
    verdicts: dict[str, int]
    families: tuple[Family, ...]
    kept: tuple[Sample, ...]
    dropped: tuple[Sample, ...]
    decisions: tuple[Decision, ...]
    lineage: tuple[ReportEdge, ...]
    stages: dict[str, float]
    tokens: dict[str, int]
    machine: str
    limits: tuple[str, ...]
    trainings: tuple[Training, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    findings: tuple[str, ...] = ()
