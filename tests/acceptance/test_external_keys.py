"""Keys that are elsewhere, here in real PKCS#11 tokens (SoftHSM): what they sign is checked like everything else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytest.importorskip("securesystemslib")
pytest.importorskip("pkcs11")

LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
pytestmark = pytest.mark.skipif(
    not (shutil.which("softhsm2-util") and LIBRARY.exists()), reason="there is no SoftHSM (Debian: softhsm2)"
)
PIN = "4711"
MAKE = """
import pkcs11, sys
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters
token = pkcs11.lib(sys.argv[1]).get_token(token_label="ada")
with token.open(rw=True, user_pin=sys.argv[2]) as session:
    named = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    made = session.create_domain_parameters(pkcs11.KeyType.EC, named, local=True)
    public, _ = made.generate_keypair(store=True, id=b"\\x02", label="ada")
    sys.stdout.buffer.write(encode_ec_public_key(public))
"""


def public_pem(path: Path, key) -> Path:
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path


class Token:
    """A token with a key that cannot be read out of it, and somebody whose key that is."""

    address = "hsm:2?label=ada"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tokens").mkdir()
        (folder / "softhsm.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
        self.own = {
            "SOFTHSM2_CONF": str(folder / "softhsm.conf"), "PYKCS11LIB": str(LIBRARY),
            "STILLHOUSE_KEYS": str(folder / "keys"), "STILLHOUSE_KEY_PASSPHRASE": PIN,
        }  # fmt: skip
        words = ["softhsm2-util", "--init-token", "--free", "--label", "ada", "--pin", PIN, "--so-pin", "0000"]
        subprocess.run(words, env=os.environ | self.own, check=True, capture_output=True)
        make = [sys.executable, "-c", MAKE, str(LIBRARY), PIN]
        der = subprocess.run(make, env=os.environ | self.own, check=True, capture_output=True).stdout
        self.public = public_pem(folder / "public.pem", serialization.load_der_public_key(der))

    @property
    def key(self) -> Path:
        return self.folder / "keys" / "ada.key"

    def connect(self, home, **more):
        words = ["identity", "connect", "ada", more.pop("address", self.address)]
        return home.process(*words, "--public-key", more.pop("public", self.public), **{**more, **self.own})

    def lose(self) -> None:
        shutil.rmtree(self.folder / "tokens")
        (self.folder / "tokens").mkdir()


@pytest.fixture
def token(tmp_path):
    folder = tmp_path / "token"
    folder.mkdir()
    return Token(folder)


def revoke(home, lab, code=0, **own):
    return home.process("access", "revoke", lab, "--reason", "their letter", "--even-if-nothing", code=code, **own)


def test_what_it_signs_counts(home, token):
    token.connect(home)
    assert "PRIVATE" not in token.key.read_text()
    assert token.key.stat().st_mode & 0o077 == 0
    home.process("identity", "enrol", "ada", "--role", "governance", "--role", "approver", **token.own)
    revoke(home, "rival", **token.own)
    assert home("access", "list", "--json").json["changes"][0]["signed_by"] == "ada"
    states = {check["name"]: check["state"] for check in home("doctor", "--json").json["checks"]}
    assert "bad" not in states.values()


def test_somebody_asks_to_be_enrolled_with_it(home, token, tmp_path):
    bob = {"STILLHOUSE_KEYS": str(tmp_path / "bobs")}
    home("identity", "enrol", "bob", "--role", "governance", "--role", "approver", **bob)
    token.connect(home)
    home.process("identity", "request", "ada", "--to", tmp_path / "ada.json", **token.own)
    home("identity", "enrol", "ada", "--role", "approver", "--request", tmp_path / "ada.json", **bob)
    assert {one["name"] for one in home("identity", "list", "--json", **bob).json["members"]} == {"ada", "bob"}


def test_another_key_behind_the_address_is_found(home, token, tmp_path):
    other = public_pem(tmp_path / "other.pem", ec.generate_private_key(ec.SECP256R1()).public_key())
    assert "another key" in token.connect(home, public=other, code=1).err
    assert not token.key.exists()


@pytest.mark.parametrize(
    ("address", "said", "code"),
    [
        ("nothing", "not the address of a key", 1),
        ("file2:/etc/key.pem", "not the address of a key", 1),  # its own checks of key files would be gone round
        ("hsm:2?label=not-there", "cannot be used", 1),
        ("awskms:", "cannot be used", 1),
        ("hsm:2?label=ada\n", "not the address", 2),
        ("hsm:2?label=schlüssel", "not the address", 2),
        ("hsm:2 label", "not the address", 2),
    ],
)
def test_what_cannot_be_reached_is_named(home, token, address, said, code):
    assert said in token.connect(home, address=address, code=code, AWS_EC2_METADATA_DISABLED="true").err
    assert not token.key.exists()


def test_a_key_of_another_curve_is_refused(home, token, tmp_path):
    public = public_pem(tmp_path / "other.pem", ec.generate_private_key(ec.SECP384R1()).public_key())
    assert "unsupported" in token.connect(home, public=public, code=2).err


def test_what_is_there_already_stays(home, token):
    token.key.parent.mkdir()
    token.key.symlink_to("nowhere")
    assert "exists already" in token.connect(home, code=2).err


def test_a_pin_that_is_not_given_is_not_tried(home, token):
    """Each wrong one uses up one of the few attempts that a device allows."""
    token.connect(home)
    home.process("identity", "enrol", "ada", "--role", "governance", "--role", "approver", **token.own)
    without = token.own | {"STILLHOUSE_KEY_PASSPHRASE": ""}
    for _ in range(4):
        assert "needs its PIN" in revoke(home, "rival", code=1, **without).err
    wrong = revoke(home, "rival", code=1, **token.own | {"STILLHOUSE_KEY_PASSPHRASE": "0815"})
    assert PIN not in wrong.err
    assert "0815" not in wrong.err
    revoke(home, "rival", **token.own)


def test_a_device_that_is_gone_is_found_before_anything_is_done(home, token, tmp_path):
    token.connect(home)
    home.process("identity", "enrol", "ada", "--role", "governance", "--role", "approver", **token.own)
    rows = home.write("rows.jsonl", '{"prompt": "How?", "response": "So."}\n')
    token.lose()
    refused = home.process("dataset", "import", rows, "--name", "d", code=1, **token.own)
    assert "signing key" in refused.err
    assert home("dataset", "list", "--json").json == []
    assert {one["plan"]["kind"] for one in home("plan", "list", "--json").json} == {"change-roster", "adopt-policy"}


def test_a_revocation_is_noticed_though_its_receipt_cannot_be_signed(home, token, monkeypatch):
    """The device goes away between the two signatures: what runs elsewhere hears of what the log has."""
    from stillhouse.home import proposals
    from stillhouse.home.plans import planning

    home(
        "identity",
        "enrol",
        "ada",
        "--role",
        "governance",
        "--role",
        "approver",
        STILLHOUSE_KEYS=str(token.folder / "k"),
    )
    marker = home.home / "locks" / "gateway-bell"
    before = marker.read_bytes()

    def away(*_: object) -> None:
        raise proposals.StillhouseError("(the device is gone)")

    monkeypatch.setattr(planning, "_leave_receipt", away)
    home("access", "revoke", "rival", "--even-if-nothing", code=1, STILLHOUSE_KEYS=str(token.folder / "k"))
    assert home("access", "list", "--json").json["changes"][0]["lab"] == "rival"
    assert marker.read_bytes() != before


def test_a_key_in_a_device_is_not_replaced_by_one_in_a_file(home, token):
    token.connect(home)
    home.process("identity", "enrol", "ada", "--role", "governance", "--role", "approver", **token.own)
    assert "not in a file" in home.process("identity", "rotate", "ada", code=2, **token.own).err
    assert [path.name for path in token.key.parent.iterdir()] == ["ada.key"]


def test_an_address_that_others_can_change_is_refused(home, token):
    token.connect(home)
    home.process("identity", "enrol", "ada", "--role", "governance", "--role", "approver", **token.own)
    token.key.chmod(0o666)
    named = token.own | {"STILLHOUSE_IDENTITY": "ada"}
    assert "can be changed by others" in revoke(home, "rival", code=1, **named).err
