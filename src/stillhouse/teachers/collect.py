"""Collect: plan what is missing, ask for it, record what comes. Nothing that the log has is asked for again."""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from stillhouse import facts
from stillhouse.canon import digest_value
from stillhouse.errors import RecipeError
from stillhouse.ledger import queries
from stillhouse.nouns import Ask, Grade, Origin, Parameters, Plan, Stamp, StampSet, Task, Teacher, Use
from stillhouse.plans.money import Budget, cost, is_metered, usd, worst_case
from stillhouse.plans.plan import executing, make_plan
from stillhouse.recorder import Recorder, now, prompt_digest, stamp_set
from stillhouse.teachers.client import Failure, Reply, TeacherClient


class CollectOptions(NamedTuple):
    """What a recipe says about collecting."""

    run: str
    samples: int
    parameters: Parameters
    purpose: Use
    prompts: str
    prompt_terms: tuple[str, ...]
    budget: Decimal | None
    account: str = ""


class Collection(NamedTuple):
    """A plan to collect, and the asks behind it.

    ``wanted`` has one per task and sample; ``asks`` has each key once, since tasks with the same messages share answers.
    """

    plan: Plan
    wanted: tuple[Ask, ...]
    asks: tuple[Ask, ...]
    missing: frozenset[str]
    stamps: StampSet
    facts_digest: str


class Collected(msgspec.Struct):
    """What came of it; counted as it goes, so that it can be shown."""

    asked: int = 0
    answers: int = 0
    paid: int = 0
    reused: int = 0
    failed: int = 0
    unsettled: int = 0
    spent: str = "0.000000"
    tokens: int = 0
    reasons: dict[str, int] = msgspec.field(default_factory=dict)


def plan_collection(recorder: Recorder, teacher: Teacher, tasks: Sequence[Task], options: CollectOptions) -> Collection:
    """Which answers are wanted, which are missing, what they may cost, and whether policy allows it.

    Raises PolicyRefusal (and writes it down), RecipeError where a metered teacher has no budget.
    """
    if is_metered(teacher) and options.budget is None:
        raise RecipeError(
            f"{teacher.name} costs money, and the recipe sets no budget.",
            next_step='Add budget = "5.00" (USD) to [collect].',
        )
    stamps = stamp_set(_stamps(recorder, teacher, options))
    decisions = recorder.decide(f"teacher {teacher.name}", stamps.stamps, (Use.STORE, options.purpose))
    wanted = tuple(_asks(teacher, tasks, options))
    asks = tuple({ask.key: ask for ask in reversed(wanted)}.values())[::-1]
    answered = queries.answers(recorder.ledger, [ask.key for ask in asks])
    missing = frozenset(ask.key for ask in asks) - answered.keys()
    cheapest_bound = sum((worst_case(teacher, ask) for ask in asks if ask.key in missing), Decimal(0))
    facts_digest = digest_value([teacher, sorted(missing)])
    does = {
        "teacher": teacher.name,
        "model": teacher.model,
        "prompts": len(tasks),
        "answers_wanted": len(asks),
        "answers_in_the_log": len(asks) - len(missing),
        "answers_to_ask_for": len(missing),
        "budget_usd": str(options.budget) if options.budget is not None else "",
        "purpose": str(options.purpose),
    }
    plan = make_plan("collect", options.run, does, decisions, cheapest_bound, facts_digest)
    return Collection(plan, wanted, asks, missing, stamps, facts_digest)


