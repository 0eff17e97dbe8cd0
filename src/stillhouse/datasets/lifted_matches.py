"""Lift a match: a reviewer found that rows or weights which this home recognises are no copies of what it knows.

Covers: exactly the rows (question and answer) that were looked at, wherever they come again, or exactly those weights. Does not
cover: rows that carry stamps of an export, rows of sources that can be erased, weights whose files are equal to a known model's.
"""

from pathlib import Path
from typing import Any

import msgspec

from stillhouse.datasets.corpora.corpus_reading import LeftOutRows, read_corpus
from stillhouse.datasets.corpora.origins import Declared
from stillhouse.datasets.corpora.row_files import files_of
from stillhouse.datasets.recognition import MARKS, LiftedRow, grouped, known_rows, read_lifted
from stillhouse.datasets.row_marks import Marks, answers_in
from stillhouse.errors import CorruptObject, UsageError
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
_ROWS_SHOWN = 20


class _NotCopies(Handling[NotACopy]):
    kinds, name, content = (NOT_A_COPY,), "finding", NotACopy

    def differences(self, home: Home, plan: Plan, content: NotACopy) -> list[str]:
        rows = len(_rows(home, content))
        wrong = unlike("subject", plan.subject, content.subject) + unlike("rows", content.rows, rows)
        return wrong + _objections(home, content)

    def found(self, home: Home, content: NotACopy) -> Findings:
        about: dict[str, Any] = {"rows": content.rows, "reviewer": content.reviewer, "reason": content.reason}
        if content.weights:
            models = sorted(training_queries.recognised(home.ledger, content.weights))
            about |= {"weights": content.weights, "recognised as": models}
        rows = _rows(home, content)
        about |= {f"row {number}": row.text[:_SHOWN] for number, row in enumerate(rows[:_ROWS_SHOWN], start=1)}
        written = home.objects.get(content.objects[_EVIDENCE]) if _EVIDENCE in content.objects else b""
        return Findings({**about, _EVIDENCE: written[:_SHOWN].decode("utf-8", "replace")}, {})

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
    weights = weights_digest(path) if _holds_weights(path) else ""
    rows: list[LiftedRow] = []
    if weights and not training_queries.recognised(home.ledger, weights):
        raise UsageError(f"The weights in {path} are not recognised as a model's that is known here.")
    if not weights:
        rows = _recognised_rows(home, path)
        objects[MARKS] = home.objects.put(msgspec.json.encode(rows))
    content = NotACopy(
        subject=path.name, reviewer=reviewer, reason=reason, objects=objects, rows=len(rows), weights=weights
    )
    if objections := _objections(home, content):
        raise UsageError(f"{'; '.join(objections)}.", next_step="Give another --reviewer.")
    return plan_act(home, NOT_COPIES, NOT_A_COPY, path.name, {"finding": msgspec.to_builtins(content)})


def _holds_weights(path: Path) -> bool:
    return path.suffix == ".gguf" or (path.is_dir() and bool(tensor_digests(path)))


def _recognised_rows(home: Home, path: Path) -> list[LiftedRow]:
    """The rows of a corpus that the log knows, each once."""
    found: dict[Marks, LiftedRow] = {}
    for group in grouped(read_corpus(files_of(path), Declared(), LeftOutRows())):
        answers = {mark: said for read in group for mark, said in answers_in(read.said).items()}
        for mark, ids in known_rows(home, list(answers)).items():
            messages, text = answers[mark]
            found[mark] = LiftedRow(tuple(messages), text, tuple(sorted(str(id) for id in ids)))
    if not found:
        raise UsageError(
            f"Of {path}, nothing is recognised by its question and answer.",
            next_step="`stillhouse dataset import FILE --plan` says what is; stamps of an export are never lifted.",
        )
    return list(found.values())


def _rows(home: Home, content: NotACopy) -> tuple[LiftedRow, ...]:
    digest = content.objects.get(MARKS)
    try:
        return read_lifted(home.objects.get(digest)) if digest else ()
    except msgspec.MsgspecError as failure:
        raise CorruptObject(f"{digest} holds no rows: {failure}.") from failure


def _objections(home: Home, content: NotACopy) -> list[str]:
    """Why a finding cannot be agreed to, in words."""
    roster = current_roster(home.ledger, home.settings)
    found = []
    if roster is not None and member(roster, content.reviewer) is None:
        found.append(f"{content.reviewer} is not on the roster")
    if _EVIDENCE not in content.objects:
        found.append("it rests on no evidence")
    if bool(content.weights) == (MARKS in content.objects):
        found.append("it is about rows or about weights")
    if content.weights and not training_queries.recognised(home.ledger, content.weights):
        found.append(f"the weights {content.weights} are not recognised")
    return found
