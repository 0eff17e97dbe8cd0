"""Slurm, asked through its own commands. Source: sbatch(1), squeue(1), sacct is not needed.

The owner's job does nothing; it runs in the partition and quality of service that the owner's real jobs use, so what is
measured is what they would get.
"""

import subprocess
import time

from stillhouse.errors import StorageError

_TIMEOUT = 60


class SlurmCluster:
    """Implements ``Cluster`` with ``sbatch``, ``squeue`` and ``scancel`` of this machine."""

    def __init__(self, partition: str, qos: str = "", resource: str = "gres/gpu") -> None:
        self._partition, self._qos, self._resource = partition, qos, resource

    def clock(self) -> float:
        """This machine's clock: Slurm says when a job started by it."""
        return time.time()

    def request(self, gpus: int) -> str:
        """Submit the owner's job."""
        wanted = f"--gres=gpu:{gpus}" if self._resource == "gres/gpu" else f"--{self._resource}={gpus}"
        words = ["sbatch", "--parsable", "--partition", self._partition, wanted, "--time", "5", "--job-name", "reclaim-drill",
                 "--output", "/dev/null", "--wrap", "sleep 60"]  # fmt: skip
        return _said([*words, *(["--qos", self._qos] if self._qos else [])]).strip().split(";")[0]

    def running_since(self, job: str) -> float | None:
        """When Slurm started it."""
        said = _said(["squeue", "--jobs", job, "--noheader", "--states", "all", "--format", "%T|%S"]).strip()
        state, _, start = said.partition("|")
        if state in ("RUNNING", "COMPLETING", "COMPLETED"):
            return float(start) if start.isdigit() else time.mktime(time.strptime(start, "%Y-%m-%dT%H:%M:%S"))
        if state and state not in ("PENDING", "CONFIGURING", "REQUEUED"):
            raise StorageError(f"The owner's job {job} is {state}.", next_step=f"`scontrol show job {job}` says why.")
        return None

    def cancel(self, job: str) -> None:
        """Cancel it."""
        _said(["scancel", job])

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


def _said(words: list[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    except FileNotFoundError as failure:
        raise StorageError(
            f"{words[0]} is not on this machine.", next_step="Run the drill where jobs are submitted."
        ) from failure
    except subprocess.TimeoutExpired as failure:
        raise StorageError(f"{words[0]} did not answer within {_TIMEOUT} s.") from failure
    except subprocess.CalledProcessError as failure:
        raise StorageError(f"{words[0]} failed: {failure.stderr.strip() or failure.returncode}.") from failure
    return done.stdout
