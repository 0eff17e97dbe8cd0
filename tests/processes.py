"""Processes that tests start, signal and wait for, with the parts of ``subprocess.Popen`` that they use."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

from tests import forkserver

SERVER = str(Path(forkserver.__file__))


@cache
def server(modules: tuple[str, ...]) -> str:
    """The socket of a server that has these modules; started on first use, once in each process that runs tests."""
    folder = tempfile.mkdtemp(prefix="forks-")
    place = os.path.join(folder, "socket")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STILLHOUSE")}
    process = subprocess.Popen([sys.executable, SERVER, place, *modules], env=environment, stdin=subprocess.DEVNULL)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(process.wait)
    atexit.register(process.kill)
    while not os.path.exists(place):
        assert process.poll() is None, "the server that processes are forked from has ended"
        time.sleep(0.02)
    return place


class Child:
    """A process of ``stillhouse``."""

    def __init__(
        self, words: list[str], folder: Path, environment: dict[str, str], user: forkserver.User | None = None
    ) -> None:
        modules = forkserver.HEAVY if words[0] in ("train", "run") else forkserver.LIGHT
        out, given_out = os.pipe()
        err, given_err = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        given = (nothing, given_out, given_err)
        self._connection, self.pid = forkserver.ask(server(modules), words, given, str(folder), environment, user)
        for descriptor in given:
            os.close(descriptor)
        self.stdout, self.stderr = os.fdopen(out, "rb"), os.fdopen(err, "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The return code, where it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._connection.settimeout(timeout if timeout != 0 else 1e-4)
            try:
                self._connection.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                raise subprocess.TimeoutExpired("stillhouse", timeout or 0) from None
            self._connection.settimeout(None)
            self.returncode = forkserver.status(self._connection)
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """What it says until its end, and has not said before. Raises subprocess.TimeoutExpired."""
        if self.stdout.closed:
            return b"", b""
        said: dict[str, bytes] = {}
        readers = [
            threading.Thread(target=lambda name=name: said.__setitem__(name, getattr(self, name).read()), daemon=True)
            for name in ("stdout", "stderr")
        ]
        for reader in readers:
            reader.start()
        until = None if timeout is None else time.monotonic() + timeout
        for reader in readers:
            reader.join(None if until is None else max(0, until - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired("stillhouse", timeout or 0)
        self.wait(None if until is None else max(0.001, until - time.monotonic()))
        self.stdout.close()
        self.stderr.close()
        return said["stdout"], said["stderr"]

    def send_signal(self, number: int) -> None:
        """A process that has ended gets none."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)
