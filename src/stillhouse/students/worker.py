"""One of several processes that train together: ``python -m torch.distributed.run -m stillhouse.students.worker JOB.json``.

The first of them tells its parent on standard output what happens, one JSON value a line; the parent writes the log.
"""

import subprocess
import sys
from pathlib import Path

import msgspec

from stillhouse import errors
from stillhouse.errors import StillhouseError, TrainingError
from stillhouse.students.train import Event, Hear, Job, make_ready, train
from stillhouse.vault.files import write_whole


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The training ended with an error of ours, by its class."""

    error: str
    detail: str


_decoder: msgspec.json.Decoder[Event | Failed] = msgspec.json.Decoder(Event | Failed)


def train_in_processes(job: Job, hear: Hear) -> None:
    """Start ``job.processes`` workers and listen until they are done. Raises what ``train`` raises, and TrainingError."""
    file = Path(job.folder) / "job.json"
    write_whole(file, msgspec.json.encode(job))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job.processes}"]
    command += ["-m", __name__, str(file)]
    said: list[str] = []
    failed: Failed | None = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                try:
                    event = _decoder.decode(line)
                except msgspec.MsgspecError:
                    said.append(line.decode(errors="replace").rstrip())  # the launcher's own words
                    continue
                if isinstance(event, Failed):
                    failed = failed or event
                else:
                    hear(event)
        except BaseException:
            process.terminate()  # the launcher ends its workers with itself
            raise
    if failed is not None:
        kind = getattr(errors, failed.error)
        raise kind(failed.detail)
    if process.returncode != 0:
        why = next((line for line in reversed(said) if "Error" in line), f"exit code {process.returncode}")
        raise TrainingError(f"Its {job.processes} processes ended early ({why.strip()}).")


def main(file: Path) -> int:
    """The life of one worker."""
    job = msgspec.json.decode(file.read_bytes(), type=Job)
    try:
        train(job, make_ready(job), _tell)
    except StillhouseError as failure:
        _tell(Failed(type(failure).__name__, failure.detail))
        return 1
    return 0


def _tell(value: Event | Failed) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
