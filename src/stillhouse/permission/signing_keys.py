"""Keys: a home's own, made when it is first needed, and those of people, kept outside of any home.

Ed25519 (RFC 8032) in files; ECDSA on P-256 (FIPS 186-5) as well for keys that are elsewhere (``external_keys``).
Covers: a private key is in one file that only its owner may read, is never logged, exported or printed, and is refused where
others could read it; a person's may be under a passphrase. A signature says that the holder of this file signed. Does not
cover: a home's key has no passphrase, so a process that can read as this user can sign as this home.
"""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from stillhouse.errors import KeyUnusable, UsageError
from stillhouse.vault.files import make_folder, storage_errors, sync_folder, write_whole

PRIVATE, PUBLIC, WEIGHTS = "home.key", "home.pub", "weights.key"
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"


class PublicKey(NamedTuple):
    """A public key as PEM text, and the digest that names it."""

    pem: str
    id: str


class Signer(Protocol):
    """Signs with a private key that it never shows."""

    public: PublicKey

    def ready(self) -> None:
        """Make sure that it can sign, before anything is done that it is to sign. Raises KeyUnusable, MissingExtra."""

    def sign(self, data: bytes) -> bytes:
        """The signature: 64 bytes of Ed25519, or DER of ECDSA over SHA-256."""


class FileSigner:
    """Signs with the key of a file."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = _public(private.public_key())

    def ready(self) -> None:
        """It has its key."""

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(data)


def home_signer(folder: Path) -> Signer:
    """The home's key from its ``keys`` folder, made there if there is none. Raises KeyUnusable, StorageError."""
    path, public = folder / PRIVATE, folder / PUBLIC
    if not path.exists():
        if public.exists():  # another key would be another home: what this one signed could not be continued
            raise KeyUnusable(f"{path} is gone, and {public} is still there.")
        make_key(path)
    signer = read_signer(path)
    if not public.exists():
        write_whole(public, signer.public.pem.encode())
    elif read_public_keys(public)[0].id != signer.public.id:
        raise KeyUnusable(f"{path} is not the key that {public} belongs to.")
    return signer


def read_signer(path: Path, passphrase: str = "") -> Signer:
    """The private key of a file. Raises KeyUnusable."""
    try:
        if path.stat().st_mode & 0o077:
            raise KeyUnusable(f"{path} can be read by others.", next_step=f"chmod 600 {path}")
        data = path.read_bytes()
        encrypted = b"ENCRYPTED" in data
        private = serialization.load_pem_private_key(data, passphrase.encode() if encrypted else None)
    except OSError as failure:
        raise KeyUnusable(f"{path} cannot be read: {failure.strerror}.") from failure
    except (ValueError, TypeError, UnsupportedAlgorithm) as failure:
        raise KeyUnusable(
            f"{path} holds no private key that can be used.",
            next_step="Where it has a passphrase, set STILLHOUSE_KEY_PASSPHRASE; else restore it from your backup.",
        ) from failure
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyUnusable(f"{path} is of another kind than Ed25519.")
    return FileSigner(private)


def read_public_keys(path: Path) -> list[PublicKey]:
    """The public keys of a PEM file, or of all ``*.pub`` and ``*.pem`` files of a folder. Raises UsageError."""
    files = sorted([*path.glob("*.pub"), *path.glob("*.pem")]) if path.is_dir() else [path]
    found = []
    for file in files:
        try:
            text = file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as failure:
            raise UsageError(f"{file} cannot be read as public keys: {failure}.") from failure
        found += [public_key(f"{_BEGIN}{part.partition(_END)[0]}{_END}\n") for part in text.split(_BEGIN)[1:]]
    if not found:
        raise UsageError(f"{path} holds no public key (PEM).")
    return found


def public_key(pem: str) -> PublicKey:
    """A public key from PEM text. Raises UsageError."""
    try:
        loaded = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as failure:
        raise UsageError("That is not a public key (PEM).") from failure
    return _public(loaded)


def metadata_key_id(key: PublicKey) -> str:
    """How securesystemslib and TUF name a key: the SHA-256 of its metadata as OLPC canonical JSON (TUF specification, 4.2)."""
    loaded = serialization.load_pem_public_key(key.pem.encode())
    if isinstance(loaded, ec.EllipticCurvePublicKey):
        kind, scheme, public = (
            "ecdsa",
            "ecdsa-sha2-nistp256",
            key.pem,
        )  # line ends stay as they are in this form of JSON
    else:
        assert isinstance(loaded, Ed25519PublicKey)
        kind, scheme, public = "ed25519", "ed25519", loaded.public_bytes_raw().hex()
    data = f'{{"keytype":"{kind}","keyval":{{"public":"{public}"}},"scheme":"{scheme}"}}'
    return hashlib.sha256(data.encode()).hexdigest()


def signed_by(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Did the holder of this key sign this?"""
    loaded = serialization.load_pem_public_key(key.pem.encode())
    try:
        if isinstance(loaded, ec.EllipticCurvePublicKey):
            loaded.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        else:
            assert isinstance(loaded, Ed25519PublicKey)
            loaded.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _public(key: object) -> PublicKey:
    on_p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    if not isinstance(key, Ed25519PublicKey | ec.EllipticCurvePublicKey) or not (
        on_p256 or isinstance(key, Ed25519PublicKey)
    ):
        raise UsageError("That public key is of an unsupported kind.", next_step="Use Ed25519, or ECDSA on P-256.")
    encoding, spki = serialization.Encoding, serialization.PublicFormat.SubjectPublicKeyInfo
    der = key.public_bytes(encoding.DER, spki)
    return PublicKey(key.public_bytes(encoding.PEM, spki).decode(), f"sha256:{hashlib.sha256(der).hexdigest()}")


def make_key(path: Path, passphrase: str = "") -> None:
    """Write a new private key; where another process was quicker, or one is there already, that one stays."""
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_private(path, Ed25519PrivateKey.generate().private_bytes(encoding, form, protection))


def weights_key(folder: Path) -> tuple[Path, str]:
    """The file of a home's P-256 key for signing weights (OpenSSF model signing takes no Ed25519), and its public part (PEM).

    Made where there is none. Raises KeyUnusable, StorageError.
    """
    path = folder / WEIGHTS
    encoding, form, bare = serialization.Encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    if not path.exists():
        write_private(path, ec.generate_private_key(ec.SECP256R1()).private_bytes(encoding.PEM, form, bare))
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as failure:
        raise KeyUnusable(f"{path} holds no private key that can be used.") from failure
    public = private.public_key().public_bytes(encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return path, public.decode()


def write_private(path: Path, pem: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all; one that is there already stays."""
    folder = path.parent
    with storage_errors(f"{folder} could not be written"):
        make_folder(folder)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".incoming-")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
        finally:
            os.unlink(name)
        sync_folder(folder)
