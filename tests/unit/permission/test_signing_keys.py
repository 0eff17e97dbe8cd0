"""How keys are named, here and by others."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stillhouse.permission.signing_keys import metadata_key_id, public_key


@pytest.mark.parametrize("make", [Ed25519PrivateKey.generate, lambda: ec.generate_private_key(ec.SECP256R1())])
def test_a_key_is_named_as_securesystemslib_names_it(make):
    signer = pytest.importorskip("securesystemslib.signer")
    public = make().public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    assert metadata_key_id(public_key(pem)) == signer.SSlibKey.from_crypto(public).keyid
