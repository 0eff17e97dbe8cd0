"""From an entry of the log to rows. Pure, so that a rebuilt view equals the old one row for row.

Values stand here as the log has them; ``clean`` makes of each what a database can hold.
"""

from functools import singledispatch
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Table

from stillhouse import facts
from stillhouse.ledger import schema


class Row(NamedTuple):
    """A row for a table, without the columns that say which entry it is from."""

    table: Table
    values: dict[str, Any]


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


@singledispatch
def rows_of(fact: Any) -> list[Row]:
    """The rows that a fact makes, in order."""
    raise TypeError(f"no view of a {type(fact).__name__}")


@rows_of.register
def _(fact: facts.TeacherRegistered) -> list[Row]:
    return [Row(schema.teachers, {"name": fact.teacher.name, "registered_by": fact.by, "teacher": _json(fact.teacher)})]


@rows_of.register
def _(fact: facts.StampsSeen) -> list[Row]:
    return [Row(schema.stamp_sets, {"id": fact.id, "digest": fact.digest, "stamps": _json(fact.stamps)})]


@rows_of.register
def _(fact: facts.PromptSeen) -> list[Row]:
    return [Row(schema.prompts, {"prompt": fact.prompt, "messages": _json(fact.messages)})]


@rows_of.register
def _(fact: facts.PlanMade) -> list[Row]:
    values = {
        "digest": fact.digest,
        "kind": fact.plan.kind,
        "subject": fact.plan.subject,
        "plan": _json(fact.plan),
        "made_by": fact.by,
    }
    return [Row(schema.plans, values)]


@rows_of.register
def _(fact: facts.ReceiptLeft) -> list[Row]:
    receipt = fact.receipt
    values = {
        "plan": receipt.plan,
        "outcome": receipt.outcome,
        "result": _json(receipt.result),
        "signature": _json(receipt.signature) if receipt.signature else "",
    }
    return [Row(schema.receipts, values)]


@rows_of.register
def _(fact: facts.Asked) -> list[Row]:
    shared = {"run": fact.run, "teacher": fact.teacher, "worst_case_usd": fact.worst_case_usd, "lease": fact.lease}
    return [Row(schema.asked, {"key": key, **shared}) for key in fact.keys]


@rows_of.register
def _(fact: facts.Answered) -> list[Row]:
    values = {
        "key": fact.key,
        "run": fact.run,
        "teacher": fact.teacher,
        "task": fact.task,
        "prompt": fact.prompt,
        "sample": fact.sample,
        "stamps": fact.stamps,
        "text": fact.text,
        "finish": fact.finish,
        "prompt_tokens": fact.usage.prompt_tokens,
        "completion_tokens": fact.usage.completion_tokens,
        "cost_usd": fact.cost_usd,
        "seconds": fact.seconds,
        "lease": fact.lease,
    }
    return [Row(schema.answers, values)]


@rows_of.register
def _(fact: facts.CallFailed) -> list[Row]:
    values = {
        "key": fact.key,
        "run": fact.run,
        "teacher": fact.teacher,
        "reason": fact.reason,
        "status": fact.status,
        "charged": int(fact.charged),
        "lease": fact.lease,
    }
    return [Row(schema.failures, values)]


@rows_of.register
def _(fact: facts.BudgetLeased) -> list[Row]:
    return [
        Row(schema.leases, {"lease": fact.lease, "scope": scope, "holder": fact.holder, "usd": fact.usd})
        for scope in fact.scopes
    ]


@rows_of.register
def _(fact: facts.BudgetReturned) -> list[Row]:
    return [Row(schema.lease_returns, {"lease": fact.lease, "used_usd": fact.used_usd})]


@rows_of.register
def _(fact: facts.BatchPrepared) -> list[Row]:
    values = {
        "batch": fact.batch,
        "run": fact.run,
        "teacher": fact.teacher,
        "stamps": fact.stamps,
        "calls": _json(fact.calls),
    }
    return [Row(schema.batches, values)]


