"""What a recipe comes down to, and what was gathered for it: values that its stages hand on."""

from typing import NamedTuple

from stillhouse.errors import BudgetReached
from stillhouse.home.ledger.answer_queries import StoredAnswer
from stillhouse.nouns import Message, Task, Teacher, Verdict
from stillhouse.runs.recipe import Recipe
from stillhouse.teachers.collect import Collected, Collection, CollectOptions


class PreparedRun(NamedTuple):
    """A recipe, resolved: everything that can be refused has been looked at, and nothing is done yet."""

    recipe: Recipe
    teacher: Teacher
    tasks: tuple[Task, ...]
    options: CollectOptions
    collection: Collection


class Gathered(NamedTuple):
    """Answers, what they are worth, and what it took. ``said`` are the conversations of answers that came after others."""

    collected: Collected
    answers: tuple[StoredAnswer, ...]
    verdicts: dict[tuple[str, str], Verdict]
    stages: dict[str, float]
    budget_reached: BudgetReached | None
    said: dict[str, tuple[Message, ...]]
