"""DSSE v1: a payload, its type, and signatures over both (github.com/secure-systems-lab/dsse)."""

import base64
from typing import NamedTuple

import msgspec

from stillhouse.permission.signatures import pre_authentication
from stillhouse.permission.signing_keys import PublicKey, Signer, metadata_key_id, signed_by

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class _Signature(msgspec.Struct):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, rename={"payload_type": "payloadType"}):
    payload: str
    payload_type: str
    signatures: list[_Signature]


class Opened(NamedTuple):
    """An envelope's content: what was signed (``message``), the payload in it, and the signatures by key."""

    message: bytes
    payload: bytes
    signatures: dict[str, bytes]


def seal(payload: bytes, signer: Signer) -> bytes:
    """An envelope as JSON. Its one signature stands there under each name of the key: verifiers look for theirs."""
    names = (signer.public.id, metadata_key_id(signer.public))
    return _written(payload, names, signer.sign(pre_authentication(PAYLOAD_TYPE, payload)))


def sealed_by(opened: Opened, key: PublicKey) -> tuple[bytes, bytes]:
    """The bytes that ``seal`` wrote for that signer, and those that earlier versions wrote, under one name: the same, however the
    file was formatted or signed by others since.
    """
    signature = opened.signatures.get(key.id) or opened.signatures.get(metadata_key_id(key), b"")
    return (
        _written(opened.payload, (key.id, metadata_key_id(key)), signature),
        _written(opened.payload, (key.id,), signature),
    )


def is_sealed_by(opened: Opened, key: PublicKey) -> bool:
    """Did the holder of a key sign it, and is that signature under none but the key's own names? Others may have signed, too."""
    names = (key.id, metadata_key_id(key))
    under = {name: signed_by(key, signature, opened.message) for name, signature in opened.signatures.items()}
    return any(under.values()) and all(found == (name in names) for name, found in under.items())


def _written(payload: bytes, names: tuple[str, ...], signature: bytes) -> bytes:
    envelope = _Envelope(_text(payload), PAYLOAD_TYPE, [_Signature(name, _text(signature)) for name in names])
    return msgspec.json.format(msgspec.json.encode(envelope), indent=2)


def open_envelope(data: bytes) -> Opened:
    """Take an envelope apart; nothing is verified. Raises ValueError where it is none."""
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
        payload = base64.b64decode(envelope.payload, validate=True)
        signatures = {one.keyid: base64.b64decode(one.sig, validate=True) for one in envelope.signatures}
        if len(signatures) != len(envelope.signatures):
            raise ValueError("two signatures under one name")
    except (msgspec.MsgspecError, ValueError) as failure:
        raise ValueError(f"no DSSE envelope: {failure}") from failure
    if envelope.payload_type != PAYLOAD_TYPE:
        raise ValueError(f"a payload of type {envelope.payload_type!r}, and not an in-toto statement")
    return Opened(pre_authentication(envelope.payload_type, payload), payload, signatures)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
