"""Keys that are elsewhere: what they sign is checked like everything else. One is a real PKCS#11 token, of SoftHSM."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytest.importorskip("securesystemslib")

LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
needs_hsm = pytest.mark.skipif(
    not (shutil.which("softhsm2-util") and LIBRARY.exists()), reason="there is no SoftHSM (Debian: softhsm2)"
)
PIN = "4711"


def public_pem(folder: Path, key: ec.EllipticCurvePublicKey, name: str = "public.pem") -> Path:
    path = folder / name
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path


@pytest.fixture
def stored(tmp_path):
    """The address of a P-256 key, in a file as securesystemslib reads it, and the file of its public key."""
    private = ec.generate_private_key(ec.SECP256R1())
    file = tmp_path / "elsewhere.pem"
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(private.private_bytes(*pem))
    return f"file2:{file}", public_pem(tmp_path, private.public_key())


def test_what_it_signs_counts(home, stored, tmp_path):
    address, public = stored
    own = {"STILLHOUSE_KEYS": str(tmp_path / "keys")}
    home("identity", "connect", "ada", address, "--public-key", public, **own)
    key = tmp_path / "keys" / "ada.key"
    assert "PRIVATE" not in key.read_text()
    assert key.stat().st_mode & 0o077 == 0
    home("identity", "enrol", "ada", "--role", "governance", "--role", "approver", **own)
    home("access", "revoke", "rival", "--reason", "their letter", **own)
    assert home("access", "list", "--json").json["changes"][0]["signed_by"] == "ada"
    states = {check["name"]: check["state"] for check in home("doctor", "--json").json["checks"]}
    assert "broken" not in states.values()


def test_somebody_asks_to_be_enrolled_with_it(home, stored, tmp_path):
    address, public = stored
    ada, bob = ({"STILLHOUSE_KEYS": str(tmp_path / name)} for name in ("adas", "bobs"))
    home("identity", "enrol", "ada", "--role", "governance", "--role", "approver", **ada)
    home("identity", "connect", "bob", address, "--public-key", public, **bob)
    home("identity", "request", "bob", "--to", tmp_path / "bob.json", **bob)
    home("identity", "enrol", "bob", "--role", "approver", "--request", tmp_path / "bob.json", **ada)
    assert {one["name"] for one in home("identity", "list", "--json", **ada).json["members"]} == {"ada", "bob"}


def test_another_key_behind_the_address_is_found(home, stored, tmp_path):
    address, _ = stored
    other = public_pem(tmp_path, ec.generate_private_key(ec.SECP256R1()).public_key(), "other.pem")
    own = {"STILLHOUSE_KEYS": str(tmp_path / "keys")}
    refused = home("identity", "connect", "ada", address, "--public-key", other, code=1, **own)
    assert "cannot be used" in refused.err
    assert not (tmp_path / "keys" / "ada.key").exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nothing", "not the address of a key"),
        ("file2:/not/there", "cannot be used"),
        ("hsm:2?label=not-there", "cannot be used"),
        ("awskms:", "cannot be used"),
    ],
)
def test_what_cannot_be_reached_is_named(home, stored, tmp_path, address, said):
    own = {"STILLHOUSE_KEYS": str(tmp_path / "keys"), "AWS_EC2_METADATA_DISABLED": "true"}
    assert said in home("identity", "connect", "ada", address, "--public-key", stored[1], code=1, **own).err


def test_a_key_of_another_curve_is_refused(home, tmp_path):
    public = public_pem(tmp_path, ec.generate_private_key(ec.SECP384R1()).public_key())
    assert "unsupported" in home("identity", "connect", "ada", "hsm:2", "--public-key", public, code=2).err


@needs_hsm
def test_a_key_in_a_token(home, tmp_path):
    """A PKCS#11 token with a key that cannot be read out of it."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    own = {
        "SOFTHSM2_CONF": str(tmp_path / "softhsm.conf"), "PYKCS11LIB": str(LIBRARY),
        "STILLHOUSE_KEYS": str(tmp_path / "keys"), "STILLHOUSE_KEY_PASSPHRASE": PIN,
    }  # fmt: skip
    words = ["softhsm2-util", "--init-token", "--free", "--label", "ada", "--pin", PIN, "--so-pin", "0000"]
    subprocess.run(words, env=os.environ | own, check=True, capture_output=True)
    make = (
        "import pkcs11, sys\nfrom pkcs11.util.ec import encode_named_curve_parameters, encode_ec_public_key\n"
        "token = pkcs11.lib(sys.argv[1]).get_token(token_label='ada')\n"
        f"with token.open(rw=True, user_pin={PIN!r}) as session:\n"
        "    named = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters('secp256r1')}\n"
        "    made = session.create_domain_parameters(pkcs11.KeyType.EC, named, local=True)\n"
        "    public, _ = made.generate_keypair(store=True, id=b'\\x02', label='ada')\n"
        "    sys.stdout.buffer.write(encode_ec_public_key(public))\n"
    )
    python = str(Path(shutil.which("python") or "python"))
    done = subprocess.run([python, "-c", make, str(LIBRARY)], env=os.environ | own, check=True, capture_output=True)
    public = public_pem(tmp_path, serialization.load_der_public_key(done.stdout))  # type: ignore[arg-type]
    home.process("identity", "connect", "ada", "hsm:2?label=ada", "--public-key", public, **own)
    home.process("identity", "enrol", "ada", "--role", "governance", "--role", "approver", **own)
    home.process("access", "revoke", "rival", "--reason", "their letter", **own)
    assert home("access", "list", "--json").json["changes"][0]["signed_by"] == "ada"
    wrong = home.process(
        "access", "revoke", "other", "--reason", "x", code=1, **own | {"STILLHOUSE_KEY_PASSPHRASE": "0"}
    )
    assert PIN not in wrong.err
