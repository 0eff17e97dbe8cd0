"""A recipe: what to ask whom, and what to make of the answers. TOML in, frozen values out."""

import math
import tomllib
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from stillhouse.canon import digest_value
from stillhouse.conversations.finishes import KEPT
from stillhouse.conversations.redaction import Secrets
from stillhouse.errors import RecipeError
from stillhouse.home.plans.prices import parse_usd
from stillhouse.nouns import Method, Signal, Use
from stillhouse.runs.chat_template import template_text
from stillhouse.teachers.dialect import LIMITS, OPTIONAL


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys that are not listed are refused: a mistyped one must not pass for a default."""


class TeacherSection(_Section, frozen=True):
    """``use``: the name of a registered teacher; ``limit_field`` and ``rejects`` say which fields its server takes, where its
    registration does not.
    """

    use: str
    limit_field: str = ""
    rejects: tuple[str, ...] = ()


class PromptsSection(_Section, frozen=True):
    """``file`` or ``suite`` (stillhouse, humaneval); ``split`` keeps one part and ``limit`` spreads over the whole."""

    file: str = ""
    suite: str = ""
    split: str = ""
    limit: int = 0
    terms: tuple[str, ...] = ()


class CollectSection(_Section, frozen=True):
    """How to ask. ``stop_at_code`` ends a local model's answer at its closing code fence; ``parameters`` go into every
    request as they stand. ``until_verified`` asks for a task until so many answers passed, ``candidates`` is the most to ask.
    """

    samples: int = 1
    in_flight: int = 64
    budget: str = ""
    max_tokens: int = 512
    temperature: float = 0.8
    seed: int = 0
    purpose: Use = Use.TRAIN
    stop_at_code: bool = True
    stall_seconds: float = 300.0
    project: str = ""
    until_verified: int = 0
    candidates: int = 0
    requests_a_minute: int = 0
    tokens_a_minute: int = 0
    batch: bool = False
    parameters: dict[str, Any] = {}


class DatasetSection(_Section, frozen=True):
    """``name`` of the dataset; ``use`` is what it must be allowed for; ``verified`` false keeps what failed, too; ``rows``
    above 0 asks until the dataset has exactly so many; ``mix`` are other dataset versions whose rows join it; ``keep`` names
    the kinds of incomplete answers that become rows all the same; ``secrets`` in rows are kept, redacted, or drop the row.
    """

    name: str
    use: Use = Use.TRAIN
    verified: bool = True
    rows: int = 0
    mix: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    secrets: Secrets = Secrets.KEEP


class Target(StrEnum):
    """What of an answer is learned: all of it, or its code in a fence."""

    ANSWER = "answer"
    CODE = "code"


class TrainSection(_Section, frozen=True):
    """Which student to train, and how. ``name`` is the model's, else the dataset's; ``learning_rate`` 0 is the method's own;
    ``layers`` above 0 starts from so many of the student's; ``teacher`` (else the recipe's) gives the distribution;
    ``chat_template`` is the text of one to use instead of the student's own (a file of the recipe says ``chatml`` or a path).
    """

    student: str
    name: str = ""
    method: Method = Method.LORA
    rank: int = 16
    learning_rate: float = 0.0
    epochs: int = 2
    seed: int = 0
    target: Target = Target.ANSWER
    signal: Signal = Signal.TEXT
    teacher: str = ""
    layers: int = 0
    gradient_checkpointing: bool = False
    chat_template: str = ""


class SandboxSection(_Section, frozen=True):
    """Where the code of answers is run: ``cpu_seconds`` for each program, and ``packages``, names of installed distributions
    that programs may import (HumanEval+ wants numpy).
    """

    cpu_seconds: int = 2
    packages: tuple[str, ...] = ()


class EvalSection(_Section, frozen=True):
    """On which suites to evaluate, on how many ``tasks`` of each (all, where a suite is not named) and with how many ``samples``.

    With ``minutes``, both are scaled to the time instead: what is found then depends on the machine and its load.
    """

    suites: tuple[str, ...] = ("held-out",)
    tasks: dict[str, int] = {}
    samples: int = 0
    minutes: float | None = None
    max_tokens: int = 256
    temperature: float = 0.8
    seed: int = 1


# An hour for one program of one answer: beyond it, a mistyped number.
_LONGEST = 3600
# What of [collect] tells one run from another; the rest says how it is asked, and may change on the way.
_NAMING = ("samples", "max_tokens", "temperature", "seed", "purpose", "stop_at_code")
# What the engine itself puts into a request, or keeps out of it.
_RESERVED = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "seed", "n", "stream"}
)


class Recipe(_Section, frozen=True):
    """A whole recipe. ``folder`` is where relative paths count from."""

    teacher: TeacherSection
    prompts: PromptsSection
    dataset: DatasetSection
    collect: CollectSection = CollectSection()
    train: TrainSection | None = None
    eval: EvalSection | None = None
    sandbox: SandboxSection = SandboxSection()
    folder: str = ""

    @property
    def model(self) -> str:
        """The name of the model that is trained."""
        return (self.train.name if self.train else "") or self.dataset.name

    @property
    def suite(self) -> str:
        """The suite's name, or the path of the prompts file."""
        return self.prompts.suite or str(Path(self.folder) / self.prompts.file)

    @property
    def budget(self) -> Decimal | None:
        """The cap in USD, where there is one."""
        return parse_usd(self.collect.budget, "budget") if self.collect.budget else None

    @property
    def run(self) -> str:
        """The run's name: the same recipe resumes the same run. A budget may be raised without a new one."""
        known = msgspec.to_builtins(self.collect)
        collect = {name: known[name] for name in _NAMING} | {"budget": "", "in_flight": 0, "stall_seconds": 0}
        collect |= {"parameters": self.collect.parameters} if self.collect.parameters else {}
        parts = [{"use": self.teacher.use}, self.prompts, self.dataset.name, collect]
        return digest_value(msgspec.to_builtins(parts)).partition(":")[2][:12]


