"""Inside the program's own process: load it, call it, hand back plain values.

Nothing here is trusted by anybody: the program can patch all of it. Whatever comes out of the pipe is compared, outside,
with what it should be.
"""

import builtins
import contextlib
import json
import linecache
import os
import sys
import threading
from typing import Any

import values

# Threads of a program get this much stack, so that many fit into its memory; its main thread has eight times as much.
_STACK_BYTES = 1 << 20
_NAME = "<program>"


def run(job: dict[str, Any], results: int) -> None:
    """Run one job and write a line of JSON per call to the descriptor ``results``."""

    def say(line: dict[str, Any]) -> None:
        data = (json.dumps(line) + "\n").encode()
        while data:
            data = data[os.write(results, data) :]

    module = type(sys)("program")
    scope = module.__dict__
    sys.modules["program"] = module
    _as_usual(job["code"], scope)
    try:
        with contextlib.suppress(SystemExit, EOFError):  # it ends, or asks for input: what it defined by then is there
            exec(compile(job["code"], _NAME, "exec", dont_inherit=True), scope)
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
        inputs = values.build(job["inputs"])
    for arguments in inputs:
        try:
            say({"value": values.encode(function(*arguments))})
        except BaseException as failure:
            say({"error": _describe(failure)})
    say({"done": True})


def _as_usual(code: str, scope: dict[str, Any]) -> None:
    """What a program finds when it is a file that is run: a name, its source, no arguments, ``exit``."""
    scope["__file__"] = os.path.join(os.getcwd(), "program.py")
    with contextlib.suppress(OSError), open(scope["__file__"], "w", encoding="utf-8", errors="replace") as file:
        file.write(code)
    sys.argv = [scope["__file__"]]
    linecache.cache[_NAME] = (len(code), None, code.splitlines(keepends=True), _NAME)
    for name in ("exit", "quit"):
        setattr(builtins, name, sys.exit)
    threading.stack_size(_STACK_BYTES)


def _describe(failure: BaseException) -> str:
    try:
        return f"{type(failure).__name__}: {failure}"[:300]
    except BaseException:
        return type(failure).__name__[:300]
