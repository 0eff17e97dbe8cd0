"""New processes of ``stillhouse`` without a new interpreter: forked from one that has imported what they need.

Such a process has its own memory, streams, environment, folder and process id, and can be killed like any other; what it saves
is half a second of imports, and eight where torch is among them. Run as a program, this file is the server, or (``ask``) a
client that a shell script calls in place of ``stillhouse``.
"""

import array
import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import NamedTuple

LIGHT = (
    "stillhouse.cli.main",
    *(
        f"stillhouse.cli.{name}"
        for name in ("run", "dataset", "delete", "gateway", "identity", "plan", "teacher", "vault")
    ),
    "stillhouse.teachers.gateway.serve",
    "stillhouse.runs.distil",
)
HEAVY = (*LIGHT, "stillhouse.students.training")
# Linux's numbers for what ``setpriv`` does, from <linux/prctl.h> and <linux/capability.h>.
_SET_DUMPABLE, _KEEP_CAPS, _AMBIENT, _RAISE, _DAC_READ_SEARCH, _CAPABILITY_VERSION_3 = 4, 8, 47, 2, 2, 0x20080522
_LENGTH = struct.Struct("!I")


def send(connection: socket.socket, value: object, descriptors: tuple[int, ...] = ()) -> None:
    """One JSON value, with open files beside it."""
    data = json.dumps(value).encode()
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([_LENGTH.pack(len(data))], beside)
    connection.sendall(data)


def receive(connection: socket.socket) -> tuple[object, list[int]]:
    """What was sent, and the open files. Raises EOFError."""
    head, beside, _, _ = connection.recvmsg(_LENGTH.size, socket.CMSG_SPACE(3 * 4))
    if len(head) < _LENGTH.size:
        raise EOFError
    descriptors = array.array("i")
    for _, _, data in beside:
        descriptors.frombytes(data)
    size, data = _LENGTH.unpack(head)[0], b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return json.loads(data), list(descriptors)


class User(NamedTuple):
    """Whose rights a process has."""

    uid: int
    gid: int


def ask(
    place: str,
    words: list[str],
    descriptors: tuple[int, ...],
    folder: str,
    environment: dict[str, str],
    user: User | None = None,
) -> tuple[socket.socket, int]:
    """Have a process started; returns where its exit status will be said, and its id."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(place)
    send(connection, [words, folder, environment, user], descriptors)
    pid, _ = receive(connection)
    assert isinstance(pid, int)
    return connection, pid


def status(connection: socket.socket) -> int:
    """Wait for the process; its return code as ``subprocess`` says it."""
    code, _ = receive(connection)
    assert isinstance(code, int)
    return code


def _serve(place: str, modules: list[str]) -> None:
    """Accept until killed. In a new process it returns, and then runs the command line."""
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()  # what is there is shared, and stays so
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place)
    listening.listen(64)
    while True:
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            if _keep(connection):
                return
        connection.close()


def _keep(connection: socket.socket) -> bool:
    """In a fork of the server: fork the process that was asked for and report its end. True in that process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, descriptors = receive(connection)
    words, folder, environment, user = asked  # type: ignore[misc]
    child = os.fork()
    if child == 0:
        for place, descriptor in enumerate(descriptors):
            os.dup2(descriptor, place)
        connection.close()
        os.closerange(3, 256)
        if user is not None:
            _become(User(*user))
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["stillhouse", *words]
        return True
    for descriptor in descriptors:
        os.close(descriptor)
    send(connection, child)
    _, code = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        send(connection, os.waitstatus_to_exitcode(code))
    os._exit(0)


def _become(user: User) -> None:
    """Take a user's rights for good, and the one right to read what Python has still to import."""
    libc = ctypes.CDLL(None, use_errno=True)
    only = 1 << _DAC_READ_SEARCH
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    libc.prctl(_KEEP_CAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    assert libc.capset(header, struct.pack("6I", only, only, only, 0, 0, 0)) == 0, ctypes.get_errno()
    libc.prctl(_AMBIENT, _RAISE, _DAC_READ_SEARCH, 0, 0)
    libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0)  # as after an exec: /proc/self is its own


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        _connection, _ = ask(sys.argv[2], sys.argv[3:], (0, 1, 2), str(Path.cwd()), dict(os.environ))
        _code = status(_connection)
        sys.exit(_code if _code >= 0 else 128 - _code)
    _serve(sys.argv[1], sys.argv[2:])
    from stillhouse.__main__ import entry

    entry()
