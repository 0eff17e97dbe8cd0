"""One of several processes that train a model: ``python -m torch.distributed.run -m stillhouse.students.training_worker FOLDER``.

The first of them tells its parent what happens through a named pipe, one JSON value a line, before it writes a checkpoint; the
parent writes the log. Where the parent is gone, the next word fails, and the workers end.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import torch
from accelerate import PartialState

from stillhouse import errors
from stillhouse.errors import StillhouseError, TrainingError
from stillhouse.students.training_loop import Event, EventSink, Job, make_ready, train
from stillhouse.vault.files import storage_errors, write_whole

_JOB, _EVENTS, _SAID = "job.json", "events.pipe", "launcher.log"
# How often the parent looks whether the workers still live when they are silent.
_PATIENCE = 0.5


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The training ended with an error of ours, by its class."""

    error: str
    detail: str
    next_step: str


_decoder: msgspec.json.Decoder[Event | Failed] = msgspec.json.Decoder(Event | Failed)


def train_in_processes(job: Job, emit: EventSink) -> None:
    """Start ``job.processes`` workers and listen until they are done. Raises what ``train`` raises, and TrainingError."""
    folder = Path(job.folder)
    write_whole(folder / _JOB, msgspec.json.encode(job))
    pipe = folder / _EVENTS
    with storage_errors(f"{pipe} could not be made"):
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job.processes}"]
    command += ["-m", __name__, str(folder)]
    failed: Failed | None = None
    with (folder / _SAID).open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        for line in _lines(pipe, process):
            event = _decoder.decode(line)
            if isinstance(event, Failed):
                failed = failed or event
            else:
                emit(event)
    finally:
        process.terminate()  # the launcher ends its workers with itself; when all went well it has ended already
        process.wait()
    if failed is not None:
        kind = getattr(errors, failed.error)
        raise kind(failed.detail, next_step=failed.next_step)
    if process.returncode != 0:
        raise TrainingError(
            f"Its {job.processes} processes ended early ({_reason(folder / _SAID, process.returncode)})."
        )


def _lines(pipe: Path, process: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """Whole lines from the pipe, until the workers have ended and it is empty."""
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    rest = b""
    try:
        while True:
            ended = process.poll() is not None
            ready, _, _ = select.select([descriptor], [], [], _PATIENCE)
            data = os.read(descriptor, 1 << 16) if ready else b""
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
            if not data:
                if ended:
                    return
                if ready:  # nobody writes yet, or any more: such a pipe is always ready
                    time.sleep(0.05)
    finally:
        os.close(descriptor)


def _reason(said: Path, code: int) -> str:
    """The first error among what launcher and workers printed, but for the launcher's own summary."""
    for line in said.read_text(encoding="utf-8", errors="replace").splitlines():
        if "Error" in line and "ChildFailedError" not in line and not line.startswith((" ", "[", "W", "E")):
            return line.strip()
    return f"exit code {code}"


def main(folder: Path) -> int:
    """The life of one worker."""
    job = msgspec.json.decode((folder / _JOB).read_bytes(), type=Job)
    state = PartialState(cpu=not torch.cuda.is_available())  # each on its own device, before anything is loaded
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.processes))
    # The others are silent: the first one's events are those of all, and an error that only one meets is told by its launcher.
    pipe: IO[bytes] | None = (folder / _EVENTS).open("wb") if state.is_main_process else None

    def tell(value: Event | Failed) -> None:
        if pipe is not None:
            pipe.write(msgspec.json.encode(value) + b"\n")
            pipe.flush()

    try:
        train(job, make_ready(job, tuple), tell)
    except StillhouseError as failure:
        tell(Failed(type(failure).__name__, failure.detail, failure.next_step))
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr)  # noqa: T201 - for the launcher's log
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
