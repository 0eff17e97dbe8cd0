"""What a disk may hold after power is lost: what is done to the file system is recorded, and played without what was not synced.

The model is stricter than common file systems: bytes stay when their file was synced, names when their folder was, and nothing
else stays for certain. At each moment these states are possible, and made: all that was not synced is kept; all of it is lost;
each one alone is lost; the last write is torn in half.
"""

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = -1


class Effect(NamedTuple):
    """One act. ``where`` is what must be synced for it to stay: a file by number, or a folder by path."""

    kind: str  # write, truncate, name, rename, unlink, sync, told
    where: Any
    what: tuple[Any, ...] = ()


class Disk:
    """Names and bytes, as some moment left them."""

    def __init__(self, names: dict[str, int], files: dict[int, bytes]) -> None:
        self.names, self.files = dict(names), dict(files)

    def apply(self, effect: Effect, *, torn: bool = False) -> None:
        match effect:
            case Effect("write", number, (offset, data)):
                data = data[: len(data) // 2] if torn else data
                before = self.files.get(number, b"").ljust(offset, b"\0")
                self.files[number] = before[:offset] + data + before[offset + len(data) :]
            case Effect("truncate", number, (size,)):
                self.files[number] = self.files.get(number, b"")[:size].ljust(size, b"\0")
            case Effect("name", _, (path, number)):
                self.names[path] = number
            case Effect("rename", _, (old, new, number)):
                self.names.pop(old, None)
                self.names[new] = number
            case Effect("unlink", _, (path,)):
                self.names.pop(path, None)

    def write_to(self, root: Path) -> None:
        """Make a folder that holds it; what lies in a folder whose own name was lost is lost."""
        root.mkdir()
        for path, number in sorted(self.names.items()):
            place = root / path
            if not place.parent.is_dir():
                continue
            if number == FOLDER:
                place.mkdir(exist_ok=True)
            else:
                place.write_bytes(self.files.get(number, b""))
                place.chmod(0o600)  # modes are not what is looked at; a key that others may read would be refused


class Recorder:
    """Records what happens below a folder while ``recording`` runs."""

    def __init__(self, root: Path, leave_out: tuple[str, ...]) -> None:
        self._root, self._leave_out = os.fspath(root), leave_out
        self._lock = threading.RLock()
        self.effects: list[Effect] = []
        names: dict[str, int] = {}
        files: dict[int, bytes] = {}
        for path in sorted(root.rglob("*")):
            name = self._name(path)
            if name is not None:
                number = FOLDER if path.is_dir() else path.stat().st_ino
                names[name] = number
                if number != FOLDER:
                    files[number] = path.read_bytes()
        self.start = Disk(names, files)
        self._known = dict(files)  # what the recorded writes make of each file: to find those that went past us

    def tell(self, what: str) -> None:
        """Somebody was told that something is done: from here on it must be so."""
        with self._lock:
            self.effects.append(Effect("told", None, (what,)))

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        real = {
            name: getattr(os, name)
            for name in ("open", "write", "fsync", "rename", "replace", "unlink", "link", "mkdir", "ftruncate")
        }
        try:
            for name in real:
                setattr(os, name, self._wrapped(name, real[name]))
            yield
        finally:
            for name, function in real.items():
                setattr(os, name, function)

    def states(self) -> Iterator[tuple[str, frozenset[str], Disk]]:
        """Every state that is possible at every moment: what it is, what was told by then, and the disk."""
        durable = Disk(self.start.names, self.start.files)
        pending: list[Effect] = []
        told: set[str] = set()
        for count, effect in enumerate(self.effects):
            if effect.kind == "told":
                told.add(effect.what[0])
            elif effect.kind == "sync":
                stays = [one for one in pending if one.where == effect.where]
                pending = [one for one in pending if one.where != effect.where]
                for one in stays:
                    durable.apply(one)
            else:
                pending.append(effect)
            for variant, kept, torn in _variants(pending, effect):
                disk = Disk(durable.names, durable.files)
                for one in kept:
                    disk.apply(one, torn=one is torn)
                yield f"{count} {effect.kind} {effect.where}: {variant}", frozenset(told), disk

    def _name(self, path: Any) -> str | None:
        if isinstance(path, int) or path is None:
            return None
        full = os.path.abspath(os.fsdecode(path))
        if not full.startswith(self._root + "/"):
            return None
        name = full[len(self._root) + 1 :]
        return None if name.partition("/")[0].startswith(self._leave_out) else name

    def _wrapped(self, name: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                return getattr(self, f"_{name}")(function, *arguments, **named)

        return call

    def _add(self, kind: str, where: Any, *what: Any) -> None:
        effect = Effect(kind, where, what)
        self.effects.append(effect)
        if kind in ("write", "truncate"):
            disk = Disk({}, {where: self._known.get(where, b"")})
            disk.apply(effect)
            self._known[where] = disk.files[where]

    def _open(self, real: Any, path: Any, flags: int, *more: Any, **named: Any) -> int:
        name = self._name(path) if not named.get("dir_fd") else None
        fresh = name is not None and bool(flags & os.O_CREAT) and not os.path.lexists(path)
        descriptor = int(real(path, flags, *more, **named))
        if fresh and name is not None:
            self._add("name", os.path.dirname(name), name, os.fstat(descriptor).st_ino)
        elif name is not None and flags & os.O_TRUNC:
            self._add("truncate", os.fstat(descriptor).st_ino, 0)
        return descriptor

    def _write(self, real: Any, descriptor: int, data: Any) -> int:
        number = self._number(descriptor)
        before = os.fstat(descriptor).st_size if number is not None else 0
        offset = before if number is not None and self._appends(descriptor) else None
        if number is not None and offset is None:
            offset = os.lseek(descriptor, 0, os.SEEK_CUR)
        count = int(real(descriptor, data))
        if number is not None:
            self._add("write", number, offset, bytes(memoryview(data)[:count]))
        return count

    def _fsync(self, real: Any, descriptor: int) -> None:
        real(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if path == self._root:
            self.effects.append(Effect("sync", ""))
            return
        name = self._name(path)
        if name is None:
            return
        inode = os.fstat(descriptor)
        if stat.S_ISDIR(inode.st_mode):
            self.effects.append(Effect("sync", name))
            return
        with open(path, "rb") as file:
            present = file.read()
        if present != self._known.get(inode.st_ino, b""):  # written through a file object
            self._add("truncate", inode.st_ino, 0)
            self._add("write", inode.st_ino, 0, present)
        self.effects.append(Effect("sync", inode.st_ino))

    def _rename(self, real: Any, old: Any, new: Any) -> None:
        number = os.lstat(old).st_ino
        real(old, new)
        before, after = self._name(old), self._name(new)
        if after is not None:
            assert before is not None, "what is moved in from elsewhere was not recorded"
            self._add("rename", os.path.dirname(after), before, after, number)

    _replace = _rename

    def _link(self, real: Any, old: Any, new: Any) -> None:
        real(old, new)
        name = self._name(new)
        if name is not None:
            self._add("name", os.path.dirname(name), name, os.lstat(new).st_ino)

    def _unlink(self, real: Any, path: Any, **named: Any) -> None:
        real(path, **named)
        name = self._name(path) if not named.get("dir_fd") else None
        if name is not None:
            self._add("unlink", os.path.dirname(name), name)

    def _mkdir(self, real: Any, path: Any, *more: Any, **named: Any) -> None:
        real(path, *more, **named)
        name = self._name(path)
        if name is not None:
            self._add("name", os.path.dirname(name), name, FOLDER)

    def _ftruncate(self, real: Any, descriptor: int, size: int) -> None:
        real(descriptor, size)
        number = self._number(descriptor)
        if number is not None:
            self._add("truncate", number, size)

    def _number(self, descriptor: int) -> int | None:
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            return None
        return os.fstat(descriptor).st_ino if self._name(path.removesuffix(" (deleted)")) is not None else None

    @staticmethod
    def _appends(descriptor: int) -> bool:
        import fcntl

        return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)


def _variants(pending: list[Effect], last: Effect) -> Iterator[tuple[str, list[Effect], Effect | None]]:
    yield "all kept", pending, None
    if pending:
        yield "all lost", [], None
    if len(pending) > 1:
        for one in pending:
            yield f"{one.kind} of {one.where} lost", [other for other in pending if other is not one], None
    if last.kind == "write":
        yield "torn", pending, last
