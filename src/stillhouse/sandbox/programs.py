"""What goes in and what comes out. Values only."""

from typing import Any

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Bounds on one program.

    CPU seconds are the measure, since they do not depend on what else the machine does; wall seconds only catch a
    program that sleeps or waits: it ends after so many without using a twentieth of its CPU time, and in any case after so
    many and six times its CPU seconds. ``tasks`` are its threads.
    """

    cpu_seconds: int = 2
    wall_seconds: float = 10.0
    memory_bytes: int = 512 << 20
    output_bytes: int = 1 << 20
    tasks: int = 128


class Program(msgspec.Struct, frozen=True):
    """Source text, the function to call, and the argument lists to call it with, plain values of Python.

    ``check`` is source that defines ``check(candidate)`` and runs inside the program's own process (HumanEval's shape);
    a pass is then only as trustworthy as the program.
    """

    code: str
    entry_point: str
    inputs: tuple[Any, ...] = ()
    check: str = ""


class Call(msgspec.Struct, frozen=True):
    """One call's result: a plain ``value``, or the ``error`` that it raised."""

    value: Any = None
    error: str = ""


class ProgramOutcome(msgspec.Struct, frozen=True):
    """What happened to a program.

    ``status``: ``finished`` (every call was answered), ``timeout`` (CPU limit), ``stalled`` (wall-clock backstop, twice),
    ``memory``, ``output`` (more than it may say), ``crash`` (ended before it had answered). ``calls`` holds what was
    answered until then; ``error`` the reason where the program did not even load.
    """

    status: str
    isolation: str
    calls: tuple[Call, ...] = ()
    error: str = ""
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