@rows_of.register
def _(fact: facts.BatchSubmitted) -> list[Row]:
    return [Row(schema.submissions, {"batch": fact.batch, "remote": fact.remote})]


@rows_of.register
def _(fact: facts.BatchEnded) -> list[Row]:
    return [Row(schema.batch_ends, {"batch": fact.batch, "reason": fact.reason})]


@rows_of.register
def _(fact: facts.KeyIssued) -> list[Row]:
    return [Row(schema.gateway_keys, {"key": fact.key.id, "issued": _json(fact.key)})]


@rows_of.register
def _(fact: facts.KeyRevoked) -> list[Row]:
    return [Row(schema.key_revocations, {"key": fact.key, "reason": fact.reason})]


@rows_of.register
def _(fact: facts.CallReceived) -> list[Row]:
    values = {
        "call": fact.call,
        "key": fact.key,
        "teacher": fact.teacher,
        "path": fact.path,
        "purpose": fact.purpose,
        "stamps": fact.stamps,
        "idempotency": fact.idempotency,
        "request": fact.digest,
    }
    return [Row(schema.calls, values)]


@rows_of.register
def _(fact: facts.ChunkReceived) -> list[Row]:
    return []  # the log keeps the pieces; what they say together is in the answer


@rows_of.register
def _(fact: facts.CallReturned) -> list[Row]:
    values = {
        "call": fact.call,
        "status": fact.status,
        "outcome": str(fact.outcome),
        "reason": fact.reason,
        "kind": fact.kind,
        "redacted": fact.redacted,
        # Needed again only where the same call may come twice; the log keeps all of them.
        "body": _json([fact.body, fact.base64]) if fact.idempotency else "",
    }
    return [Row(schema.returns, values)]


@rows_of.register
def _(fact: facts.CorpusImported) -> list[Row]:
    values = {"run": fact.run, "source": fact.source, "digest": fact.digest, "shape": fact.shape, "rows": fact.rows}
    return [Row(schema.imports, values)]


@rows_of.register
def _(fact: facts.Judged) -> list[Row]:
    verdict = fact.verdict
    values = {
        "key": fact.key,
        "run": fact.run,
        "task": fact.task,
        "judge": fact.judge,
        "status": str(verdict.status),
        "reason": verdict.reason,
        "check_failed": verdict.check,
        "trust": verdict.trust,
        "isolation": verdict.isolation,
        "checks": verdict.checks,
        "checks_passed": verdict.checks_passed,
        "cpu_seconds": verdict.cpu_seconds,
    }
    return [Row(schema.verdicts, values)]


@rows_of.register
def _(fact: facts.DatasetFormed) -> list[Row]:
    dataset = fact.dataset
    values = {"name": dataset.name, "version": dataset.version, "run": fact.run, "dataset": _json(dataset)}
    return [Row(schema.datasets, values)]


@rows_of.register
def _(fact: facts.RecordsPlaced) -> list[Row]:
    return [
        Row(schema.placements, {"dataset": fact.dataset, **msgspec.structs.asdict(record)}) for record in fact.records
    ]


@rows_of.register
def _(fact: facts.Derived) -> list[Row]:
    return [Row(schema.edges, {"parent": fact.parent, "child": fact.child, "kind": fact.kind})]


@rows_of.register
def _(fact: facts.StepTaken) -> list[Row]:
    values = {
        "training": fact.training,
        "step": fact.step,
        "tokens": fact.tokens,
        "answer_tokens": fact.answer_tokens,
        "loss": fact.loss,
        "learning_rate": fact.learning_rate,
        "seconds": fact.seconds,
        "shares": _json(fact.shares) if fact.shares else "",
    }
    fed = [Row(schema.fed, {"training": fact.training, "step": fact.step, "key": key}) for key in fact.records]
    return [Row(schema.steps, values), *fed]


