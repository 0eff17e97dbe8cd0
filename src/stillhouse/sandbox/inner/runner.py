"""Inside the program's own process: load it, call it, hand back plain values.

Nothing here is trusted by anybody: the program can patch all of it. Whatever comes out of the pipe is compared, outside,
with what it should be.
"""

import json
import os
import sys
from typing import Any

_DEEPEST = 40


class NotPlain(Exception):
    """A result that is not built from None, bool, int, float, str, list, tuple, set and dict alone."""


def encode(value: Any, depth: int = 0) -> Any:
    """A JSON form that keeps the types apart; containers are ``[tag, items]``. Subclasses do not count as plain."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if value - value == 0 else ["float", repr(value)]
    if depth > _DEEPEST:
        raise NotPlain("it is nested too deeply")
    if kind in (list, tuple, set, frozenset):
        return [kind.__name__, [encode(item, depth + 1) for item in value]]
    if kind is dict:
        return ["dict", [[encode(key, depth + 1), encode(item, depth + 1)] for key, item in value.items()]]
    raise NotPlain(f"a {kind.__name__} is not a plain value")


def run(job: dict[str, Any], results: int) -> None:
    """Run one job and write a line of JSON per call to the descriptor ``results``."""

    def say(line: dict[str, Any]) -> None:
        data = (json.dumps(line) + "\n").encode()
        while data:
            data = data[os.write(results, data) :]

    module = type(sys)("program")
    scope = module.__dict__
    sys.modules["program"] = module
    try:
        exec(compile(job["code"], "<program>", "exec", dont_inherit=True), scope)
        if job["check"]:
            exec(compile(job["check"], "<check>", "exec", dont_inherit=True), scope)
        function = scope.get(job["entry_point"])
        if not callable(function):
            raise NameError(f"the program defines no function {job['entry_point']}")
    except BaseException as failure:
        say({"load": _describe(failure)})
        return
    if job["check"]:
        inputs, function = [[function]], scope["check"]
    else:
        inputs = job["inputs"]
    for arguments in inputs:
        try:
            say({"value": encode(function(*arguments))})
        except BaseException as failure:
            say({"error": _describe(failure)})
    say({"done": True})


def _describe(failure: BaseException) -> str:
    try:
        return f"{type(failure).__name__}: {failure}"[:300]
    except BaseException:
        return type(failure).__name__[:300]
