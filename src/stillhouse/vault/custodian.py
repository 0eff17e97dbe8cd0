"""A vault that only one process may write: that process (``Custodian``), and the backend that asks it (``CustodianBackend``).

The folder belongs to a user of its own. Everybody reads it; whoever wants something stored, hidden or removed asks over a local
socket, and the custodian decides by what it knows itself (a ``Warden``), whatever the asker says. Who asks is told by the kernel
(SO_PEERCRED), not by the asker.

Covers: deleting, overwriting, truncating, moving objects as the user that works with them, by any program of that user. Does not
cover: root; whoever becomes the custodian's user; filling the disk with what may be stored.

On the wire: a length (8 bytes, little-endian), a MessagePack array, and for ``put`` the bytes; answered by a length and an array.
"""

import contextlib
import errno
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from stillhouse.errors import CustodianAway, CustodianRefused, StillhouseError, StorageError
from stillhouse.vault.files import storage_errors
from stillhouse.vault.local import LocalBackend

SOCKET = "socket"
_LENGTH = struct.Struct("<Q")
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)
_LARGEST_ASK, _LARGEST_OBJECT = 1 << 16, 1 << 32
_KEY = re.compile(r"[a-z0-9][a-z0-9.-]{0,200}|")
_AT_ONCE = 64
# A caller that says nothing for so long is gone. An answer may take longer: it can ask for the whole log to be read.
_IDLE_SECONDS, _ANSWER_SECONDS, _PAUSE_SECONDS = 30.0, 1800.0, 0.1
_DONE, _REFUSED, _FAILED = "done", "refused", "failed"


class Warden(Protocol):
    """Decides what a custodian does. Each returns "" for yes, or why not."""

    def may_put(self, key: str, data: bytes) -> str:
        """May these bytes be stored under this key?"""

    def may_discard(self, key: str) -> str:
        """May this object be hidden?"""

    def may_reclaim(self, key: str) -> str:
        """May the bytes of this hidden object be removed?"""

    def attend(self) -> str:
        """Look at what happened since; returns what whoever works with this vault should know, "" for nothing."""


class _Ask(msgspec.Struct, frozen=True, array_like=True):
    act: str
    key: str = ""
    length: int = 0


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    outcome: str
    detail: str = ""
    next_step: str = ""


class Peer(NamedTuple):
    """Who is at the other end of a connection, as the kernel says."""

    process: int
    user: int