# Keys that came after recipes were first written down: where they are not used, a recipe is the one that it was.
_LATER = (("teacher", ("limit_field", "rejects")), ("dataset", ("keep", "secrets")), ("train", ("chat_template",)))
_UNUSED: tuple[object, ...] = ("", [], (), Secrets.KEEP)


def recipe_digest(recipe: Recipe) -> str:
    """The identity of a whole recipe."""
    content = msgspec.to_builtins(recipe)
    for section, names in _LATER:
        for name in names:
            if content[section] and content[section][name] in _UNUSED:
                del content[section][name]
    if recipe.sandbox == SandboxSection():
        del content["sandbox"]
    return digest_value(content)


def read_recipe(path: Path) -> Recipe:
    """A recipe from a file. Raises RecipeError, naming the key."""
    try:
        return parse_recipe(path.read_bytes(), str(path), path.absolute().parent)
    except FileNotFoundError:
        raise RecipeError(f"{path} does not exist.", next_step="Correct the path.") from None
    except OSError as failure:
        raise RecipeError(f"{path} cannot be read: {failure.strerror}.") from failure


def parse_recipe(data: bytes, where: str, folder: Path) -> Recipe:
    """A recipe from TOML bytes. Raises RecipeError."""
    try:
        content: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
        if "folder" in content:
            raise RecipeError(f"{where}: unknown field `folder`.")
        recipe = msgspec.convert({**content, "folder": str(folder)}, Recipe)
    except UnicodeDecodeError as failure:
        raise RecipeError(f"{where}: the text is not UTF-8.") from failure
    except tomllib.TOMLDecodeError as failure:
        raise RecipeError(f"{where}: this is not TOML ({failure}).") from failure
    except msgspec.ValidationError as failure:
        raise RecipeError(f"{where}: {_readable(failure)}.") from failure
    _check(recipe, where)
    return _with_template(recipe, where)


def _with_template(recipe: Recipe, where: str) -> Recipe:
    if recipe.train is None:
        return recipe
    text = template_text(recipe.train.chat_template, Path(recipe.folder), where)
    return msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, chat_template=text))