@rows_of.register
def _(fact: facts.ModelTrained) -> list[Row]:
    model = fact.model
    values = {
        "name": model.name,
        "version": model.version,
        "weights_digest": model.weights_digest,
        "training": model.training,
        "model": _json(model),
    }
    return [Row(schema.models, values)]


@rows_of.register
def _(fact: facts.Evaluated) -> list[Row]:
    values = {"subject": fact.subject, "suite": fact.evaluation.suite, "evaluation": _json(fact.evaluation)}
    return [Row(schema.evaluations, values)]


@rows_of.register
def _(fact: facts.PassportWritten) -> list[Row]:
    return [Row(schema.passports, {"model": fact.model, "digest": fact.digest, "signer": fact.signer})]


@rows_of.register
def _(fact: facts.PlanApproved) -> list[Row]:
    return [Row(schema.approvals, {"plan": fact.plan, "signature": _json(fact.signature)})]


@rows_of.register
def _(fact: facts.RosterChanged) -> list[Row]:
    values = {
        "version": fact.roster.version,
        "roster": _json(fact.roster),
        "change": fact.change,
        "plan": fact.plan,
        "previous": fact.previous,
        "signatures": _json(fact.signatures),
    }
    return [Row(schema.rosters, values)]


@rows_of.register
def _(fact: facts.AccessChanged) -> list[Row]:
    values = {
        "change": fact.change.id,
        "content": _json(fact.change),
        "plan": fact.plan,
        "previous": fact.previous,
        "signatures": _json(fact.signatures),
    }
    return [Row(schema.access_changes, values)]


@rows_of.register
def _(fact: facts.WaiverGiven) -> list[Row]:
    values = {
        "waiver": fact.waiver.id,
        "content": _json(fact.waiver),
        "plan": fact.plan,
        "previous": fact.previous,
        "signatures": _json(fact.signatures),
    }
    return [Row(schema.waivers, values)]


@rows_of.register
def _(fact: facts.Exported) -> list[Row]:
    values = {"dataset": fact.dataset, "digest": fact.digest, "name": fact.name, "rows": fact.rows}
    return [Row(schema.exports, values)]


@rows_of.register
def _(fact: facts.GateDecided) -> list[Row]:
    values = {
        "subjects": _json(fact.subjects),
        "use": fact.use,
        "allowed": int(fact.allowed),
        "reasons": _json(fact.reasons),
        "job": fact.job,
        "signature": _json(fact.signature),
    }
    return [Row(schema.gates, values)]


@rows_of.register
def _(fact: facts.RunOpened) -> list[Row]:
    values = {
        "run": fact.run,
        "recipe": fact.recipe,
        "inputs": _json(fact.inputs),
        "code": fact.code,
        "environment": fact.environment,
        "machine": fact.machine,
    }
    return [Row(schema.runs, values)]


@rows_of.register
def _(fact: facts.SnapshotTaken) -> list[Row]:
    values = {
        "snapshot": fact.snapshot,
        "name": fact.name,
        "source": fact.source,
        "subject": fact.subject,
        "files": fact.files,
        "bytes": fact.bytes,
        "added": fact.added,
        "erasable": fact.erasable,
    }
    return [Row(schema.snapshots, values)]


@rows_of.register
def _(fact: facts.CopyMade) -> list[Row]:
    values = {
        "copy": fact.copy,
        "store": fact.place,
        "domain": fact.domain,
        "objects": fact.objects,
        "added": fact.added,
        "bytes": fact.bytes,
        "entries": fact.entries,
        "sampled": fact.sampled,
        "heads": _json(fact.heads),
    }
    return [Row(schema.copies, values)]


@rows_of.register
def _(fact: facts.Registered) -> list[Row]:
    values = {
        "manifest": fact.manifest,
        "name": fact.name,
        "source": fact.source,
        "endpoint": fact.endpoint,
        "files": fact.files,
        "bytes": fact.bytes,
    }
    return [Row(schema.registrations, values)]


