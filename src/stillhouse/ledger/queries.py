"""The questions that the rest asks of the ledger, by name. Where a thing was written twice, the first counts, but for a
teacher's registration, where the last does.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Row, Select, Table, and_, func, or_, select

from stillhouse import facts
from stillhouse.errors import UnknownName
from stillhouse.ledger.databases import database_errors
from stillhouse.ledger.projection import AFact, fact_of, tables
from stillhouse.ledger.store import Ledger
from stillhouse.nouns import (
    DatasetVersion,
    Evaluation,
    GatewayKey,
    Model,
    Outcome,
    Plan,
    Receipt,
    Signature,
    Stamp,
    StampSet,
    Teacher,
    Usage,
    Verdict,
    VerdictStatus,
)

# SQLite takes 32,766 parameters in a statement; a thousand keeps statements small everywhere.
_KEYS_PER_QUERY = 1000


class StoredAnswer(NamedTuple):
    """An answer as the view has it."""

    key: str
    run: str
    teacher: str
    task: str
    prompt: str
    sample: int
    stamps: int
    text: str
    finish: str
    usage: Usage
    cost_usd: str
    seconds: float


class StoredPlan(NamedTuple):
    """A plan, when it was made, and the outcomes of its receipts."""

    digest: str
    at: str
    plan: Plan
    receipts: tuple[Receipt, ...]


class Spending(NamedTuple):
    """Money of a run, in USD: paid for answers, and held for calls whose fate is not known."""

    paid: Decimal
    held: Decimal
    unsettled: int


def teachers(ledger: Ledger) -> list[Teacher]:
    """All teachers, as last registered, by name."""
    found = {row.name: _decode(row.teacher, Teacher) for row in as_written(all_rows(ledger, ordered(tables.teachers)))}
    return [found[name] for name in sorted(found)]


def teacher(ledger: Ledger, name: str) -> Teacher:
    """One teacher; a model that was trained here is one, too, by its label or its name. Raises UnknownName."""
    registered = {found.name: found for found in teachers(ledger)}
    labels = [name, *(model.label for model in reversed(models(ledger)) if model.name == name)]
    for label in labels:
        if label in registered:
            return registered[label]
    known = ", ".join(registered) or "none"
    raise UnknownName(
        f"No teacher is registered as {name!r}; there is: {known}.",
        next_step="Register it with `stillhouse teacher add`, or use one of those.",
    )


def stamp_set_ids(ledger: Ledger) -> set[int]:
    """The integers that already stand for a stamp set."""
    return {row.id for row in all_rows(ledger, select(tables.stamp_sets.c.id))}


def stamp_sets(ledger: Ledger) -> dict[int, StampSet]:
    """All stamp sets by integer."""
    return {
        row.id: StampSet(row.id, row.digest, _decode(row.stamps, tuple[Stamp, ...]))
        for row in all_rows(ledger, ordered(tables.stamp_sets))
    }


def prompt_digests(ledger: Ledger) -> set[str]:
    """The prompts that the log already has."""
    return {row.prompt for row in all_rows(ledger, select(tables.prompts.c.prompt))}


def answers(ledger: Ledger, keys: Iterable[str]) -> dict[str, StoredAnswer]:
    """The answers to these keys, where there are any."""
    found: dict[str, StoredAnswer] = {}
    for row in _by_keys(ledger, tables.answers, tables.answers.c.key, keys):
        if row.key not in found:
            found[row.key] = _stored(row)
    return found


def answers_of_run(ledger: Ledger, run: str) -> dict[str, StoredAnswer]:
    """The answers of a run, by key."""
    found: dict[str, StoredAnswer] = {}
    for row in all_rows(ledger, ordered(tables.answers).where(tables.answers.c.run == run)):
        if row.key not in found:
            found[row.key] = _stored(row)
    return found


def _stored(row: Row[Any]) -> StoredAnswer:
    return StoredAnswer(
        row.key, row.run, row.teacher, row.task, row.prompt, row.sample, row.stamps, row.text, row.finish,
        Usage(row.prompt_tokens, row.completion_tokens), row.cost_usd, row.seconds,
    )  # fmt: skip


def answered(ledger: Ledger, keys: Iterable[str]) -> set[str]:
    """Those of these keys that have an answer."""
    found: set[str] = set()
    iterator = iter(keys)
    while chunk := list(itertools.islice(iterator, _KEYS_PER_QUERY)):
        found |= {
            row.key for row in all_rows(ledger, select(tables.answers.c.key).where(tables.answers.c.key.in_(chunk)))
        }
    return found


def answer_tokens(ledger: Ledger, keys: Iterable[str]) -> dict[str, int]:
    """Tokens of these answers as the teacher counted them; -1 where it did not."""
    found: dict[str, int] = {}
    iterator = iter(keys)
    column = tables.answers.c
    while chunk := list(itertools.islice(iterator, _KEYS_PER_QUERY)):
        query = select(column.key, column.completion_tokens).where(column.key.in_(chunk))
        found |= {row.key: int(row.completion_tokens) for row in all_rows(ledger, query)}
    return found


def answers_by_stamps(ledger: Ledger) -> dict[int, int]:
    """How many answers carry each stamp set."""
    answers = tables.answers
    query = select(answers.c.stamps, func.count(func.distinct(answers.c.key)).label("rows")).group_by(answers.c.stamps)
    return {int(row.stamps): int(row.rows) for row in all_rows(ledger, query)}


def verdicts(ledger: Ledger, keys: Iterable[str]) -> dict[tuple[str, str], Verdict]:
    """Verdicts by (key, judge)."""
    found: dict[tuple[str, str], Verdict] = {}
    for row in _by_keys(ledger, tables.verdicts, tables.verdicts.c.key, keys):
        verdict = Verdict(
            VerdictStatus(row.status), row.reason, row.check_failed, row.trust, row.isolation, row.checks,
            row.checks_passed, row.cpu_seconds,
        )  # fmt: skip
        found.setdefault((row.key, row.judge), verdict)
    return found


def failures(ledger: Ledger, keys: Iterable[str]) -> dict[str, str]:
    """The last failure's reason of keys that failed."""
    return {row.key: row.reason for row in _by_keys(ledger, tables.failures, tables.failures.c.key, keys)}


