"""Commands as another user of this machine. Needs root, and users that every Debian has; nothing is added to the machine."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli, Ran
from tests.forkserver import User
from tests.processes import Child

OWNER, OTHER, KEEPER = "daemon", "bin", "nobody"
_MAY_READ = "+dac_read_search"  # Python itself may lie where only root looks; reading is no part of what is tested


def needs_root() -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can act as several users, with setpriv")


def run_as(user: str, *words: object, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
    """A plain command (rm, mv, ...) with a user's rights and no others."""
    command = [
        "setpriv",
        f"--reuid={user}",
        f"--regid={user}" if user != KEEPER else "--regid=nogroup",
        "--clear-groups",
    ]
    if user == "root":
        command = []
    done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=False)
    assert code is None or done.returncode == code, done.stderr
    return done


class CliAs(Cli):
    """The command line with a user's rights."""

    def __init__(self, folder: Path, user: str) -> None:
        super().__init__(folder)
        self.user = user
        self.environment |= {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def command(self, *words: str) -> list[str]:
        group = "nogroup" if self.user == KEEPER else self.user
        rights = ["setpriv", f"--reuid={self.user}", f"--regid={group}", "--clear-groups"]
        rights += [f"--inh-caps={_MAY_READ}", f"--ambient-caps={_MAY_READ}"]
        return [*rights, *super().command(*words)]

    def __call__(self, *words: object, code: int | None = 0, **environment: str) -> Ran:
        process = self.start(*words, **environment)
        out, err = (said.decode(errors="replace") for said in process.communicate(timeout=800))
        return self._checked(words, Ran(process.wait(), out, err), code)

    def start(self, *words: object, **environment: str) -> Child:
        known = pwd.getpwnam(self.user)
        user = User(known.pw_uid, known.pw_gid)
        return Child(list(map(str, words)), self.folder, {**self.environment, **environment}, user)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may look into, below folders of root alone, and that only root writes in."""
    needs_root()
    folder = Path(tempfile.mkdtemp(prefix="stillhouse-"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chattr", "-R", "-i", "-a", folder], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def owner(place: Path) -> CliAs:
    """The command line of a home's owner, who is an ordinary user."""
    folder = place / "work"
    folder.mkdir()
    shutil.chown(folder, OWNER, OWNER)
    cli = CliAs(folder, OWNER)
    cli("init")
    return cli


class RunningCustodian:
    """``stillhouse vault custodian`` in a process of its own, as the custodian's user."""

    def __init__(self, owner: Cli, folder: Path) -> None:
        self._cli, self.folder = CliAs(owner.folder, KEEPER), folder
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._cli.command("vault", "custodian", str(self.folder)), stderr=subprocess.PIPE, text=True, cwd="/",
            env=self._cli.environment,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not (self.folder / "socket").exists() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.process.poll() is None, self.process.communicate()[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        (self.folder / "socket").unlink(missing_ok=True)

    def stop(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=30)[1]


@pytest.fixture
def kept(owner: CliAs, place: Path) -> Iterator[RunningCustodian]:
    """The home's vault has a custodian, and it runs."""
    root = Cli(owner.folder)
    root("vault", "protect", "custodian", "--folder", place / "custody", "--user", KEEPER)
    running = RunningCustodian(owner, place / "custody")
    yield running
    if running.process.poll() is None:
        running.stop()