@rows_of.register
def _(fact: facts.Examined) -> list[Row]:
    values = {
        "manifest": fact.manifest,
        "files": fact.files,
        "read": fact.read,
        "changes": fact.changes,
        "new": fact.new,
    }
    return [Row(schema.examinations, {**values, "examples": _json(fact.examples)})]


@rows_of.register
def _(fact: facts.Scrubbed) -> list[Row]:
    values = {"copy": fact.copy, "objects": fact.objects, "read": fact.read}
    return [Row(schema.scrubs, {**values, "bad": _json(fact.bad), "repaired": _json(fact.repaired)})]


@rows_of.register
def _(fact: facts.Drilled) -> list[Row]:
    values = {
        "copy": fact.copy,
        "subject": fact.subject,
        "whole": int(fact.whole),
        "files": fact.files,
        "bytes": fact.bytes,
        "seconds": fact.seconds,
        "behind": fact.behind,
        "problem": fact.problem,
        "signature": _json(fact.signature),
    }
    return [Row(schema.drills, values)]


@rows_of.register
def _(fact: facts.HoldPlaced) -> list[Row]:
    return [Row(schema.holds, {"hold": fact.hold, "subject": fact.subject, "reason": fact.reason})]


@rows_of.register
def _(fact: facts.HoldReleased) -> list[Row]:
    return [Row(schema.hold_releases, {"hold": fact.release.hold, **_signed(fact.release, fact)})]


@rows_of.register
def _(fact: facts.Deleted) -> list[Row]:
    return [Row(schema.deletions, {"deletion": fact.deletion.id, **_signed(fact.deletion, fact)})]


@rows_of.register
def _(fact: facts.ErasureKeyMade) -> list[Row]:
    return [Row(schema.erasure_keys, {"source": fact.source, "key": fact.key, "destroyed": ""})]


@rows_of.register
def _(fact: facts.ErasureKeyDestroyed) -> list[Row]:
    values = {"source": fact.source, "key": fact.key, "destroyed": _json(fact.places)}
    return [Row(schema.erasure_keys, values)]


@rows_of.register
def _(fact: facts.Erased) -> list[Row]:
    return [Row(schema.erasures, {"source": fact.erasure.source, **_signed(fact.erasure, fact)})]


def _signed(content: Any, fact: facts.HoldReleased | facts.Deleted | facts.Erased) -> dict[str, Any]:
    signatures = _json(fact.signatures)
    return {"content": _json(content), "plan": fact.plan, "previous": fact.previous, "signatures": signatures}


@rows_of.register
def _(fact: facts.DeletionUndone) -> list[Row]:
    return [Row(schema.deletions_undone, {"deletion": fact.deletion})]


@rows_of.register
def _(fact: facts.Discarded) -> list[Row]:
    shared = {"what": "discarded", "reason": fact.reason}
    return [Row(schema.trash, {"object": digest, **shared}) for digest in fact.objects]


@rows_of.register
def _(fact: facts.Recovered) -> list[Row]:
    return [Row(schema.trash, {"object": digest, "what": "recovered", "reason": ""}) for digest in fact.objects]


@rows_of.register
def _(fact: facts.Reclaimed) -> list[Row]:
    return [Row(schema.trash, {"object": digest, "what": "reclaimed", "reason": ""}) for digest in fact.objects]


@rows_of.register
def _(fact: facts.DayPassed) -> list[Row]:
    return [Row(schema.days, {"day": fact.day})]


@rows_of.register
def _(fact: facts.RefusalMade) -> list[Row]:
    return [Row(schema.refusals, {"subject": fact.subject, "reason": fact.reason})]


@rows_of.register
def _(fact: facts.TailCut) -> list[Row]:
    values = {"torn_writer": fact.writer, "entry": fact.entry, "bytes": fact.bytes, "kept_in": fact.kept_in}
    return [Row(schema.tails, values)]