class Custodian:
    """Serves one vault until it is closed. ``users`` may ask; root may always."""

    def __init__(
        self,
        store: LocalBackend,
        warden: Warden,
        at: Path,
        users: Iterable[int],
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """``tell`` is told a line of everything but storing that was asked for, and by whom."""
        self._store, self._warden, self._at, self._tell = store, warden, at, tell
        self._users = frozenset((0, *users))
        self._listening = _listen(at)
        # What is stored, hidden, shown or removed is decided and done one at a time: between the two nothing comes.
        self._deciding = threading.Lock()
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._acts: dict[str, Callable[[_Ask, bytes], _Answer]] = {
            "put": self._put,
            "discard": lambda ask, _: self._decided(warden.may_discard, store.discard, ask.key),
            "recover": self._recover,
            "reclaim": lambda ask, _: self._decided(warden.may_reclaim, store.reclaim, ask.key),
            "attend": lambda ask, _: _Answer(_DONE, warden.attend()),
        }

    def serve(self) -> None:
        """Answer until ``close``."""
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError as failure:
                if failure.errno in (errno.EBADF, errno.EINVAL):  # closed
                    return
                time.sleep(_PAUSE_SECONDS)  # too many open files, or a caller that is gone already
                continue
            self._admit(connection)

    def close(self) -> None:
        """Answer nobody from now on."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._at.unlink(missing_ok=True)

    def _admit(self, connection: socket.socket) -> None:
        """Turn away whom the kernel does not name as one of the users, before anything of theirs is read."""
        connection.settimeout(_IDLE_SECONDS)
        with contextlib.suppress(OSError):
            peer = _peer(connection)
            if peer.user in self._users and self._room.acquire(blocking=False):
                threading.Thread(target=self._attend, args=(connection, peer), daemon=True).start()
                return
            why = f"User {peer.user} is not one whom this custodian serves, or it serves as many at once as it can."
            connection.settimeout(0)
            _send(connection, msgspec.msgpack.encode(_Answer(_REFUSED, why)))
        connection.close()

    def _attend(self, connection: socket.socket, peer: Peer) -> None:
        try:
            with connection, contextlib.suppress(OSError, EOFError, msgspec.MsgspecError):
                ask = msgspec.msgpack.decode(_receive(connection, _LARGEST_ASK), type=_Ask)
                if ask.length > _LARGEST_OBJECT:
                    answer = _Answer(_REFUSED, f"An object of {ask.length:,} bytes is larger than any.")
                else:
                    answer = self._answer(ask, _exactly(connection, ask.length))
                if ask.act not in ("put", "attend") or answer.outcome != _DONE:
                    who = f"user {peer.user}, process {peer.process}"
                    self._tell(f"{ask.act} {ask.key!r} ({who}): {answer.outcome} {answer.detail}".rstrip())
                _send(connection, msgspec.msgpack.encode(answer))
        finally:
            self._room.release()

    def _answer(self, ask: _Ask, data: bytes) -> _Answer:
        if ask.act not in self._acts or not _KEY.fullmatch(ask.key):
            return _Answer(_REFUSED, f"{ask.act} {ask.key!r} is nothing that can be asked for.")
        try:
            return self._acts[ask.act](ask, data)
        except StillhouseError as failure:
            return _Answer(_FAILED, str(failure), failure.next_step)
        except Exception as failure:  # one question that cannot be answered ends no others
            return _Answer(_FAILED, f"{type(failure).__name__}: {failure}")

    def _put(self, ask: _Ask, data: bytes) -> _Answer:
        refusal = self._warden.may_put(ask.key, data)
        if refusal:
            return _Answer(_REFUSED, refusal)
        with self._deciding:
            self._store.put(ask.key, data)
        return _Answer(_DONE)

    def _recover(self, ask: _Ask, data: bytes) -> _Answer:
        with self._deciding:
            return _Answer(_DONE, "yes" if self._store.recover(ask.key) else "")

    def _decided(self, may: Callable[[str], str], act: Callable[[str], None], key: str) -> _Answer:
        with self._deciding:
            refusal = may(key)
            if refusal:
                return _Answer(_REFUSED, refusal)
            act(key)
        return _Answer(_DONE)


class CustodianBackend(LocalBackend):
    """A vault's folder, read directly, and written by its custodian. Safe to use from several threads."""

    def __init__(self, folder: Path, at: Path) -> None:
        """``folder`` has the objects; ``at`` is the custodian's socket."""
        super().__init__(folder)
        self._at = at

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key, durably."""
        if not self.exists(key):
            self._ask("put", key, data)

    def discard(self, key: str) -> None:
        """Ask that a key be hidden. Raises CustodianRefused."""
        if self.exists(key):
            self._ask("discard", key)

    def recover(self, key: str) -> bool:
        """Ask that a hidden key be shown again."""
        return bool(self._ask("recover", key))

    def reclaim(self, key: str) -> None:
        """Ask that a hidden key be removed. Raises CustodianRefused."""
        self._ask("reclaim", key)

    def attend(self) -> str:
        """Let the custodian look at what happened since; returns what it has to say, "" for nothing."""
        return self._ask("attend")

    def _ask(self, act: str, key: str = "", data: bytes = b"") -> str:
        try:
            with _connect(self._at) as connection:
                # Refused before all of it was read, it breaks while it is sent: the answer says why.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    _send(connection, msgspec.msgpack.encode(_Ask(act, key, len(data))), data)
                connection.settimeout(_ANSWER_SECONDS)
                answer = msgspec.msgpack.decode(_receive(connection, _LARGEST_ASK), type=_Answer)
        except (OSError, EOFError, msgspec.MsgspecError) as failure:
            raise CustodianAway(f"({self._at}: {failure or 'it hung up'})") from failure
        if answer.outcome == _REFUSED:
            raise CustodianRefused(answer.detail, next_step=answer.next_step)
        if answer.outcome == _FAILED:
            raise StorageError(f"The custodian: {answer.detail}", next_step=answer.next_step)
        return answer.detail


def _listen(at: Path) -> socket.socket:
    with storage_errors(f"{at} could not be listened at"):
        at.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(at) as path:
                listening.bind(path)
            at.chmod(0o666)  # who may ask is decided by who it is
            listening.listen(64)
        except BaseException:
            listening.close()
            raise
    return listening


def _connect(at: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_IDLE_SECONDS)
    try:
        with _short(at) as path:
            connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _short(at: Path) -> Iterator[str]:
    """A name of a socket that is short enough for any folder (unix(7) allows 107 bytes)."""
    folder = os.open(at.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{at.name}"
    finally:
        os.close(folder)


def _peer(connection: socket.socket) -> Peer:
    process, user, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return Peer(process, user)


def _send(connection: socket.socket, message: bytes, data: bytes = b"") -> None:
    connection.sendall(_LENGTH.pack(len(message)) + message)
    if data:
        connection.sendall(data)


def _receive(connection: socket.socket, largest: int) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > largest:
        raise EOFError(f"a message of {length} bytes is none")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view, min(len(view), 1 << 20))
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(data)
