"""Keys that never leave where they are: hardware (PKCS#11), a cloud's KMS, HashiCorp Vault; by securesystemslib's signers.

The key file then holds an address (a URI such as ``hsm:2`` or ``awskms:alias/ada``) and the public key. Covers: what comes back
is verified with that public key before it counts, so another key behind the address is found. Does not cover: who may use the
key at its service. A PIN comes from STILLHOUSE_KEY_PASSPHRASE, credentials from where the service's own client takes them.
"""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from stillhouse.errors import KeyUnusable, MissingExtra, UsageError
from stillhouse.permission.signing_keys import PublicKey, Signer, public_key, read_signer, signed_by, write_private


class ExternalSigner:
    """Asks for signatures. Connects at the first one."""

    def __init__(self, address: str, public: PublicKey, secret: str) -> None:
        self.address, self.public, self._secret = address, public, secret
        self._signer: Any = None

    def sign(self, data: bytes) -> bytes:
        """Raises KeyUnusable, MissingExtra."""
        if self._signer is None:
            self._signer = _connect(self.address, self.public, self._secret)
        try:
            signature = bytes.fromhex(self._signer.sign(data).signature)
        except Exception as failure:  # of a driver or a service: each has its own
            raise KeyUnusable(f"{self.address} did not sign: {failure}.", next_step=_NEXT) from failure
        if not signed_by(self.public, signature, data):
            raise KeyUnusable(f"{self.address} signs with another key than its public part.", next_step=_NEXT)
        return signature


# How a key file begins that holds no key but where one is.
_ADDRESS = "signer:"
_NEXT = "Check the address, that the device or service is reachable, and the PIN (STILLHOUSE_KEY_PASSPHRASE)."


def signer_of(path: Path, passphrase: str = "") -> Signer:
    """Who signs by a key file: the key in it, or the one that it addresses. Raises KeyUnusable."""
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise KeyUnusable(f"{path} cannot be read: {failure.strerror}.") from failure
    if not data.startswith(_ADDRESS.encode()):
        return read_signer(path, passphrase)
    try:
        address, _, pem = data.decode("ascii").partition("\n")
        return ExternalSigner(address.removeprefix(_ADDRESS).strip(), public_key(pem), passphrase)
    except (UnicodeDecodeError, UsageError) as failure:
        raise KeyUnusable(f"{path} does not hold the address of a key and its public part.") from failure


def write_address(path: Path, address: str, public: PublicKey, secret: str) -> None:
    """Write a key file for a key that is elsewhere; tried before it is written. Raises KeyUnusable, MissingExtra, UsageError."""
    if path.exists():
        raise UsageError(f"{path} exists already.", next_step="Move it away first, or use another folder of keys.")
    ExternalSigner(address, public, secret).sign(b"stillhouse: is this the key?")
    write_private(path, f"{_ADDRESS} {address}\n{public.pem}".encode())


def _connect(address: str, public: PublicKey, secret: str) -> Any:
    try:
        from securesystemslib import exceptions, signer
    except ImportError as failure:
        raise MissingExtra("(securesystemslib)", next_step="pip install 'stillhouse[signers]'") from failure
    scheme = address.partition(":")[0]
    schemes: dict[str, Any] = vars(signer)["SIGNER_FOR_URI_SCHEME"]
    if scheme not in schemes:
        known = ", ".join(sorted(schemes))
        raise KeyUnusable(f"{address} is not the address of a key.", next_step=f"It begins with one of: {known}.")
    key: Any = serialization.load_pem_public_key(public.pem.encode())
    try:
        public_key = vars(signer)["SSlibKey"].from_crypto(key, keyid=public.id)
        return vars(signer)["Signer"].from_priv_key_uri(address, public_key, lambda _: secret)
    except exceptions.UnsupportedLibraryError as failure:
        raise MissingExtra(
            f"({address}: {failure})", next_step=f"pip install 'securesystemslib[{_EXTRAS.get(scheme, scheme)}]'"
        ) from failure
    except Exception as failure:  # of a driver or a service: each has its own
        raise KeyUnusable(f"{address} cannot be used: {failure}.", next_step=_NEXT) from failure


# What securesystemslib calls the extra of a scheme.
_EXTRAS = {"hsm": "hsm", "awskms": "awskms", "gcpkms": "gcpkms", "azurekms": "azurekms", "hv": "vault"}
