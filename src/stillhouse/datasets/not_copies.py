"""Lift a match: a reviewer found that rows or weights which this home recognises are no copies of what it knows.

Covers: exactly the rows (question and answer) that were looked at, wherever they come again, or exactly those weights. Does not
cover: rows that carry stamps of an export, rows of sources that can be erased, weights whose files are equal to a known model's.
"""

from pathlib import Path
from typing import Any

import msgspec

from stillhouse.datasets.corpora.origins import Declared
from stillhouse.datasets.corpora.row_files import files_of
from stillhouse.datasets.import_corpus import LeftOutRows, read_corpus
from stillhouse.datasets.recognition import MARKS, grouped, known_marks, marks_of
from stillhouse.errors import UsageError
from stillhouse.generation.weights import tensor_digests, weights_digest
from stillhouse.home import facts
from stillhouse.home.current_permission import current_roster
from stillhouse.home.ledger import training_queries
from stillhouse.home.open_home import Home
from stillhouse.home.proposals import Findings, Handling, Written, plan_act, unlike
from stillhouse.nouns import NotACopy, Plan
from stillhouse.permission.roster import member

NOT_A_COPY = "not-a-copy"
_EVIDENCE = "evidence"
# So much of what the reviewer wrote is shown to whoever approves; the rest is in the vault.
_SHOWN = 4000


class _NotCopies(Handling[NotACopy]):
    kinds, name, content = (NOT_A_COPY,), "finding", NotACopy

    def differences(self, home: Home, plan: Plan, content: NotACopy) -> list[str]:
        rows = len(_marks(home, content))
        return (
            unlike("subject", plan.subject, content.subject)
            + unlike("rows", content.rows, rows)
            + _objections(home, content)
        )

    def found(self, home: Home, content: NotACopy) -> Findings:
        written = home.objects.get(content.objects[_EVIDENCE])[:_SHOWN].decode("utf-8", "replace")
        about = {"rows": len(_marks(home, content)), "weights": content.weights, "reviewer": content.reviewer}
        return Findings({**about, _EVIDENCE: written}, {})

    def carry_out(self, plan: Plan, content: NotACopy, written: Written, prepared: Any) -> dict[str, Any]:
        written.home.recorder.record(facts.FoundNotACopy(finding=content, **written.shared))
        return {"rows": content.rows, "weights": content.weights, "signed by": written.signed_by}


NOT_COPIES = _NotCopies()


def plan_not_a_copy(home: Home, path: Path, reviewer: str, evidence: Path, reason: str) -> Plan:
    """What is recognised of a corpus or of a model folder, as a finding that it is no copy. Nothing is lifted yet.

    Raises UsageError where nothing of it is recognised, or nobody answers for the finding.
    """
    try:
        written = evidence.read_bytes()
    except OSError as failure:
        raise UsageError(f"{evidence} cannot be read: {failure.strerror}.") from failure
    if not written.strip():
        raise UsageError(
            f"{evidence} is empty.", next_step="Name a file that says what was compared, and what was found."
        )
    objects = {_EVIDENCE: home.objects.put(written)}
    weights, marks = weights_digest(path) if _holds_weights(path) else "", []
    if weights and not training_queries.recognised(home.ledger, weights):
        raise UsageError(f"The weights in {path} are not recognised as a model's that is known here.")
    if not weights:
        marks = _recognised_rows(home, path)
        objects[MARKS] = home.objects.put(msgspec.json.encode(marks))
    content = NotACopy(
        subject=path.name, reviewer=reviewer, reason=reason, objects=objects, rows=len(marks), weights=weights
    )
    if objections := _objections(home, content):
        raise UsageError(f"{'; '.join(objections)}.", next_step="Give another --reviewer.")
    return plan_act(home, NOT_COPIES, NOT_A_COPY, path.name, {"finding": msgspec.to_builtins(content)})


def _holds_weights(path: Path) -> bool:
    return path.suffix == ".gguf" or (path.is_dir() and bool(tensor_digests(path)))


def _recognised_rows(home: Home, path: Path) -> list[tuple[str, str]]:
    """The marks of a corpus's rows that the log knows."""
    found: dict[tuple[str, str], None] = {}
    for group in grouped(read_corpus(files_of(path), Declared(), LeftOutRows())):
        marks = [marks_of(read.said.messages, read.said.text) for read in group]
        found |= dict.fromkeys((mark.question, mark.answer) for mark in known_marks(home, marks))
    if not found:
        raise UsageError(
            f"Of {path}, nothing is recognised by its question and answer.",
            next_step="`stillhouse dataset import FILE --plan` says what is; stamps of an export are never lifted.",
        )
    return sorted(found)


def _marks(home: Home, content: NotACopy) -> list[tuple[str, str]]:
    digest = content.objects.get(MARKS)
    return msgspec.json.decode(home.objects.get(digest), type=list[tuple[str, str]]) if digest else []


def _objections(home: Home, content: NotACopy) -> list[str]:
    roster = current_roster(home.ledger, home.settings)
    missing = roster is not None and member(roster, content.reviewer) is None
    return [f"{content.reviewer} is not on the roster"] if missing else []
