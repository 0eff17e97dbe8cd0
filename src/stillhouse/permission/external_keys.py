"""Keys that never leave where they are: hardware (PKCS#11), a cloud's KMS, HashiCorp Vault; by securesystemslib's signers.

The key file then holds an address (a URI such as ``hsm:2`` or ``awskms:alias/ada``) and the public key. Covers: what comes back
is verified with that public key before it counts, so another key behind the address is found; a PIN that is not given is never
tried. Does not cover: who may use the key at its service. A PIN comes from STILLHOUSE_KEY_PASSPHRASE, credentials from where the
service's own client takes them.
"""

import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from stillhouse.errors import KeyUnusable, MissingExtra, UsageError
from stillhouse.permission.signing_keys import (
    PublicKey,
    Signer,
    public_key,
    read_signer,
    signed_by,
    write_private,
)

# How a key file begins that holds no key but where one is.
_ADDRESS = "signer:"
_NEXT = "Check the address, that the device or service is reachable, and the PIN (STILLHOUSE_KEY_PASSPHRASE)."
# The schemes that keep a key in a place of its own, and what securesystemslib calls the extra of each. Its others read files, or
# sign as somebody else.
_EXTRAS = {"hsm": "hsm", "awskms": "awskms", "gcpkms": "gcpkms", "azurekms": "azurekms", "hv": "vault"}


class ExternalSigner:
    """Asks for signatures. Connects at the first one."""

    def __init__(self, address: str, public: PublicKey, secret: str) -> None:
        self.address, self.public, self._secret = address, public, secret
        self._signer: Any = None
        self._proved = False

    def ready(self) -> None:
        """Sign something once: a device that is not there is found before anything is done. Raises KeyUnusable, MissingExtra."""
        if not self._proved:
            self.sign(b"stillhouse: is this the key?")

    def sign(self, data: bytes) -> bytes:
        """Raises KeyUnusable, MissingExtra."""
        if self._signer is None:
            self._signer = _connect(self.address, self.public, self._secret)
        try:
            signature = bytes.fromhex(self._signer.sign(data).signature)
        except KeyUnusable:
            raise
        except Exception as failure:  # of a driver or a service: each has its own
            raise KeyUnusable(f"({self.address} did not sign: {_words(failure)})", next_step=_NEXT) from failure
        if not signed_by(self.public, signature, data):
            raise KeyUnusable(f"({self.address} signs with another key than its public part)", next_step=_NEXT)
        self._proved = True
        return signature


def signer_of(path: Path, passphrase: str = "") -> Signer:
    """Who signs by a key file: the key in it, or the one that it addresses. Raises KeyUnusable."""
    try:
        data = path.read_bytes()
        writable = bool(path.stat().st_mode & 0o022)
    except OSError as failure:
        raise KeyUnusable(f"({path} cannot be read: {failure.strerror})") from failure
    if not data.startswith(_ADDRESS.encode()):
        return read_signer(path, passphrase)
    if writable:
        raise KeyUnusable(f"({path} can be changed by others)", next_step=f"chmod 600 {path}")
    try:
        address, _, pem = data.decode("ascii").partition("\n")
        return ExternalSigner(address.removeprefix(_ADDRESS).strip(), public_key(pem), passphrase)
    except (UnicodeDecodeError, UsageError) as failure:
        raise KeyUnusable(f"({path} does not hold the address of a key and its public part)") from failure


def is_address(path: Path) -> bool:
    """Does a key file hold an address and no key?"""
    try:
        return path.read_bytes().startswith(_ADDRESS.encode())
    except OSError:
        return False


def write_address(path: Path, address: str, public: PublicKey, secret: str) -> None:
    """Write a key file for a key that is elsewhere; tried before it is written. Raises KeyUnusable, MissingExtra, UsageError."""
    if not address.isascii() or not address.isprintable() or " " in address:
        raise UsageError(f"{address!r} is not the address of a key: it has no spaces, and nothing but ASCII.")
    if os.path.lexists(path):
        raise UsageError(f"{path} exists already.", next_step="Move it away first, or use another folder of keys.")
    ExternalSigner(address, public, secret).ready()
    write_private(path, f"{_ADDRESS} {address}\n{public.pem}".encode())


def _connect(address: str, public: PublicKey, secret: str) -> Any:
    scheme = address.partition(":")[0]
    if scheme not in _EXTRAS:
        raise KeyUnusable(
            f"({address} is not the address of a key)", next_step=f"It begins with one of: {', '.join(_EXTRAS)}."
        )
    try:
        from securesystemslib import exceptions, signer
    except ImportError as failure:
        raise MissingExtra("(securesystemslib)", next_step="Install the extra `signers`.") from failure

    def pin(_: str) -> str:
        if not secret:  # trying an empty one would use up one of the few attempts that a device allows
            raise KeyUnusable(f"({address} needs its PIN)", next_step="Set STILLHOUSE_KEY_PASSPHRASE.")
        return secret

    key: Any = serialization.load_pem_public_key(public.pem.encode())
    try:
        public_key = vars(signer)["SSlibKey"].from_crypto(key, keyid=public.id)
        return vars(signer)["Signer"].from_priv_key_uri(address, public_key, pin)
    except KeyUnusable:
        raise
    except exceptions.UnsupportedLibraryError as failure:
        raise MissingExtra(
            f"({address}: {_words(failure)})", next_step=f"pip install 'securesystemslib[{_EXTRAS[scheme]}]'"
        ) from failure
    except Exception as failure:  # of a driver or a service: each has its own
        raise KeyUnusable(f"({address} cannot be used: {_words(failure)})", next_step=_NEXT) from failure


def _words(failure: Exception) -> str:
    return str(failure) or type(failure).__name__