def collect(
    recorder: Recorder,
    client: TeacherClient,
    teacher: Teacher,
    collection: Collection,
    options: CollectOptions,
    on_progress: Callable[[Collected], None] = lambda collected: None,
) -> Collected:
    """Execute the plan. Raises BudgetReached when the cap is; everything received until then is in the log."""
    before = queries.spending(recorder.ledger, options.run)
    budget = Budget(options.budget, before.paid + before.held)
    done = Collected(asked=len(collection.asks), reused=len(collection.asks) - len(collection.missing))
    done.answers, done.unsettled = done.reused, before.unsettled
    recorder.intern([collection.stamps], {ask.prompt: ask.messages for ask in collection.asks})

    def admit(asks: Sequence[Ask]) -> None:
        for ask in asks:
            budget.reserve(ask.key, worst_case(teacher, ask))
        by_cost: dict[Decimal, list[str]] = {}
        for ask in asks:
            by_cost.setdefault(worst_case(teacher, ask), []).append(ask.key)
        recorder.record(
            *(
                facts.Asked(
                    at=now(), by=recorder.by, run=options.run, teacher=teacher.name, keys=tuple(keys),
                    worst_case_usd=usd(amount),
                )
                for amount, keys in by_cost.items()
            )
        )  # fmt: skip

    def deliver(item: Reply | Failure) -> None:
        if isinstance(item, Reply):
            _record_reply(recorder, teacher, collection, options, budget, item)
            done.answers, done.paid = done.answers + 1, done.paid + 1
            done.tokens += max(0, item.usage.completion_tokens)
        else:
            _record_failure(recorder, teacher, options, budget, item)
            done.failed += int(not item.again)
            done.unsettled += int(item.charged)
            done.reasons[item.reason] = done.reasons.get(item.reason, 0) + 1
        done.spent = usd(budget.spent)
        on_progress(done)

    with executing(recorder, collection.plan, collection.facts_digest) as result:
        try:
            if collection.missing:
                recorder.record(*_edges(recorder, teacher, options.prompts, options.run))
                client.answer(collection.asks, collection.missing, admit, deliver)
        finally:
            recorder.refresh()
            after = queries.spending(recorder.ledger, options.run)
            done.unsettled, done.spent = after.unsettled, usd(after.paid)
            result.update(msgspec.structs.asdict(done))
    return done


def _record_reply(
    recorder: Recorder, teacher: Teacher, collection: Collection, options: CollectOptions, budget: Budget, reply: Reply
) -> None:
    # A teacher that does not count its tokens is charged what the call could have cost.
    counted = min(reply.usage.prompt_tokens, reply.usage.completion_tokens) >= 0
    price = cost(teacher, reply.usage) if counted else worst_case(teacher, reply.ask)
    recorder.record(
        facts.Answered(
            at=now(),
            by=recorder.by,
            run=options.run,
            teacher=teacher.name,
            key=reply.ask.key,
            task=reply.ask.task,
            prompt=reply.ask.prompt,
            sample=reply.ask.sample,
            stamps=collection.stamps.id,
            text=reply.text,
            finish=reply.finish,
            usage=reply.usage,
            cost_usd=usd(price),
            seconds=round(reply.seconds, 4),
            raw="" if reply.raw == reply.text else reply.raw,
        )
    )
    budget.settle(reply.ask.key, price)


def _record_failure(
    recorder: Recorder, teacher: Teacher, options: CollectOptions, budget: Budget, failure: Failure
) -> None:
    recorder.record(
        facts.CallFailed(
            at=now(),
            by=recorder.by,
            run=options.run,
            teacher=teacher.name,
            key=failure.ask.key,
            reason=failure.reason,
            status=failure.status,
            charged=failure.charged,
        )
    )
    if failure.charged:
        budget.keep(failure.ask.key)
    else:
        budget.settle(failure.ask.key, Decimal(0))


def _edges(recorder: Recorder, teacher: Teacher, prompts: str, run: str) -> Iterable[facts.Derived]:
    for parent, kind in ((f"teacher:{teacher.name}", "answered"), (f"prompts:{prompts}", "asked in")):
        yield facts.Derived(at=now(), by=recorder.by, parent=parent, child=f"run:{run}", kind=kind)


def _stamps(recorder: Recorder, teacher: Teacher, options: CollectOptions) -> list[Stamp]:
    by_teacher = recorder.stamps_of(teacher, purpose=options.purpose, account=options.account)
    by_prompt = Stamp(origin=Origin.PROMPT_SEED, terms=options.prompt_terms, day=now()[:10], grade=Grade.DECLARED)
    return [*by_teacher, by_prompt]


def teacher_identity(teacher: Teacher) -> str:
    """What makes two teachers the same: not the name that they are registered by.

    The address is part of it, since a model of one name can be another at another host.
    """
    parts = [teacher.kind, teacher.lab, teacher.model, teacher.channel, teacher.weights_digest, teacher.base_url]
    return digest_value(parts)


def _asks(teacher: Teacher, tasks: Sequence[Task], options: CollectOptions) -> Iterable[Ask]:
    identity = teacher_identity(teacher)
    for task in tasks:
        prompt = prompt_digest(task.messages)
        for sample in range(options.samples):
            key = digest_value([identity, prompt, options.parameters, sample])
            yield Ask(key, task.id, prompt, task.messages, options.parameters, sample)
