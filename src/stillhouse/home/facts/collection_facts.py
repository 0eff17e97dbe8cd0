"""Entries about asking teachers, and what came."""

import msgspec

from stillhouse.conversations.text_marks import code_mark, text_mark
from stillhouse.home.facts.declarations import Fact, StampSetId, Table
from stillhouse.nouns import Usage


class Asked(Fact, frozen=True, tag="asked"):
    """These calls are about to be sent. Until each is answered or failed it may have been paid for: *unsettled*."""

    run: str
    teacher: str
    keys: tuple[str, ...]
    worst_case_usd: str
    lease: str = ""

    tables = (Table("asked", indexes=("key", "teacher", "lease", ("run",)), each="keys", columns={"key": "keys"}),)


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
    stamps: StampSetId
    calls: tuple[BatchedCall, ...]

    tables = (Table("batches", indexes=("batch", "run", "teacher")),)


class BatchSubmitted(Fact, frozen=True, tag="batch-submitted"):
    """The provider has taken a batch, and calls it ``remote``."""

    batch: str
    remote: str

    tables = (Table("submissions", indexes=("batch",)),)


class BatchEnded(Fact, frozen=True, tag="batch-ended"):
    """Every call of a batch is settled, or surely was never submitted (``reason``)."""

    batch: str
    reason: str

    tables = (Table("batch_ends", indexes=("batch",)),)


def _mark_of_answer(answer: "Answered") -> str:
    return text_mark(answer.text)


def _mark_of_code(answer: "Answered") -> str:
    return code_mark(answer.text)


class Answered(Fact, frozen=True, tag="answered"):
    """An answer, as it came (``raw``) and as it was read (``text``, ``finish``)."""

    run: str
    teacher: str
    key: str
    task: str
    prompt: str
    sample: int
    stamps: StampSetId
    text: str
    finish: str
    usage: Usage
    cost_usd: str
    seconds: float
    raw: str
    lease: str = ""

    tables = (
        Table(
            "answers",
            # All that is asked of ten million records when a source is revoked: which stamps, which record, how many tokens; and
            # which records a run has.
            indexes=(
                "key",
                "lease",
                ("stamps", "run", "key", "prompt_tokens", "completion_tokens"),
                ("run", "teacher", "key"),
                "mark",
                "code_mark",
            ),
            flat=("usage",),
            columns={"mark": _mark_of_answer, "code_mark": _mark_of_code},
            # The log has the text; who wants it reads it there (``answer_queries.texts``).
            without=("raw", "text"),
        ),
    )


class CallFailed(Fact, frozen=True, tag="call-failed"):
    """A call brought no answer. ``charged`` stays true where nobody can know that it was free."""

    run: str
    teacher: str
    key: str
    reason: str
    status: int
    charged: bool
    lease: str = ""

    tables = (Table("failures", indexes=("key", "lease")),)
