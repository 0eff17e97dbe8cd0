"""What is an answer's code worth? The program runs in the sandbox; what it returned is compared here, outside."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from stillhouse.canon import digest_value
from stillhouse.nouns import Task, Verdict, VerdictStatus
from stillhouse.sandbox.pool import Sandbox
from stillhouse.sandbox.programs import Outcome, Program
from stillhouse.tasks.extract import code_of

# Part of every judge's digest: raise it when the same answer could get another verdict, and answers are judged anew.
JUDGE_VERSION = 1
# Longer code is not a program that a teacher wrote on purpose, and parsing it would cost more than running it.
LONGEST_CODE = 1 << 20


def judge_digest(task: Task) -> str:
    """The identity of the way a task is judged: the same tests, applied in the same way."""
    return digest_value(
        {
            "version": JUDGE_VERSION,
            "entry_point": task.entry_point,
            "tests": [[list(test.arguments), test.returns] for test in task.tests],
            "check": task.check,
            "prefix": task.prefix,
        }
    )


def is_judged(task: Task) -> bool:
    """Does a task say how its answers are judged?"""
    return bool(task.entry_point and (task.tests or task.check))


def judge(sandbox: Sandbox, pairs: Iterable[tuple[Task, str]]) -> Iterator[Verdict]:
    """Verdicts for (task, answer text) pairs, in their order."""
    prepared = [(task, program_of(task, text)) for task, text in pairs]
    outcomes = sandbox.map(program for _, program in prepared if isinstance(program, Program))
    for task, program in prepared:
        yield verdict(task, next(outcomes)) if isinstance(program, Program) else program


def program_of(task: Task, text: str) -> Program | Verdict:
    """The program to run for an answer, or the verdict where there is nothing to run."""
    if not is_judged(task):
        return Verdict(VerdictStatus.NOT_JUDGED, "the task has no tests")
    code = code_of(text, task.entry_point)
    if not code.strip():
        return Verdict(VerdictStatus.NO_CODE, "the answer holds no code")
    if len(code) > LONGEST_CODE:
        return Verdict(VerdictStatus.NO_CODE, f"the code is longer than {LONGEST_CODE} characters")
    if "\x00" in code:
        return Verdict(VerdictStatus.NO_CODE, "the code holds a NUL character")
    inputs = tuple(list(test.arguments) for test in task.tests)
    return Program(f"{task.prefix}\n{code}" if task.prefix else code, task.entry_point, inputs, task.check)


def verdict(task: Task, outcome: Outcome) -> Verdict:
    """Compare what a program returned with what it should have. Pure."""
    expected = [test.returns for test in task.tests] if not task.check else [None]
    names = [f"test {number + 1}" for number in range(len(expected))] if not task.check else ["check"]
    results = [
        _call_problem(want, call.error, call.value, bool(task.check))
        for want, call in zip(expected, outcome.calls, strict=False)
    ]
    passed = sum(problem == "" for problem in results)
    first = next((place for place, problem in enumerate(results) if problem), len(results))
    shared: dict[str, Any] = {
        "trust": "trusting" if task.check else "separate",
        "isolation": outcome.isolation,
        "checks": len(expected),
        "checks_passed": passed,
        "cpu_seconds": outcome.cpu_seconds,
    }
    if outcome.status != "finished":
        reason = {
            "timeout": "it used up its CPU time",
            "stalled": "it neither ran nor ended, twice",
            "memory": "it asked for more memory than it may have",
            "output": "it said more than it may",
            "crash": "it ended before it had answered",
        }[outcome.status]
        return Verdict(
            VerdictStatus(outcome.status), outcome.error or reason, names[min(first, len(names) - 1)], **shared
        )
    if outcome.error:
        return Verdict(VerdictStatus.ERROR, outcome.error, "load", **shared)
    if len(outcome.calls) != len(expected):
        return Verdict(VerdictStatus.CRASH, "it did not answer once per test", "", **shared)
    if first == len(results):
        return Verdict(VerdictStatus.PASSED, f"passed all {len(expected)} checks", "", **shared)
    status = VerdictStatus.ERROR if outcome.calls[first].error and not task.check else VerdictStatus.FAILED
    return Verdict(status, results[first], names[first], **shared)


def _call_problem(expected: Any, error: str, actual: Any, in_program: bool) -> str:
    """What is wrong with one call; empty where it did what it should."""
    if error:
        return error
    if in_program or equal(expected, actual):
        return ""
    return f"returned {_brief(actual)}, not {_brief(expected)}"


def equal(expected: Any, actual: Any) -> bool:
    """Are two plain values the same answer?

    Types must agree (a list is not a tuple, 1 is not True), but for whole numbers written as floats, and floats count as
    equal within rounding.
    """
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        if isinstance(expected, int) and isinstance(actual, int):
            return expected == actual
        try:
            return math.isclose(expected, actual, rel_tol=1e-9, abs_tol=1e-12) or (
                expected != expected and actual != actual
            )
        except OverflowError:
            return False
    if type(expected) is not type(actual):
        return False
    if isinstance(expected, list | tuple):
        return len(expected) == len(actual) and all(map(equal, expected, actual))
    if isinstance(expected, dict):
        return expected.keys() == actual.keys() and all(equal(value, actual[key]) for key, value in expected.items())
    return bool(expected == actual)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
