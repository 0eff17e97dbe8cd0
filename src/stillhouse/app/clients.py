"""What asks a teacher, by its kind, and what says of an answer whether it counts."""

from collections.abc import Callable, Sequence

from stillhouse.app.home import App
from stillhouse.app.progress import Progress
from stillhouse.conversations.finishes import is_usable
from stillhouse.datasets.verify import Judge
from stillhouse.errors import RecipeError
from stillhouse.nouns import Ask, Task, Teacher, TeacherKind, VerdictStatus
from stillhouse.plans.money import Purse
from stillhouse.settings.recipe import CollectSection
from stillhouse.tasks.judge import is_judged
from stillhouse.teachers.anthropic import AnthropicDialect
from stillhouse.teachers.batch import Batches
from stillhouse.teachers.client import Failure, Reply, TeacherClient
from stillhouse.teachers.collect import Batched, Scribe
from stillhouse.teachers.dialect import Dialect
from stillhouse.teachers.local import LocalTeacher
from stillhouse.teachers.openai import OpenAIDialect
from stillhouse.teachers.questions import Accept
from stillhouse.teachers.register import key_of
from stillhouse.teachers.replay import ReplayTeacher


def make_client(
    app: App,
    teacher: Teacher,
    section: CollectSection,
    on_tokens: Callable[[int], None] = lambda count: None,
    say: Callable[[str], None] = lambda message: None,
) -> TeacherClient:
    """The client for a teacher's kind."""
    match teacher.kind:
        case TeacherKind.LOCAL:
            return LocalTeacher(teacher, app.cache, on_tokens, say)
        case TeacherKind.REPLAY:
            return ReplayTeacher(teacher)
        case TeacherKind.OPENAI | TeacherKind.ANTHROPIC:
            from stillhouse.teachers.http import HttpOptions, HttpTeacher  # who asks this machine needs no HTTP

            options = HttpOptions(
                key_of(teacher),
                section.in_flight,
                section.stall_seconds,
                section.requests_a_minute,
                section.tokens_a_minute,
            )
            return HttpTeacher(teacher, _dialect(teacher), options)


def batched(app: App, teacher: Teacher, run: str, progress: Progress) -> Batched:
    """What collects this recipe in batches. Raises RecipeError where the teacher has none."""
    if teacher.kind not in (TeacherKind.OPENAI, TeacherKind.ANTHROPIC):
        raise RecipeError(f"{teacher.name} takes no batches.", next_step="Take `batch` out of [collect].")
    from stillhouse.teachers.providers import AnthropicBatches, OpenAIBatches

    dialect = _dialect(teacher)
    headers = dialect.headers(key_of(teacher))
    base = teacher.base_url or dialect.default_base_url
    made = OpenAIBatches(base, headers) if teacher.kind is TeacherKind.OPENAI else AnthropicBatches(base, headers)

    def make(
        scribe: Scribe, purse: Purse, on_item: Callable[[Reply | Failure], None]
    ) -> Callable[[Sequence[Ask]], None]:
        return Batches(
            app.recorder, made, dialect, teacher, run, scribe, purse, say=progress.say, on_item=on_item
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
