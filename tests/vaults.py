"""A vault for tests: objects over any backend, and the two commands of its life."""

import os
import time
from pathlib import Path
from typing import Any

from stillhouse.vault.backend import Backend
from stillhouse.vault.index import ChunkIndex
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.objects import Objects
from stillhouse.vault.reading import Reader
from stillhouse.vault.restoring import Restored, restore
from stillhouse.vault.seen import Seen
from stillhouse.vault.snapshots import Taken, take
from stillhouse.vault.walking import Walk


class Vault:
    def __init__(self, folder: Path, backend: Backend | None = None) -> None:
        self.folder = folder
        self.objects = Objects(backend or LocalBackend(folder / "objects"))

    def take(self, source: Path, *, began: int | None = None) -> Taken:
        seen = Seen(self.folder / "seen", source, time.time_ns() if began is None else began)
        try:
            return take(self.objects, lambda: ChunkIndex(self.folder / "chunks"), seen, Walk(source))
        finally:
            seen.close()

    def restore(self, snapshot: str, target: Path, below: str = "") -> Restored:
        return restore(Reader(self.objects), snapshot, target, below)


def tree(root: Path) -> dict[str, Any]:
    """Everything about a tree that a restore must bring back."""
    found: dict[str, Any] = {}
    inodes: dict[int, str] = {}
    places = [os.fsencode(root)]
    for folder, folders, files in os.walk(os.fsencode(root)):
        places += [os.path.join(folder, name) for name in sorted(folders + files)]
    for place in sorted(places):
        inode = os.lstat(place)
        name = os.fsdecode(os.path.relpath(place, os.fsencode(root)))
        first = inodes.setdefault(inode.st_ino, name)
        what: Any = None
        if os.path.islink(place):
            what = os.readlink(place)
        elif os.path.isfile(place):
            with open(place, "rb") as file:
                what = file.read()
        found[name] = (inode.st_mode, inode.st_mtime_ns, what, first)
    return found
