"""Collect: plan what is missing, ask for it, record what comes. Nothing that the log has is asked for again."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stillhouse.canon import digest_value
from stillhouse.clock import now
from stillhouse.errors import RecipeError
from stillhouse.home import facts
from stillhouse.home.doors import Doors
from stillhouse.home.ledger import answer_queries, money_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.lineage_graph import parents_of
from stillhouse.home.plans.bounds import unpriced_parameters
from stillhouse.home.plans.budgets import BudgetLease
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.home.plans.prices import cost, is_metered, usd, worst_case
from stillhouse.home.recorder import Recorder
from stillhouse.home.stamping import stamps_of
from stillhouse.nouns import Ask, Decision, Grade, Origin, Parameters, Plan, Stamp, StampSet, Task, Teacher, Use
from stillhouse.permission.decide import Door
from stillhouse.permission.stamp_sets import stamp_set
from stillhouse.teachers.client import REJECTED, Failure, Load, Reply, TeacherClient, nothing_more
from stillhouse.teachers.questions import Accept, Questions, accept_all, unique

# Often enough for the eye.
_SECONDS_BETWEEN_LOOKS = 0.1


class AnswerSource(StrEnum):
    """Where answers are to come from: from the teacher what the log lacks, or from the log alone."""

    TEACHER = "teacher"
    LOG = "log"


class CollectOptions(NamedTuple):
    """What a recipe says about collecting. ``caps`` are those of its run first, then of its project and its teacher.

    ``until``, ``rows`` and ``candidates`` are as ``questions.Questions`` has them.
    """

    run: str
    samples: int
    parameters: Parameters
    purpose: Use
    prompts: str
    prompt_terms: tuple[str, ...]
    caps: Mapping[str, Decimal]
    account: str = ""
    until: int = 0
    rows: int = 0
    candidates: int = 0
    source: AnswerSource = AnswerSource.TEACHER


class Collection(NamedTuple):
    """A plan to collect, and the asks behind it.

    ``wanted`` has one per task and sample; ``asks`` has each key once, since tasks with the same messages share answers.
    Where what is asked depends on what comes, they are those that are known beforehand.
    """

    plan: Plan
    tasks: tuple[Task, ...]
    wanted: tuple[Ask, ...]
    asks: tuple[Ask, ...]
    missing: frozenset[str]
    stamps: StampSet
    facts_digest: str


class Collected(msgspec.Struct):
    """The result; counted as it goes, so that it can be shown. ``wanted`` are the asks that count in the end;
    ``rejected`` the failures for what the request held, which asking again repeats.
    """

    asked: int = 0
    answers: int = 0
    paid: int = 0
    reused: int = 0
    failed: int = 0
    rejected: int = 0
    unsettled: int = 0
    spent: str = "0.000000"
    tokens: int = 0
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    finishes: dict[str, int] = msgspec.field(default_factory=dict)
    wanted: tuple[Ask, ...] = ()
    load: Load = Load()


def plan_collection(doors: Doors, teacher: Teacher, tasks: Sequence[Task], options: CollectOptions) -> Collection:
    """Which answers are wanted, which are missing, what they may cost, and whether policy allows it.

    Raises PolicyRefusal (and writes it down), RecipeError where a metered teacher has no budget or is asked for what has no
    price.
    """
    recorder = doors.recorder
    if is_metered(teacher) and options.source is AnswerSource.TEACHER:
        _check_money(teacher, options)
    stamps = stamp_set(_stamps(recorder, teacher, options))
    questions = make_questions(teacher, tasks, options)
    if questions.adaptive:
        _check_distinct(tasks)
        wanted = tuple(_open_asks(recorder, questions))
        reused = len(questions.last)
    else:
        wanted = tuple(questions.all_first_turns())
        reused = 0
    asks = unique(wanted)
    missing = frozenset(ask.key for ask in asks) - answer_queries.answered(recorder.ledger, (ask.key for ask in asks))
    if options.source is AnswerSource.LOG:
        asks, wanted = (tuple(ask for ask in some if ask.key not in missing) for some in (asks, wanted))
        missing = frozenset()
    # What the log has, or a batch that is under way, is not asked for: whether it may be used is decided by its own stamps when
    # a dataset is formed.
    held = _in_batches(recorder, teacher)
    fresh, subject = missing - held, f"teacher {teacher.name}"
    if missing & held and not doors.policy.check(Door.CONTINUE, stamps.stamps, options.purpose).allowed:
        asks = tuple(ask for ask in asks if ask.key not in fresh)  # what is paid for is fetched, and nothing else asked
        missing, fresh = missing & held, frozenset()
    decisions: list[Decision] = []
    if fresh:
        doors.check(Door.ASK, subject, stamps.stamps, options.purpose)
        decisions = [doors.policy.check(Door.USE, stamps.stamps, use) for use in (Use.STORE, options.purpose)]
    cheapest_bound = sum((worst_case(teacher, ask) for ask in asks if ask.key in missing), Decimal(0))
    facts_digest = digest_value([teacher, sorted(missing)])
    does = {
        "teacher": teacher.name,
        "model": teacher.model,
        "prompts": len(tasks),
        "answers_wanted": len(asks) + reused,
        "answers_in_the_log": len(asks) - len(missing) + reused,
        "answers_to_ask_for": len(missing),
        "budget_usd": str(next(iter(options.caps.values()))) if options.caps else "",
        "purpose": str(options.purpose),
    }
    if questions.adaptive:
        does["and_more"] = "as many as their answers call for, within samples and candidates"
    plan = make_plan("collect", options.run, does, decisions, cheapest_bound, facts_digest)
    return Collection(plan, tuple(tasks), wanted, asks, missing, stamps, facts_digest)


def from_log(
    recorder: Recorder, teacher: Teacher, collection: Collection, options: CollectOptions, accept: Accept = accept_all
) -> Collected:
    """What the log has of a collection; nobody is asked."""
    questions = make_questions(teacher, collection.tasks, options)
    wanted = collection.wanted
    if questions.adaptive:
        _open_asks(recorder, questions, accept)
        wanted = tuple(questions.last)
    known = answer_queries.answered(recorder.ledger, (ask.key for ask in wanted))
    wanted = tuple(ask for ask in wanted if ask.key in known)
    return Collected(asked=len(wanted), answers=len(wanted), reused=len(wanted), wanted=wanted)


def make_questions(teacher: Teacher, tasks: Sequence[Task], options: CollectOptions) -> Questions:
    """The candidates that some options describe."""
    return Questions(
        teacher,
        tasks,
        options.parameters,
        options.samples,
        until=options.until,
        rows=options.rows,
        candidates=options.candidates,
    )


def collect(
    doors: Doors,
    client: TeacherClient,
    teacher: Teacher,
    collection: Collection,
    options: CollectOptions,
    locks: Path,
    on_progress: Callable[[Collected], None] = lambda collected: None,
    accept: Accept = accept_all,
    batched: "Batched | None" = None,
) -> Collected:
    """Execute the plan; in batches where ``batched`` makes what hands them over.

    Raises BudgetReached when a cap is; everything received until then is in the log.
    """
    recorder = doors.recorder
    questions = make_questions(teacher, collection.tasks, options)
    asks, missing = _left_to_ask(
        recorder, collection, questions, accept, set() if batched else _in_batches(recorder, teacher)
    )
    before = money_queries.unleased_spending(recorder.ledger, options.run)
    budget = BudgetLease(recorder, locks, options.caps if is_metered(teacher) else {}, before.paid + before.held)
    done = Collected(asked=len(asks) + len(questions.last), reused=len(asks) - len(missing) + len(questions.last))
    if len(asks) < len(collection.asks) and not questions.adaptive:
        done.reasons["a batch that is under way holds it"] = len(collection.asks) - len(asks)
    done.answers, done.unsettled = done.reused, money_queries.spending(recorder.ledger, options.run).unsettled
    share = Decimal(teacher.batch_share or 1) if batched is not None else Decimal(1)
    result_writer = ResultWriter(doors, teacher, collection.stamps, options.run, budget, options.purpose, share)
    shown = _Shown(done, client, budget, on_progress)

    def deliver(item: Reply | Failure) -> None:
        result_writer.deliver(item)
        shown.note(item)

    with executing(recorder, collection.plan, collection.facts_digest) as result:
        try:
            _link(recorder, teacher, options)
            if missing:
                if batched is not None:
                    batched(result_writer, budget, shown.note)([ask for ask in asks if ask.key in missing])
                else:
                    more = _what_follows(questions, accept, done) if questions.adaptive else nothing_more
                    client.answer(asks, missing, result_writer.admit, deliver, more)
                shown.now()  # everything is recorded; what follows brings the view up to date
        finally:
            # Whatever ended it: the unused part of the lease goes back, and the receipt says what really came.
            budget.close()
            recorder.refresh()
            after = money_queries.spending(recorder.ledger, options.run)
            done.unsettled, done.spent, done.load = after.unsettled, usd(after.paid), Load()
            done.wanted = tuple(questions.last) if questions.adaptive else collection.wanted
            result.update({k: v for k, v in msgspec.structs.asdict(done).items() if k not in ("wanted", "load")})
            on_progress(done)
    return done


def _in_batches(recorder: Recorder, teacher: Teacher) -> set[str]:
    """What batches with a teacher hold that are under way: it is bought already, and only batches fetch it."""
    return {call.key for batch in answer_queries.open_batches(recorder.ledger, teacher.name) for call in batch.calls}


def _left_to_ask(
    recorder: Recorder, collection: Collection, questions: Questions, accept: Accept, held: set[str]
) -> tuple[tuple[Ask, ...], frozenset[str]]:
    """The asks that count, and the keys that have no answer; without those that others hold."""
    asks, missing = collection.asks, collection.missing
    if questions.adaptive:
        asks = unique(_open_asks(recorder, questions, accept))
        missing = frozenset(ask.key for ask in asks)
    asks, missing = tuple(ask for ask in asks if ask.key not in held), missing - held
    failed = answer_queries.known_failures(recorder.ledger, missing)
    return tuple(
        msgspec.structs.replace(ask, tries=failed[ask.key]) if ask.key in failed else ask for ask in asks
    ), missing


class _Shown:
    """What is shown of a collection: counted with every answer, thousands a second, and told a few times a second."""

    def __init__(
        self, done: Collected, client: TeacherClient, budget: BudgetLease, on_progress: Callable[[Collected], None]
    ) -> None:
        self._done, self._client, self._budget, self._on_progress = done, client, budget, on_progress
        self._looked = 0.0

    def note(self, item: Reply | Failure) -> None:
        """Count one, and tell where it is time."""
        count(self._done, item)
        moment = time.monotonic()
        if moment - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self._looked = moment
            self.now()

    def now(self) -> None:
        """Tell how far it is."""
        self._done.spent, self._done.load = usd(self._budget.spent), self._client.load()
        self._on_progress(self._done)


def _what_follows(questions: Questions, accept: Accept, done: Collected) -> Callable[[Reply | Failure], Sequence[Ask]]:
    """What is asked after each answer. Called from a client's threads; judging takes seconds, so it runs outside the lock."""
    thinking = threading.Lock()

    def more(item: Reply | Failure) -> Sequence[Ask]:
        task = questions.task_of(item.ask)
        if isinstance(item, Reply):
            accepted = task is not None and accept(task, item.ask.key, item.text, item.finish)
            with thinking:
                following = questions.after(item.ask, item.text, accepted=accepted)
        else:
            with thinking:
                following = questions.after_failure(item.ask)
        done.asked += len(following)
        return following

    return more


