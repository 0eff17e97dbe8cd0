"""Objects by digest, over any backend."""

from collections.abc import Iterator

from stillhouse.canon import digest_bytes, is_digest
from stillhouse.errors import CorruptObject
from stillhouse.vault.backend import Backend
from stillhouse.vault.packs import Pack


class Objects:
    """Content-addressed bytes: what is read is what was written, or an error."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def put(self, data: bytes) -> str:
        """Store bytes; returns their digest. Storing the same bytes again costs a look-up."""
        digest = digest_bytes(data)
        self.backend.put(key_of(digest), data)
        return digest

    def alias(self, digest: str) -> str:
        """What the log calls contents by their digest: here the digest itself."""
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a digest. Raises CorruptObject where they are missing or are not those."""
        try:
            data = self.backend.get(key_of(digest))
        except KeyError:
            raise CorruptObject(f"{digest} is missing.") from None
        if digest_bytes(data) != digest:
            raise CorruptObject(f"{digest} has other bytes than it should.")
        return data

    def pack(self, digest: str) -> Pack:
        """A pack, to be read in ranges; its blocks carry their own checksums. Raises CorruptObject."""
        key = key_of(digest)
        try:
            return Pack(digest, self.backend.size(key), lambda start, length: self.backend.read(key, start, length))
        except KeyError:
            raise CorruptObject(f"{digest} is missing.") from None

    def head(self, digest: str, length: int) -> bytes:
        """The first bytes of an object, also of a discarded one; none of one that is gone. Not compared with its digest."""
        try:
            return self.backend.read(key_of(digest), 0, length)
        except KeyError:
            return self.backend.peek(key_of(digest), length)

    def begins(self, digest: str, magic: bytes) -> bool:
        """Does an object begin with these bytes? One that is not there does not."""
        try:
            return self.backend.read(key_of(digest), 0, len(magic)) == magic
        except KeyError:
            return False

    def size(self, digest: str) -> int:
        """How many bytes an object has. Raises CorruptObject where it is missing."""
        try:
            return self.backend.size(key_of(digest))
        except KeyError:
            raise CorruptObject(f"{digest} is missing.") from None

    def exists(self, digest: str) -> bool:
        """Is there an object of this digest? Says nothing about its bytes; ``verify`` does."""
        return self.backend.exists(key_of(digest))

    def is_whole(self, digest: str) -> bool:
        """Is it there, with the bytes that its digest names? Reads all of it."""
        try:
            self.get(digest)
        except CorruptObject:
            return False
        return True

    def discard(self, digest: str) -> None:
        """Hide an object; its bytes stay, and it can be recovered."""
        self.backend.discard(key_of(digest))

    def recover(self, digest: str) -> bool:
        """Show a discarded object again; False where there is none."""
        return self.backend.recover(key_of(digest))

    def discarded(self) -> Iterator[str]:
        """The digests of all discarded objects."""
        for key in self.backend.discarded():
            yield digest_of(key)

    def reclaim(self, digest: str) -> None:
        """Remove the bytes of a discarded object."""
        self.backend.reclaim(key_of(digest))

    def list(self) -> Iterator[str]:
        """All digests. Other names (a probe's canary that a kill left) are not objects."""
        for key in self.backend.list():
            if is_digest(digest := digest_of(key)):
                yield digest

    def verify(self) -> Iterator[tuple[str, str]]:
        """Read everything; yields each digest with "" or what is wrong with it."""
        for digest in self.list():
            try:
                self.get(digest)
            except CorruptObject as failure:
                yield digest, failure.detail
            else:
                yield digest, ""


def key_of(digest: str) -> str:
    """By which a backend knows an object."""
    return digest.replace(":", "-", 1)


def digest_of(key: str) -> str:
    """The digest that a key stands for."""
    return key.replace("-", ":", 1)