def known_failures(ledger: Ledger, keys: Iterable[str]) -> dict[str, int]:
    """How often calls of these keys failed with an answer that says so: their fate is known."""
    counts: dict[str, int] = {}
    for row in _by_keys(ledger, tables.failures, tables.failures.c.key, keys):
        if row.status:
            counts[row.key] = counts.get(row.key, 0) + 1
    return counts


def spending(ledger: Ledger, run: str) -> Spending:
    """What a run has cost, and what it may have cost besides."""
    return _spending(ledger, "run", run)


def spending_of_lease(ledger: Ledger, lease: str) -> Spending:
    """What was asked under a lease, and what it cost or may have cost."""
    return _spending(ledger, "lease", lease)


def unleased_spending(ledger: Ledger, run: str) -> Spending:
    """What a run spent before caps were leased."""
    return _spending(ledger, "run", run, leased=False)


def _spending(ledger: Ledger, column: str, value: str, *, leased: bool = True) -> Spending:
    def of(table: Table) -> ColumnElement[bool]:
        match = table.c[column] == value
        return match if leased else and_(match, table.c.lease == "")

    asked = _count_by_key(ledger, tables.asked, of(tables.asked))
    settled = _count_by_key(ledger, tables.answers, of(tables.answers))
    free = _count_by_key(ledger, tables.failures, and_(of(tables.failures), tables.failures.c.charged == 0))
    worst = {
        row.key: Decimal(row.worst_case_usd) for row in all_rows(ledger, select(tables.asked).where(of(tables.asked)))
    }
    open_calls = {key: count - settled.get(key, 0) - free.get(key, 0) for key, count in asked.items()}
    open_calls = {key: count for key, count in open_calls.items() if count > 0}
    paid = sum(
        (
            Decimal(row.cost_usd)
            for row in all_rows(ledger, select(tables.answers.c.cost_usd).where(of(tables.answers)))
        ),
        Decimal(0),
    )
    held = sum((worst[key] * count for key, count in open_calls.items()), Decimal(0))
    return Spending(paid, held, sum(open_calls.values()))


