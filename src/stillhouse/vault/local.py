"""Bytes in a local folder: one file per key, spread over 256 folders.

Relied on: rename is atomic within a file system, and fsync of a file and of its folder makes both durable. What a disk
does with its own cache is outside our reach.
"""

from collections.abc import Iterator
from pathlib import Path

from stillhouse.vault.files import storage_errors, write_whole


class LocalBackend:
    """A folder; it need not exist before the first ``put``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key, durably."""
        path = self._path(key)
        if not path.exists():
            write_whole(path, data)

    def get(self, key: str) -> bytes:
        """The bytes of a key."""
        try:
            with storage_errors(f"{self._path(key)} could not be read"):
                return self._path(key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def exists(self, key: str) -> bool:
        """Is there such a key?"""
        return self._path(key).exists()

    def list(self) -> Iterator[str]:
        """All keys, in order."""
        if self.root.is_dir():
            for folder in sorted(self.root.iterdir()):
                if folder.is_dir():
                    yield from sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))

    def _path(self, key: str) -> Path:
        # Keys end in a digest: its last digits spread evenly, its first belong to the algorithm's name. A sorted listing
        # needs the folders to sort as the keys do, hence the prefix of the digest itself.
        return self.root / key.rpartition("-")[2][:2] / key