def count(done: Collected, item: Reply | Failure) -> None:
    """Add one reply or failure to what came so far."""
    if isinstance(item, Reply):
        done.answers, done.paid = done.answers + 1, done.paid + 1
        done.tokens += max(0, item.usage.completion_tokens)
        done.finishes[item.finish] = done.finishes.get(item.finish, 0) + 1
    else:
        done.failed += int(not item.again)
        done.rejected += int(not item.again and item.status in REJECTED)
        done.unsettled += int(item.charged)
        done.reasons[item.reason] = done.reasons.get(item.reason, 0) + 1


class AskCheck(NamedTuple):
    """Under what an earlier process, or another run, admitted a call."""

    run: str
    stamps: int
    lease: str


class ResultWriter:
    """Writes down what is asked and what comes of it, with its money: the same for single calls and for batches."""

    def __init__(
        self,
        doors: Doors,
        teacher: Teacher,
        stamps: StampSet,
        run: str,
        budget: BudgetLease,
        purpose: Use,
        share: Decimal = Decimal(1),
    ) -> None:
        """``purpose`` is what is asked again of policy where something changes meanwhile; ``share`` is the part of the teacher's
        prices that these calls cost once they are answered.
        """
        self._doors, self._recorder, self._budget = doors, doors.recorder, budget
        self._teacher, self._stamps, self._run = teacher, stamps, run
        self._purpose, self._share, self._checked = purpose, share, False
        self._metered = is_metered(teacher)
        self._recorder.intern([stamps], {})

    def admit(self, asks: Sequence[Ask]) -> None:
        """Reserve money for calls, and write down that they are about to be sent, and what they ask.

        Raises BudgetReached; PolicyRefusal where access was revoked since the collection began.
        """
        if self._doors.changed() or not self._checked:
            self._checked = True
            self._doors.check(Door.ASK, f"teacher {self._teacher.name}", self._stamps.stamps, self._purpose)
        by_price: dict[Decimal, list[Ask]] = {Decimal(0): list(asks)}
        lease = ""
        if self._metered:
            prices = [(ask.key, worst_case(self._teacher, ask)) for ask in asks]
            lease = self._budget.reserve(prices)
            by_price = {}
            for ask, (_, price) in zip(asks, prices, strict=True):
                by_price.setdefault(price, []).append(ask)
        # One entry names all calls of one price. It is in the log before the first of them is sent.
        asked = [self._asked(group, price, lease) for price, group in by_price.items()]
        self._recorder.intern((), {ask.prompt: ask.messages for ask in asks}, asked)

    @property
    def stamps(self) -> int:
        """The stamp set of what it writes down."""
        return self._stamps.id

    def deliver(self, item: Reply | Failure, admission: AskCheck | None = None) -> None:
        """Write down what came of a call, then settle its money; ``admission`` where another process admitted it.

        Money of an earlier lease is settled by ``BudgetLease.reconcile`` once all of it is written down.
        """
        under = admission or AskCheck(self._run, self._stamps.id, self._budget.lease)
        late = under.lease != self._budget.lease
        # Recorded before the money is settled: a kill in between leaves the worst case charged, never too little.
        entry, price = self._answered(item) if isinstance(item, Reply) else self._failed(item)
        named: dict[str, Any] = {"run": under.run, "lease": under.lease if self._metered else ""}
        if isinstance(entry, facts.Answered):
            named["stamps"] = under.stamps
        self._recorder.record(msgspec.structs.replace(entry, **named) if admission or self._metered else entry)
        if not self._metered or late:
            return
        if price is None:
            self._budget.keep(item.ask.key)
        else:
            self._budget.settle(item.ask.key, price)

    def _asked(self, asks: Sequence[Ask], price: Decimal, lease: str) -> facts.Asked:
        return facts.Asked(
            at=now(),
            by=self._recorder.by,
            run=self._run,
            teacher=self._teacher.name,
            keys=tuple(ask.key for ask in asks),
            worst_case_usd=usd(price),
            lease=lease,
        )

    def _answered(self, reply: Reply) -> tuple[facts.Answered, Decimal]:
        # A teacher that does not count its tokens is charged what the call could have cost.
        counted = min(reply.usage.prompt_tokens, reply.usage.completion_tokens) >= 0
        price = cost(self._teacher, reply.usage) * self._share if counted else worst_case(self._teacher, reply.ask)
        entry = facts.Answered(
            at=now(),
            by=self._recorder.by,
            run=self._run,
            teacher=self._teacher.name,
            key=reply.ask.key,
            task=reply.ask.task,
            prompt=reply.ask.prompt,
            sample=reply.ask.sample,
            stamps=self._stamps.id,
            text=reply.text,
            finish=reply.finish,
            usage=reply.usage,
            cost_usd=usd(price),
            seconds=round(reply.seconds, 4),
            raw="" if reply.raw == reply.text else reply.raw,  # kept only where it holds more than the text
        )
        return entry, price

    def _failed(self, failure: Failure) -> tuple[facts.CallFailed, Decimal | None]:
        entry = facts.CallFailed(
            at=now(),
            by=self._recorder.by,
            run=self._run,
            teacher=self._teacher.name,
            key=failure.ask.key,
            reason=failure.reason,
            status=failure.status,
            charged=failure.charged,
        )
        return entry, None if failure.charged else Decimal(0)