class OpenLease(NamedTuple):
    """A lease that nobody has returned: who holds it, and what it takes of one cap, in USD."""

    lease: str
    holder: str
    usd: Decimal


def open_leases(ledger: Ledger, scope: str) -> list[OpenLease]:
    """The leases of a cap that are not returned; their slices are added up."""
    leases, returned = tables.leases, tables.lease_returns
    query = select(leases.c.lease, leases.c.holder, leases.c.usd).where(
        and_(leases.c.scope == scope, leases.c.lease.not_in(select(returned.c.lease)))
    )
    found: dict[str, OpenLease] = {}
    for row in all_rows(ledger, query):
        before = found.get(row.lease, OpenLease(row.lease, row.holder, Decimal(0)))
        found[row.lease] = before._replace(usd=before.usd + Decimal(row.usd))
    return list(found.values())


def returned_spending(ledger: Ledger, scope: str) -> Decimal:
    """What the ended leases of a cap used, in USD, calls of unknown fate at their worst case."""
    leases, returned = tables.leases, tables.lease_returns
    query = select(returned.c.used_usd).where(
        returned.c.lease.in_(select(leases.c.lease).where(leases.c.scope == scope))
    )
    return sum((Decimal(row.used_usd) for row in all_rows(ledger, query)), Decimal(0))


def returned_of_lease(ledger: Ledger, lease: str) -> Decimal:
    """What a lease was said to have used, in USD; 0 where it was not returned yet."""
    query = select(tables.lease_returns.c.used_usd).where(tables.lease_returns.c.lease == lease)
    return sum((Decimal(row.used_usd) for row in all_rows(ledger, query)), Decimal(0))


class Bill(NamedTuple):
    """A call that cost more than was held for it, in USD."""

    held: Decimal
    paid: Decimal


def bill_above_its_bound(ledger: Ledger, scope: str, checked: Mapping[str, int]) -> tuple[Bill | None, dict[str, int]]:
    """The first call under a cap that cost more than was held for it, after the entries of each writer that were checked
    before; and what is checked now.
    """
    answers, asked = tables.answers.c, tables.asked.c
    under = select(tables.leases.c.lease).where(tables.leases.c.scope == scope)
    now_checked = {row.writer: row.number for row in all_rows(ledger, select(tables.cursors))}
    for writer, number in now_checked.items():
        query = select(answers.cost_usd, asked.worst_case_usd).where(
            and_(
                answers.writer == writer, answers.number >= checked.get(writer, 0), answers.number < number,
                answers.lease.in_(under), asked.key == answers.key, asked.lease == answers.lease,
            )
        )  # fmt: skip
        for row in all_rows(ledger, query):
            bill = Bill(Decimal(row.worst_case_usd), Decimal(row.cost_usd))
            if bill.paid > bill.held:
                return bill, now_checked
    return None, now_checked


class OpenBatch(NamedTuple):
    """A batch that is not settled. ``remote`` is empty where nobody knows whether the provider took it."""

    batch: str
    run: str
    at: str
    stamps: int
    calls: tuple[facts.BatchedCall, ...]
    remote: str


def open_batches(ledger: Ledger, teacher: str) -> list[OpenBatch]:
    """The batches with a teacher that are not settled, oldest first, whichever run submitted them."""
    batches, ends = tables.batches, tables.batch_ends
    query = ordered(batches).where(and_(batches.c.teacher == teacher, batches.c.batch.not_in(select(ends.c.batch))))
    remotes = {row.batch: row.remote for row in all_rows(ledger, select(tables.submissions))}
    return [
        OpenBatch(
            row.batch, row.run, row.at, row.stamps, _decode(row.calls, tuple[facts.BatchedCall, ...]),
            remotes.get(row.batch, ""),
        )
        for row in all_rows(ledger, query)
    ]  # fmt: skip


