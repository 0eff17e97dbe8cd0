"""OpenSSF model signing of a model's folder (github.com/sigstore/model-transparency), with a P-256 key and no network.

Covers: every file of the folder but the signature and the passport, which is signed on its own. Does not cover: how the model was
made; that is the passport's part. Needs the extra `release`; without it weights are not signed, and the passport says so.
"""

import hashlib
import importlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from stillhouse.passport.statement import WeightsSignature
from stillhouse.permission.signing_keys import weights_key

SIGNATURE, PASSPORT = "model.sig", "passport.json"


def can_sign() -> bool:
    """Is the library there?"""
    return importlib.util.find_spec("model_signing") is not None


def sign_weights(folder: Path, keys: Path) -> WeightsSignature | None:
    """Sign a folder with the home's P-256 key; None where the library is not installed. Raises KeyUnusable, StorageError.

    A signature that holds stays: passports that were given out name its bytes, and ECDSA makes others each time.
    """
    if not can_sign():
        return None
    hashing, signing = _library("hashing"), _library("signing")
    private, public = weights_key(keys)
    ignored = hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE, folder / PASSPORT])
    target = folder / SIGNATURE
    if not target.is_file() or verify_weights(folder, public):
        signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(ignored).sign(folder, target)
    return WeightsSignature(SIGNATURE, hashlib.sha256(target.read_bytes()).hexdigest(), public)


def verify_weights(folder: Path, public_key: str) -> str:
    """What is wrong with the signature of a folder, by a public key (PEM); empty where it holds."""
    verifying = _library("verifying")
    try:
        with tempfile.NamedTemporaryFile(suffix=".pub") as file:  # the library reads keys from files only
            file.write(public_key.encode())
            file.flush()
            config = verifying.Config().use_elliptic_key_verifier(public_key=Path(file.name))
        config.verify(folder, folder / SIGNATURE)
    except Exception as failure:  # whatever the library raises, the signature does not hold
        if str(failure).startswith("Signature mismatch"):
            return "it was made over other files than these"
        return (str(failure).splitlines() or [type(failure).__name__])[0][:200]
    return ""


def _library(name: str) -> Any:
    """A part of the library, which carries no types and takes a while to import."""
    return importlib.import_module(f"model_signing.{name}")
