"""What is an answer's code worth? The program runs in the sandbox; what it returned is compared here, outside."""

import collections
import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction
from typing import Any

import msgspec

from stillhouse.canon import digest_value
from stillhouse.datasets.tasks.extract import code_of, split_future
from stillhouse.nouns import Task, Verdict, VerdictStatus
from stillhouse.sandbox.inner.values import Items, encode
from stillhouse.sandbox.packages import Packages
from stillhouse.sandbox.pool import Sandbox
from stillhouse.sandbox.programs import Limits, Program, ProgramOutcome

# Part of every judge's digest: raise it when the same answer could get another verdict, and answers are judged again.
JUDGE_VERSION = 4
# Longer code is not a program that a teacher wrote on purpose, and parsing it would cost more than running it.
LONGEST_CODE = 1 << 20


class Conditions(msgspec.Struct, frozen=True):
    """What a program has while it is judged: CPU seconds, and packages beside the standard library."""

    cpu_seconds: int = Limits().cpu_seconds
    packages: Packages = Packages()

    def sandbox(self) -> Sandbox:
        """A sandbox of these conditions. Raises SandboxUnavailable."""
        return Sandbox(Limits(cpu_seconds=self.cpu_seconds), packages=self.packages.folders)


USUAL = Conditions()


def judge_digest(task: Task, conditions: Conditions = USUAL) -> str:
    """The identity of the way a task is judged: the same tests, applied in the same way, under the same conditions."""
    unusual = {"cpu_seconds": conditions.cpu_seconds, "packages": list(conditions.packages.versions)}
    return digest_value(
        {
            **(unusual if conditions != USUAL else {}),
            "version": JUDGE_VERSION,
            "entry_point": task.entry_point,
            "tests": [[encode(list(test.arguments)), encode(test.returns)] for test in task.tests],
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
    code = code_of(text, task.entry_point, task.prefix)
    if not code.strip():
        return Verdict(VerdictStatus.NO_CODE, "the answer holds no code")
    if len(code) > LONGEST_CODE:
        return Verdict(VerdictStatus.NO_CODE, f"the code is longer than {LONGEST_CODE} characters")
    if "\x00" in code:
        return Verdict(VerdictStatus.NO_CODE, "the code holds a NUL character")
    inputs = tuple(list(test.arguments) for test in task.tests)
    future, rest = split_future(code)
    parts = [part for part in (future, task.prefix, rest) if part]
    return Program("\n".join(parts), task.entry_point, inputs, task.check)


def verdict(task: Task, outcome: ProgramOutcome) -> Verdict:
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
    try:
        if in_program or equal(expected, actual):
            return ""
    except Exception as failure:  # a value can do anything to arithmetic; its answer gets its verdict, and ends no run
        return f"returned what cannot be compared ({type(failure).__name__}: {failure})"[:300]
    return f"returned {_brief(actual)}, not {_brief(expected)}"


def equal(expected: Any, actual: Any) -> bool:
    """Is an answer the expected value? As ``==`` has it, but: 1 is not True; where a whole number is expected it must be one,
    exactly; where a float is, it is equal within rounding, as a float or a whole number.

    ``actual`` comes from a program (``values.outline``): nothing of it is put into a set or a dict here.
    """
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, float):
        return isinstance(actual, int | float) and _close(expected, actual)
    if isinstance(expected, int):
        return isinstance(actual, int) and expected == actual
    if isinstance(expected, complex) and isinstance(actual, complex):
        return _close(expected.real, actual.real) and _close(expected.imag, actual.imag)
    for kind in (list, tuple, collections.deque):
        if isinstance(expected, kind):
            return isinstance(actual, kind) and len(expected) == len(actual) and all(map(equal, expected, actual))
    if isinstance(expected, set | frozenset):
        items = _items_of(actual, "set")
        return items is not None and _same_items(expected, items)
    if isinstance(expected, dict):
        items = _items_of(actual, "dict")
        return items is not None and _same_pairs(expected, items)
    try:
        return type(expected) is type(actual) and bool(expected == actual)
    except ArithmeticError:  # a signalling NaN
        return False


def _close(expected: float, actual: float) -> bool:
    try:
        return math.isclose(expected, actual, rel_tol=1e-9, abs_tol=1e-12) or (
            expected != expected and actual != actual
        )
    except OverflowError:
        return False


def _items_of(actual: Any, kind: str) -> list[Any] | None:
    """The items of a set or the pairs of a dict; None where it is none."""
    if isinstance(actual, Items):
        return actual.items if actual.kind == kind else None
    if kind == "set":
        return list(actual) if isinstance(actual, set | frozenset) else None
    return list(actual.items()) if isinstance(actual, dict) else None


def _same_items(expected: Collection[Any], items: Sequence[Any]) -> bool:
    """Each item is looked up among those expected, so that what they hash to costs nothing."""
    keys = {_as_key(item): item for item in expected}
    found = set()
    for item in items[: len(keys) + 1]:
        key = _as_key(item)
        if key not in keys or not equal(keys[key], item):
            return False
        found.add(key)
    return len(items) == len(keys) == len(found)


def _same_pairs(expected: Mapping[Any, Any], pairs: Sequence[tuple[Any, Any]]) -> bool:
    keys = {_as_key(key): key for key in expected}
    found = set()
    for key, value in pairs[: len(keys) + 1]:
        known = _as_key(key)
        if known not in keys or not equal(keys[known], key) or not equal(expected[keys[known]], value):
            return False
        found.add(known)
    return len(pairs) == len(keys) == len(found)


def _as_key(value: Any) -> str:
    """What an item or a key is looked up by: the same for values that are ``==``, of one size whatever the value's, so that what
    is nested deeply takes no more work than it has parts.
    """
    if isinstance(value, Items):
        return _digest(value.kind, *sorted(map(_as_key, value.items)))
    if isinstance(value, set | frozenset):
        return _digest("set", *sorted(map(_as_key, value)))
    if isinstance(value, list | tuple | collections.deque):
        return _digest(type(value).__name__, *map(_as_key, value))
    if isinstance(value, float) and math.isfinite(value):
        value = float(f"{value:.9g}")
        value = int(value) if value.is_integer() else value
    if isinstance(value, int):
        return _digest("number", hex(value))
    if isinstance(value, Fraction):
        return _digest("fraction", hex(value.numerator), hex(value.denominator))
    if isinstance(value, Decimal):
        return _digest("decimal", _plain_decimal(value))
    return _digest(type(value).__name__, value if isinstance(value, str) else repr(value))


def _plain_decimal(value: Decimal) -> str:
    """A decimal without the zeros at its end, by which equal ones differ."""
    if not value.is_finite():
        return str(value)
    return str(value.normalize(Context(max(1, len(value.as_tuple().digits)), Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])))


def _digest(*parts: str) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()


def _brief(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more digits than Python writes out
        text = f"a {type(value).__name__} that is too large to be shown"
    return text if len(text) <= 80 else text[:77] + "..."