def lease_of(ledger: Ledger, keys: Iterable[str]) -> dict[str, str]:
    """Under which lease keys were last asked for."""
    return {row.key: row.lease for row in _by_keys(ledger, tables.asked, tables.asked.c.key, keys)}


class Unviewed(NamedTuple):
    """An entry of the log whose rows this database refused."""

    writer: str
    number: int
    kind: str
    reason: str


def unviewed(ledger: Ledger) -> list[Unviewed]:
    """The entries that stand in no table."""
    table = tables.unviewed
    return [Unviewed(row.writer, row.number, row.kind, row.reason) for row in all_rows(ledger, ordered(table))]


def gateway_keys(ledger: Ledger) -> dict[GatewayKey, str]:
    """All keys to the gateway, oldest first, with the reason why they were revoked (empty where they were not)."""
    revoked = {
        row.key: row.reason or "revoked" for row in as_written(all_rows(ledger, ordered(tables.key_revocations)))
    }
    found = {
        row.key: _decode(row.issued, GatewayKey) for row in as_written(all_rows(ledger, ordered(tables.gateway_keys)))
    }
    return {key: revoked.get(key.id, "") for key in found.values()}


class EarlierCall(NamedTuple):
    """A call with the same idempotency key: what it asked, and its answer once there is one."""

    call: str
    request: str
    status: int
    outcome: str
    kind: str
    body: str
    base64: bool


def earlier_call(ledger: Ledger, key: str, idempotency: str) -> EarlierCall | None:
    """The first call of a gateway key under an idempotency key that was not surely free."""
    calls, returns = tables.calls, tables.returns
    query = (
        select(calls, returns.c.status, returns.c.outcome, returns.c.kind, returns.c.body)
        .join(returns, returns.c.call == calls.c.call, isouter=True)
        .where(and_(calls.c.key == key, calls.c.idempotency == idempotency))
        .order_by(calls.c.at)
    )
    for row in all_rows(ledger, query):
        body, base64 = msgspec.json.decode(row.body) if row.body else ("", False)
        if row.outcome not in (Outcome.NOT_SENT, Outcome.REFUSED):
            return EarlierCall(row.call, row.request, row.status or 0, row.outcome or "", row.kind or "", body, base64)
    return None


def calls_by_outcome(ledger: Ledger) -> dict[str, int]:
    """How many calls came through the gateway, by outcome; those without one were never seen to end."""
    calls, returns = tables.calls, tables.returns
    query = (
        select(returns.c.outcome, func.count().label("times"))
        .select_from(calls.join(returns, returns.c.call == calls.c.call, isouter=True))
        .group_by(returns.c.outcome)
    )
    return {row.outcome or "no end was seen": int(row.times) for row in all_rows(ledger, query)}


def datasets(ledger: Ledger) -> list[DatasetVersion]:
    """All dataset versions, by name and version."""
    found: dict[str, DatasetVersion] = {}
    for row in as_written(all_rows(ledger, ordered(tables.datasets))):
        dataset = _decode(row.dataset, DatasetVersion)
        found.setdefault(dataset.label, dataset)
    return sorted(found.values(), key=lambda dataset: (dataset.name, dataset.version))


def dataset_claims(ledger: Ledger) -> list[DatasetVersion]:
    """Every time that a dataset version was written down: nobody signs that, so a version can stand there with other files."""
    return [_decode(row.dataset, DatasetVersion) for row in as_written(all_rows(ledger, ordered(tables.datasets)))]


def run_of_dataset(ledger: Ledger, dataset: DatasetVersion) -> str:
    """The run that formed a dataset version; empty where none did."""
    table = tables.datasets
    query = ordered(table).where(and_(table.c.name == dataset.name, table.c.version == dataset.version))
    return next((str(row.run) for row in all_rows(ledger, query)), "")


