"""Objects of a source that can be erased: encrypted with a key of its own, so that without the key no copy can be read.

An object is encrypted as a whole (AES-256-GCM), and named by the digest of what is stored: it is copied, scrubbed and locked
like any other, by whoever has no key. It says itself which key that is (its digest, authenticated with the rest): whether it can
be erased, and as what, is read from its bytes and never from a later claim. The nonce is a keyed digest of the bytes, so that
equal bytes of one source are one object, and of two sources are two.

Covers: reading what was erased, wherever copies of it are, and trying guesses at it. Does not cover: copies of the key (a file
system's snapshots, a backup of the key store), what was restored or exported before, what a model learned from it, how many
objects a source had and how large, and a source's name in the log.
"""

import functools
from collections.abc import Callable, Iterator

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stillhouse.canon import canonical, digest_bytes, raw_digest, tagged_digest
from stillhouse.errors import CorruptObject
from stillhouse.vault.manifests import ENVELOPE_MAGIC, decode_envelope
from stillhouse.vault.objects import Objects
from stillhouse.vault.packs import Pack
from stillhouse.vault.reading import Reader

# Format 1 does not say which key it is encrypted with. It is read, and no longer written.
CIPHER_MAGIC_1, CIPHER_MAGIC = b"SHCRYP1\n", b"SHCRYP2\n"
KEY_BYTES = 32
_NAME_BYTES = 32
_NONCE_BYTES = 12
_ENCRYPT, _NAME = "stillhouse 2026-11 erasable source: encryption", "stillhouse 2026-11 erasable source: nonces"
_ALIAS = "stillhouse 2026-11 erasable source: aliases"


class ErasableObjects(Objects):
    """The objects of one source among those of a vault."""

    def __init__(self, objects: Objects, key: bytes) -> None:
        super().__init__(objects.backend)
        self._header = CIPHER_MAGIC + raw_digest(key_digest(key))
        self._cipher = AESGCM(blake3(key, derive_key_context=_ENCRYPT).digest())
        self._nonces = blake3(key, derive_key_context=_NAME).digest()
        self._aliases = blake3(key, derive_key_context=_ALIAS).digest()
        # Ranges of a pack are asked for one after the other; two, since a file can lie in two.
        self._plain = functools.lru_cache(maxsize=2)(self.get)

    def put(self, data: bytes) -> str:
        """Store bytes encrypted; returns the digest of what is stored."""
        nonce = blake3(data, key=self._nonces).digest()[:_NONCE_BYTES]
        return super().put(self._header + nonce + self._cipher.encrypt(nonce, data, self._header))

    def alias(self, digest: str) -> str:
        """What the log calls contents by their digest: nobody without the key can try what contents it might be of."""
        return tagged_digest(blake3(digest.encode(), key=self._aliases).digest())

    def get(self, digest: str) -> bytes:
        """The bytes that were stored. Raises CorruptObject, also for what is of another source."""
        stored = super().get(digest)
        header = next((one for one in (self._header, CIPHER_MAGIC_1) if stored.startswith(one)), b"")
        if not header:
            raise CorruptObject(f"{digest} is not encrypted with this key, as it should be.")
        start = len(header) + _NONCE_BYTES
        try:
            return self._cipher.decrypt(stored[len(header) : start], stored[start:], header)
        except InvalidTag:
            raise CorruptObject(f"{digest} is encrypted with another key.") from None

    def pack(self, digest: str) -> Pack:
        """A pack, decrypted as a whole."""
        return Pack(digest, len(self._plain(digest)), lambda start, length: self._plain(digest)[start : start + length])

    def begins(self, digest: str, magic: bytes) -> bool:
        """Does an object of this source begin with these bytes?"""
        try:
            return self._plain(digest).startswith(magic)
        except CorruptObject:
            return False


def key_named_by(objects: Objects, digest: str) -> str:
    """The digest of the key that an object says it is encrypted with; empty where it says none."""
    head = objects.head(digest, len(CIPHER_MAGIC) + _NAME_BYTES)
    named = head.startswith(CIPHER_MAGIC) and len(head) == len(CIPHER_MAGIC) + _NAME_BYTES
    return tagged_digest(head[len(CIPHER_MAGIC) :]) if named else ""


def key_of_snapshot(objects: Objects, snapshot: str) -> str:
    """The digest of the key without which a snapshot cannot be read, by its own bytes; empty for one that is not encrypted.

    Raises CorruptObject where it is missing or cannot be read.
    """
    if not objects.begins(snapshot, ENVELOPE_MAGIC):
        return ""
    return decode_envelope(objects.get(snapshot), snapshot).key


def key_digest(key: bytes) -> str:
    """By which a key is named."""
    return digest_bytes(b"stillhouse erasure key" + key)


def enclose_snapshot(objects: Objects, key: bytes, root: str) -> str:
    """Store what lists an encrypted snapshot's objects for whoever has no key; returns its digest, the snapshot's name."""
    needed: Iterator[str] = Reader(ErasableObjects(objects, key)).needed(root)
    value = {"format": 1, "key": key_digest(key), "root": root, "objects": sorted(set(needed))}
    return objects.put(ENVELOPE_MAGIC + canonical(value))


def open_snapshot(objects: Objects, snapshot: str, key_of: Callable[[str], bytes]) -> tuple[Reader, str]:
    """A reader for a snapshot, encrypted or not, and the digest of its root. ``key_of`` finds a key by its digest.

    Raises CorruptObject, and what ``key_of`` raises.
    """
    data = objects.get(snapshot)
    if not data.startswith(ENVELOPE_MAGIC):
        return Reader(objects), snapshot
    envelope = decode_envelope(data, snapshot)
    return Reader(ErasableObjects(objects, key_of(envelope.key))), envelope.root