# Makes what collects asks in batches: given who writes, whose money, and who counts.
Batched = Callable[[ResultWriter, BudgetLease, Callable[[Reply | Failure], None]], Callable[[Sequence[Ask]], None]]


def _open_asks(recorder: Recorder, questions: Questions, accept: Accept = accept_all) -> list[Ask]:
    """Take everything that the log has first, then what there is room for: the asks that are still to be sent."""
    waiting: list[Ask] = []
    firsts = unique(questions.all_first_turns())
    known = answer_queries.answers(recorder.ledger, [ask.key for ask in firsts])
    texts = _Texts(recorder.ledger, [ask.key for ask in firsts if ask.key in known])
    questions.pause()
    for first in firsts:
        if first.key not in known:
            continue
        questions.take(first)
        chain = [first]
        while chain:
            ask = chain.pop()
            found = known.get(ask.key) or answer_queries.answers(recorder.ledger, [ask.key]).get(ask.key)
            if found is None:
                waiting.append(ask)
            else:
                task = questions.task_of(ask)
                text = texts.of(found.key)
                accepted = task is not None and accept(task, ask.key, text, found.finish)
                chain += questions.after(ask, text, accepted=accepted)
    questions.resume()
    return [*waiting, *questions.more()]


class _Texts:
    """The texts of answers that are looked at in about the order of some keys, some at a time; others are looked up."""

    def __init__(self, ledger: Ledger, keys: Sequence[str]) -> None:
        self._ledger, self._keys = ledger, keys
        self._places = {key: place for place, key in enumerate(keys)}
        self._held: dict[str, str] = {}

    def of(self, key: str) -> str:
        """The text of an answer."""
        if key not in self._places:
            return answer_queries.texts(self._ledger, [key])[key]
        if key not in self._held:
            place = self._places[key]
            self._held = answer_queries.texts(self._ledger, self._keys[place : place + answer_queries.TEXTS_AT_ONCE])
        return self._held[key]