def _check(recipe: Recipe, where: str) -> None:
    if bool(recipe.prompts.file) == bool(recipe.prompts.suite):
        raise RecipeError(f"{where}: [prompts] needs either file or suite.")
    for key in ("samples", "in_flight", "max_tokens"):
        if getattr(recipe.collect, key) < 1:
            raise RecipeError(f"{where}: [collect] {key} must be at least 1.")
    for key in ("until_verified", "candidates", "requests_a_minute", "tokens_a_minute"):
        if getattr(recipe.collect, key) < 0:
            raise RecipeError(f"{where}: [collect] {key} may not be negative.")
    if recipe.dataset.mix and recipe.dataset.rows:
        raise RecipeError(f"{where}: [dataset] rows counts what is asked for, and mix adds to it: one of them.")
    if unknown := set(recipe.dataset.keep) - set(KEPT):
        raise RecipeError(
            f"{where}: [dataset] keep takes {', '.join(KEPT)}, not {', '.join(sorted(unknown))}.",
            next_step="A row cannot hold calls of tools; every other kind can be kept on purpose.",
        )
    if recipe.teacher.limit_field not in ("", *LIMITS) or set(recipe.teacher.rejects) - set(OPTIONAL):
        raise RecipeError(
            f"{where}: [teacher] limit_field is one of {', '.join(LIMITS)}; rejects takes {', '.join(OPTIONAL)}."
        )
    if not 1 <= recipe.sandbox.cpu_seconds <= _LONGEST:
        raise RecipeError(f"{where}: [sandbox] cpu_seconds must lie between 1 and {_LONGEST}.")
    if recipe.dataset.rows < 0:
        raise RecipeError(f"{where}: [dataset] rows may not be negative.")
    if reserved := _RESERVED & recipe.collect.parameters.keys():
        raise RecipeError(f"{where}: [collect.parameters] may not hold {', '.join(sorted(reserved))}.")
    if recipe.collect.batch and (recipe.collect.until_verified or recipe.dataset.rows):
        raise RecipeError(f"{where}: [collect] batch asks for everything at once: no until_verified, no rows.")
    if recipe.prompts.limit < 0 or recipe.collect.temperature < 0 or recipe.collect.stall_seconds <= 0:
        raise RecipeError(f"{where}: limit and temperature may not be negative, and stall_seconds must be positive.")
    for section, name in (("dataset", recipe.dataset.name), ("train", recipe.model)):
        if not name or any(letter in name for letter in "@/\\ \n"):
            raise RecipeError(f"{where}: [{section}] name must be one word without @, / or spaces.")
    if recipe.train is not None:
        _check_train(recipe.train, where)
    if recipe.eval is not None:
        _check_eval(recipe.eval, where)
    if recipe.eval is not None and recipe.train is None:
        raise RecipeError(f"{where}: [eval] needs [train]; `stillhouse model eval` evaluates what there is already.")
    _ = recipe.budget


def _check_train(train: TrainSection, where: str) -> None:
    if train.rank < 1 or train.epochs < 1:
        raise RecipeError(f"{where}: [train] rank and epochs must be at least 1.")
    if not 0 <= train.learning_rate < 1:
        raise RecipeError(f"{where}: [train] learning_rate must lie between 0 and 1.")
    if train.layers < 0 or train.layers == 1:
        raise RecipeError(f"{where}: [train] layers must be at least 2, or 0 for all.")


def _check_eval(section: EvalSection, where: str) -> None:
    if not section.suites:
        raise RecipeError(f"{where}: [eval] needs at least one suite.")
    if section.max_tokens < 1 or section.temperature < 0 or section.samples < 0:
        raise RecipeError(f"{where}: [eval] max_tokens must be positive, samples and temperature not negative.")
    if section.minutes is not None and not 0 < section.minutes < math.inf:
        raise RecipeError(f"{where}: [eval] minutes must be a positive, finite number.")
    if section.minutes is not None and (section.samples or section.tasks):
        raise RecipeError(f"{where}: [eval] takes minutes, or samples and tasks: minutes scales both to the time.")
    if unknown := section.tasks.keys() - set(section.suites):
        raise RecipeError(f"{where}: [eval.tasks] names {', '.join(sorted(unknown))}, which suites does not.")
    if any(count < 1 for count in section.tasks.values()):
        raise RecipeError(f"{where}: [eval.tasks] must be at least 1; leave a suite out to ask all of its tasks.")


def _readable(failure: msgspec.ValidationError) -> str:
    """Msgspec says ``Object contains unknown field `x` - at `$.collect` ``; a reader of TOML thinks in sections."""
    text = (
        str(failure)
        .replace("Object contains unknown field", "unknown key")
        .replace("Object missing required field", "missing key")
    )
    what, _, place = text.partition(" - at `$")
    return f"{what} in [{place.strip('`.')}]" if place.strip("`.") else what