def datasets_of_run(ledger: Ledger, run: str, name: str) -> list[DatasetVersion]:
    """The versions of a name that a run formed, oldest first."""
    query = ordered(tables.datasets).where(and_(tables.datasets.c.run == run, tables.datasets.c.name == name))
    found = [_decode(row.dataset, DatasetVersion) for row in all_rows(ledger, query)]
    return sorted(found, key=lambda dataset: dataset.version)


def dataset(ledger: Ledger, label: str) -> DatasetVersion:
    """One dataset version by ``name@version``, or the newest by ``name``. Raises UnknownName."""
    known = datasets(ledger)
    for version in reversed(known):
        if label in (version.label, version.name):
            return version
    names = ", ".join(version.label for version in known) or "none"
    raise UnknownName(f"No dataset is called {label!r}; there is: {names}.")


def placements(ledger: Ledger, label: str) -> list[Row[Any]]:
    """Where each record ended in the forming of a dataset version: key, stamps, step, reason."""
    return list(all_rows(ledger, ordered(tables.placements).where(tables.placements.c.dataset == label)))


class StoredStep(NamedTuple):
    """A step of a training, as it was first taken."""

    step: int
    tokens: int
    answer_tokens: int
    loss: float
    learning_rate: float
    seconds: float


def models(ledger: Ledger) -> list[Model]:
    """All models that were trained here, by name and version."""
    found: dict[str, Model] = {}
    for row in as_written(all_rows(ledger, ordered(tables.models))):
        model = _decode(row.model, Model)
        found.setdefault(model.label, model)
    return sorted(found.values(), key=lambda model: (model.name, model.version))


def model(ledger: Ledger, label: str) -> Model:
    """One model by ``name@version``, or the newest by ``name``. Raises UnknownName."""
    known = models(ledger)
    for version in reversed(known):
        if label in (version.label, version.name):
            return version
    names = ", ".join(version.label for version in known) or "none"
    raise UnknownName(f"No model is called {label!r}; there is: {names}.")


def model_of_weights(ledger: Ledger, teacher: Teacher) -> Model | None:
    """The model of the log that a teacher is: by the digest of all that makes its answers, or by any file of tensors."""
    if not teacher.weights_digest:
        return None
    given = {teacher.weights_digest, *teacher.tensors}
    return next((known for known in models(ledger) if given & {known.weights_digest, *known.files.values()}), None)


def model_of_training(ledger: Ledger, training: str) -> Model | None:
    """The model that came of a training, where it came to an end."""
    query = ordered(tables.models).where(tables.models.c.training == training)
    return next((_decode(row.model, Model) for row in all_rows(ledger, query)), None)


def steps(ledger: Ledger, training: str) -> list[StoredStep]:
    """The steps of a training in order."""
    found: dict[int, StoredStep] = {}
    for row in all_rows(ledger, ordered(tables.steps).where(tables.steps.c.training == training)):
        step = StoredStep(row.step, row.tokens, row.answer_tokens, row.loss, row.learning_rate, row.seconds)
        found.setdefault(step.step, step)
    return [found[number] for number in sorted(found)]


def fed(ledger: Ledger, training: str) -> dict[int, tuple[str, ...]]:
    """Which records fed which step of a training, in order."""
    found: dict[int, dict[str, None]] = {}
    for row in all_rows(ledger, ordered(tables.fed).where(tables.fed.c.training == training)):
        found.setdefault(row.step, {})[row.key] = None
    return {step: tuple(found[step]) for step in sorted(found)}


def evaluations(ledger: Ledger, subject: str) -> list[Evaluation]:
    """What a model was found to be worth: every evaluation, oldest first. None displaces another."""
    query = ordered(tables.evaluations).where(tables.evaluations.c.subject == subject)
    rows = as_written(all_rows(ledger, query))
    return [_decode(text, Evaluation) for text in dict.fromkeys(row.evaluation for row in rows)]


