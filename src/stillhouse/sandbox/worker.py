"""One zygote and the conversation with it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from stillhouse.errors import SandboxUnavailable
from stillhouse.sandbox.inner.values import encode, outline
from stillhouse.sandbox.programs import Call, Limits, Program, ProgramOutcome

ZYGOTE = Path(__file__).parent / "inner" / "zygote.py"
_NEARLY = 0.95
_MOST_UNREADABLE = 1_000
RUNGS = ("namespaces", "landlock")


class Worker:
    """Runs one program at a time in children of one zygote."""

    def __init__(self, rung: str, packages: Sequence[Path] = ()) -> None:
        """Start the zygote; ``packages`` are folders of installed packages that its programs may import.

        Raises SandboxUnavailable where the machine refuses this rung.
        """
        self.rung = rung
        self._scratch = tempfile.TemporaryDirectory(prefix="stillhouse-sandbox-")
        # The base interpreter: a virtual environment's own would have to be made visible inside.
        python = getattr(sys, "_base_executable", sys.executable)
        self._process = subprocess.Popen(
            [python, "-I", "-S", "-X", "utf8", str(ZYGOTE), rung, self._scratch.name, *map(str, packages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # untrusted programs write there
            env={"MALLOC_ARENA_MAX": "1"},  # each arena of glibc takes 64 MiB of a program's address space
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the judge; and ``close`` kills the whole group
        )
        self._in, self._out = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        greeting = json.loads(self._read_frame() or b'{"error": "the sandbox process ended at once"}')
        if "error" in greeting:
            self.close()
            raise SandboxUnavailable(f"({rung}: {greeting['error']})")

    def run(self, program: Program, limits: Limits) -> ProgramOutcome:
        """Run one program and say what happened to it. Raises BrokenPipeError where the zygote is gone."""
        job = {**msgspec.structs.asdict(program), "inputs": encode(list(program.inputs))}
        # The zygote sees that there is a job, its fork the limits, and only the program's own process the job.
        self._in.write(b"J" + _frame(msgspec.structs.asdict(limits)) + _frame(job))
        self._in.flush()
        header, said = self._read_frame(), self._read_frame()
        if header is None or said is None:
            raise BrokenPipeError
        return _outcome(json.loads(header), said, f"{self.rung}+seccomp", limits)

    def close(self) -> None:
        """End the zygote and everything under it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._in, self._out):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._scratch.cleanup()

    def _read_frame(self) -> bytes | None:
        length = self._out.read(4)
        if len(length) < 4:
            return None
        return self._out.read(int.from_bytes(length, "big"))


def _frame(value: dict[str, Any]) -> bytes:
    data = json.dumps(value).encode()
    return len(data).to_bytes(4, "big") + data


def _outcome(header: dict[str, Any], said: bytes, isolation: str, limits: Limits) -> ProgramOutcome:
    """Read what an untrusted program said, believing only its shape."""
    calls: list[Call] = []
    error, done, unreadable = "", False, 0
    for line in said.split(b"\n"):
        try:
            message = json.loads(line) if line else {}
            if "value" in message:
                calls.append(Call(value=outline(message["value"])))
            elif "error" in message:
                calls.append(Call(error=_text(message["error"])))
            elif "load" in message:
                error, done = _text(message["load"]), True
            elif "done" in message:
                done = True
        except Exception:  # whatever an untrusted line does to the decoder is the program's doing
            calls.append(Call(error="the program wrote something unreadable in place of a result"))
            unreadable += 1
            if (
                unreadable > _MOST_UNREADABLE
            ):  # the rest is no better, and each line costs the judge more than the program
                break
    if header["ending"] == "not isolated":
        error = "the sandbox could not isolate it, and did not run it"
    status = _status(header, done, limits)
    if "MemoryError" in error or any(call.error.startswith("MemoryError") for call in calls):
        status = "memory"
    return ProgramOutcome(
        status=status,
        isolation=isolation,
        calls=tuple(calls),
        error=error,
        cpu_seconds=float(header["cpu_seconds"]),
        wall_seconds=float(header["wall_seconds"]),
    )


def _text(value: Any) -> str:
    """A program's text, short and without what UTF-8 cannot hold (lone surrogates)."""
    return str(value)[:300].encode("utf-8", "replace").decode("utf-8")


def _status(header: dict[str, Any], done: bool, limits: Limits) -> str:
    # One that ignored SIGXCPU was killed a second later; the usage that the kernel reports can lag behind its own clock.
    killed = header["signal"] == signal.SIGKILL and header["cpu_seconds"] >= _NEARLY * limits.cpu_seconds
    if header["signal"] == signal.SIGXCPU or killed:
        return "timeout"
    if header["ending"] in ("stalled", "output"):
        return str(header["ending"])
    return "finished" if done else "crash"
