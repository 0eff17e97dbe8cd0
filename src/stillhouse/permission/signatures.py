"""What exactly is signed: a kind and a value, so that a signature over one thing is worth nothing for another.

Covers: DSSE's pre-authentication encoding over canonical JSON; verification against the roster that was in force. Does not cover:
when something was signed (the log's order says when it was written down), nor a key that somebody else holds a copy of.
"""

import base64
import binascii
from typing import Any, NamedTuple

from stillhouse.canon import canonical
from stillhouse.nouns import Signature
from stillhouse.permission.signing_keys import PublicKey, Signer, signed_by

# By this name a home signs itself, where no person does.
HOME = "home"


class Signatory(NamedTuple):
    """Somebody who signs now: a member's name, its key, and the version of the roster that it acts under."""

    name: str
    signer: Signer
    roster: int

    def ready(self) -> "Signatory":
        """Itself, once it is sure that it can sign. Raises KeyUnusable, MissingExtra."""
        self.signer.ready()
        return self

    def sign(self, kind: str, value: Any) -> Signature:
        """Sign a value of a kind."""
        signature = self.signer.sign(message(kind, [value, self.name, self.roster]))
        return Signature(self.name, self.signer.public.id, self.roster, base64.b64encode(signature).decode())


def message(kind: str, value: Any) -> bytes:
    """The bytes that are signed."""
    return pre_authentication(f"application/vnd.stillhouse.{kind}+json", canonical(value))


def pre_authentication(kind: str, payload: bytes) -> bytes:
    """PAE of DSSE v1: lengths before contents, so that no two (type, payload) pairs give the same bytes to sign."""
    encoded = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(encoded), encoded, len(payload), payload)


def is_signed(key: PublicKey, kind: str, value: Any, signature: Signature) -> bool:
    """Is this signature by that key, over this value and the name that it gives?"""
    try:
        raw = base64.b64decode(signature.value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return signature.key == key.id and signed_by(key, raw, message(kind, [value, signature.by, signature.roster]))