def plans(ledger: Ledger) -> list[StoredPlan]:
    """All plans, oldest first, with their receipts."""
    receipts: dict[str, list[Receipt]] = {}
    for row in as_written(all_rows(ledger, ordered(tables.receipts))):
        signature = _decode(row.signature, Signature | None)
        result = msgspec.json.decode(row.result)
        receipt = Receipt(plan=row.plan, outcome=row.outcome, result=result, made=row.at, signature=signature)
        receipts.setdefault(row.plan, []).append(receipt)
    found: dict[str, StoredPlan] = {}
    for row in as_written(all_rows(ledger, ordered(tables.plans))):
        plan = _decode(row.plan, Plan)
        found.setdefault(row.digest, StoredPlan(row.digest, row.at, plan, tuple(receipts.get(row.digest, ()))))
    return list(found.values())


def check_node(ledger: Ledger, node: str) -> None:
    """Does the log know a node of lineage? Raises UnknownName: of one that nobody knows, "none" would be no answer."""
    edges = tables.edges
    kind, _, name = node.partition(":")
    names = {
        "teacher": {known.name for known in teachers(ledger)},
        "dataset": {known.label for known in datasets(ledger)},
        "model": {known.label for known in models(ledger)},
    }.get(kind, set())
    known = name in names or any(
        True
        for _ in all_rows(
            ledger, select(edges.c.child).where(or_(edges.c.parent == node, edges.c.child == node)).limit(1)
        )
    )
    runs = select(tables.answers.c.run).where(tables.answers.c.run == name).limit(1)
    if not known and not (kind == "run" and any(True for _ in all_rows(ledger, runs))):
        raise UnknownName(
            f"Nothing here is called {node!r}.",
            next_step="Name teacher:NAME, run:ID, dataset:NAME@N, model:NAME@N, snapshot:DIGEST or corpus:FILE.",
        )


def outcomes(ledger: Ledger, plan: str) -> list[str]:
    """What came of a plan, by its receipts."""
    receipts = tables.receipts
    return [row.outcome for row in all_rows(ledger, select(receipts.c.outcome).where(receipts.c.plan == plan))]


def recorded(ledger: Ledger, kind: type[AFact], *conditions: ColumnElement[bool]) -> list[AFact]:
    """All facts of a kind, in the order in which they were written down."""
    query = ordered(tables.by_name[kind.tables[0].name]).where(*conditions)
    return [fact_of(kind, row) for row in as_written(all_rows(ledger, query))]


def ordered(table: Table) -> Select[Any]:
    """A table's rows in the order in which they were written down."""
    return select(table).order_by(table.c.at, table.c.writer, table.c.number, table.c.place)


def as_written(rows: Iterable[Row[Any]]) -> Iterator[Row[Any]]:
    """Rows in the order in which they were written down: each writer's by their numbers, whatever a clock said; between writers
    by the clock, since there is nothing else.
    """
    by_writer: dict[str, list[Row[Any]]] = {}
    for row in rows:
        by_writer.setdefault(row.writer, []).append(row)
    waiting = [
        (deque(sorted(found, key=lambda row: (row.number, row.place))), writer) for writer, found in by_writer.items()
    ]
    while waiting:
        queue, writer = min(waiting, key=lambda one: (one[0][0].at, one[1]))
        yield queue.popleft()
        if not queue:
            waiting.remove((queue, writer))


def all_rows(ledger: Ledger, query: Select[Any]) -> Iterator[Row[Any]]:
    """The rows of a query, one after the other. Raises LedgerUnavailable."""
    with database_errors(), ledger.engine.connect() as connection:
        yield from connection.execute(query)


def _by_keys(ledger: Ledger, table: Table, column: ColumnElement[str], keys: Iterable[str]) -> Iterator[Row[Any]]:
    iterator = iter(keys)
    while chunk := list(itertools.islice(iterator, _KEYS_PER_QUERY)):
        yield from all_rows(ledger, ordered(table).where(column.in_(chunk)))


def _count_by_key(ledger: Ledger, table: Table, condition: ColumnElement[bool]) -> dict[str, int]:
    query = select(table.c.key, func.count().label("times")).where(condition).group_by(table.c.key)
    return {str(row.key): int(row.times) for row in all_rows(ledger, query)}


def _decode(data: str, kind: Any) -> Any:
    return msgspec.json.decode(data, type=kind)