def _check_money(teacher: Teacher, options: CollectOptions) -> None:
    if not options.caps or not next(iter(options.caps)).startswith("run:"):
        raise RecipeError(
            f"{teacher.name} costs money, and the recipe sets no budget.",
            next_step='Add budget = "5.00" (USD) to [collect].',
        )
    item = unpriced_parameters(options.parameters.more)
    if item:
        raise RecipeError(
            f"{teacher.name} costs money, and {item} has no price by the token.",
            next_step="Take it out of [collect.parameters].",
        )


def _check_distinct(tasks: Sequence[Task]) -> None:
    seen: dict[tuple[object, ...], str] = {}
    for task in tasks:
        first = seen.setdefault((task.messages, task.turns), task.id)
        if first != task.id:
            raise RecipeError(
                f"The prompts {first!r} and {task.id!r} are the same, so it is not clear which of them an answer counts for.",
                next_step="Take one of them out, or ask without `until_verified`, `rows` and turns.",
            )


def _link(recorder: Recorder, teacher: Teacher, options: CollectOptions) -> None:
    """Lineage: whose answers a run uses, those too that another run asked for."""
    child = f"run:{options.run}"
    known = {(edge.parent, edge.kind) for edge in parents_of(recorder.ledger, child)}
    wanted = {(f"teacher:{teacher.name}", "answered"), (f"prompts:{options.prompts}", "asked in")}
    for parent, kind in sorted(wanted - known):
        recorder.record(facts.Derived(at=now(), by=recorder.by, parent=parent, child=child, kind=kind))


def _stamps(recorder: Recorder, teacher: Teacher, options: CollectOptions) -> list[Stamp]:
    by_teacher = stamps_of(recorder.ledger, teacher, purpose=options.purpose, account=options.account)
    by_prompt = Stamp(origin=Origin.PROMPT_SEED, terms=options.prompt_terms, day=now()[:10], grade=Grade.DECLARED)
    return [*by_teacher, by_prompt]
