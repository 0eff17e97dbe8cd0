"""What asks a teacher, by its kind, and what says of an answer whether it counts."""

from collections.abc import Callable, Sequence

from stillhouse.conversations.finishes import is_usable
from stillhouse.datasets.tasks.judge import is_judged
from stillhouse.datasets.verify import Judge
from stillhouse.errors import RecipeError
from stillhouse.home.open_home import Home
from stillhouse.home.plans.budgets import BudgetLease
from stillhouse.home.progress import Progress
from stillhouse.nouns import Ask, Task, Teacher, TeacherKind, VerdictStatus
from stillhouse.permission.known_hosts import address_of
from stillhouse.runs.recipe import CollectSection
from stillhouse.teachers.anthropic import AnthropicDialect
from stillhouse.teachers.batch import Batches
from stillhouse.teachers.client import Failure, Reply, TeacherClient
from stillhouse.teachers.collect import Batched, ResultWriter
from stillhouse.teachers.dialect import Dialect
from stillhouse.teachers.local_teacher import LocalTeacher
from stillhouse.teachers.openai import OpenAIDialect
from stillhouse.teachers.questions import Accept
from stillhouse.teachers.register import key_of
from stillhouse.teachers.replay_teacher import ReplayTeacher


def make_client(
    home: Home,
    teacher: Teacher,
    section: CollectSection,
    on_tokens: Callable[[int], None] = lambda count: None,
    say: Callable[[str], None] = lambda message: None,
) -> TeacherClient:
    """The client for a teacher's kind."""
    match teacher.kind:
        case TeacherKind.LOCAL:
            return LocalTeacher(teacher, home.cache, on_tokens, say)
        case TeacherKind.REPLAY:
            return ReplayTeacher(teacher)
        case TeacherKind.OPENAI | TeacherKind.ANTHROPIC:
            from stillhouse.teachers.http_teacher import HttpOptions, HttpTeacher  # who asks this machine needs no HTTP

            options = HttpOptions(
                key_of(teacher),
                section.in_flight,
                section.stall_seconds,
                section.requests_a_minute,
                section.tokens_a_minute,
            )
            return HttpTeacher(teacher, _dialect(teacher), options)


def batched(home: Home, teacher: Teacher, run: str, progress: Progress) -> Batched:
    """What collects this recipe in batches. Raises RecipeError where the teacher has none."""
    if teacher.kind not in (TeacherKind.OPENAI, TeacherKind.ANTHROPIC):
        raise RecipeError(f"{teacher.name} takes no batches.", next_step="Take `batch` out of [collect].")
    from stillhouse.teachers.batch_providers import AnthropicBatches, OpenAIBatches

    dialect = _dialect(teacher)
    headers = dialect.headers(key_of(teacher))
    base = address_of(teacher)
    made = OpenAIBatches(base, headers) if teacher.kind is TeacherKind.OPENAI else AnthropicBatches(base, headers)

    def make(
        result_writer: ResultWriter, budget: BudgetLease, on_item: Callable[[Reply | Failure], None]
    ) -> Callable[[Sequence[Ask]], None]:
        return Batches(
            home.recorder, made, dialect, teacher, run, result_writer, budget, say=progress.say, on_item=on_item
        ).collect

    return make


def _dialect(teacher: Teacher) -> Dialect:
    return OpenAIDialect() if teacher.kind is TeacherKind.OPENAI else AnthropicDialect()


def accepting(judge: Judge | None, keep: Sequence[str] = ()) -> Accept:
    """Which answers count where so many are wanted: whole ones, or of the kinds to ``keep``, that passed their tests."""

    def accept(task: Task, key: str, text: str, finish: str) -> bool:
        if not is_usable(text, finish, keep):
            return False
        if judge is not None and is_judged(task):
            return judge.verdict(task, key, text).status is VerdictStatus.PASSED
        return True

    return accept
