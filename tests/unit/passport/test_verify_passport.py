"""Passports: the envelope is DSSE, the check finds every change, and says which part."""

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.canon import canonical
from stillhouse.errors import UsageError
from stillhouse.passport.envelope import open_envelope, pre_authentication, seal
from stillhouse.passport.statement import PREDICATE_TYPE, STATEMENT_TYPE
from stillhouse.passport.verify_passport import PassportVerdict, check, digests_of
from stillhouse.permission.signing_keys import home_signer, public_key, read_public_keys, signed_by


@pytest.fixture
def signer(tmp_path):
    return home_signer(tmp_path / "keys")


@pytest.fixture
def folder(tmp_path):
    """A model's folder with its files."""
    place = tmp_path / "model"
    place.mkdir()
    for name in ("model.safetensors", "config.json"):
        (place / name).write_bytes(name.encode())
    return place


def passport(folder, signer, **changes):
    subject = [{"name": path.name, "digest": digests_of(path)._asdict()} for path in sorted(folder.iterdir())]
    predicate = {"signer": signer.public.pem, "revocation_checked_as_of": "2026-11-24T00:00:00Z",
                 "model": {"name": "m", "version": 3}}  # fmt: skip
    statement = {"_type": STATEMENT_TYPE, "predicateType": PREDICATE_TYPE, "subject": subject, "predicate": predicate}
    path = folder.parent / "passport.json"
    path.write_bytes(seal(canonical({**statement, **changes}), signer))
    return path


def test_the_bytes_that_are_signed_are_those_of_the_standard():
    """The example of the DSSE specification's protocol document."""
    assert pre_authentication("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(st.binary(max_size=200))
def test_an_envelope_gives_back_what_was_sealed(tmp_path_factory, payload):
    signer = home_signer(tmp_path_factory.getbasetemp() / "shared-keys")
    opened = open_envelope(seal(payload, signer))
    assert opened.payload == payload
    assert signed_by(signer.public, opened.signatures[signer.public.id], opened.message)
    assert not signed_by(signer.public, opened.signatures[signer.public.id], opened.message + b"x")


def test_the_three_results(folder, signer, tmp_path):
    path = passport(folder, signer)
    known = check(path, folder, [signer.public])
    assert (known.result, known.model, known.checked) == (
        PassportVerdict.TRUSTED,
        "m@3",
        ("config.json", "model.safetensors"),
    )
    assert check(path, folder, []).result == PassportVerdict.INTACT
    assert check(path, folder, [home_signer(tmp_path / "other").public]).result == PassportVerdict.INTACT
    (folder / "config.json").write_bytes(b"other")
    broken = check(path, folder, [signer.public])
    assert (broken.result, broken.broken) == (PassportVerdict.BROKEN, ("config.json: has other bytes",))


def test_a_statement_alone_is_no_proof_of_a_model(folder, signer, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "nowhere"):
        alone = check(passport(folder, signer), place, [signer.public])
        assert alone.broken == ("config.json: is missing", "model.safetensors: is missing")
    assert "names no file of a model" in check(passport(folder, signer, subject=[]), tmp_path / "empty", []).broken[0]


@pytest.mark.parametrize(
    "name", ["evil.gguf", "modeling.py", "additional_chat_templates/default.jinja", "added_tokens.json"]
)
def test_whatever_else_lies_in_the_folder_is_named(folder, signer, name):
    path = passport(folder, signer)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    assert check(path, folder, [signer.public]).broken == (f"{name}: is no part of the model",)


def test_the_dataset_s_files_may_stay_at_home(folder, signer):
    subject = [{"name": path.name, "digest": digests_of(path)._asdict()} for path in sorted(folder.iterdir())]
    rows = {"name": "dataset/rows.parquet", "digest": {"blake3": "0", "sha256": "0"}}
    path = passport(folder, signer, subject=[*subject, rows])
    found = check(path, folder, [signer.public])
    assert (found.result, found.not_checked) == (PassportVerdict.TRUSTED, ("dataset/rows.parquet",))
    (folder / "dataset").mkdir()
    (folder / "dataset" / "rows.parquet").write_text("other")
    assert check(path, folder, [signer.public]).broken == ("dataset/rows.parquet: has other bytes",)


@pytest.mark.parametrize("predicate", ['{"a":' * 100_000, '"' + "x" * 10])
def test_nothing_that_is_signed_can_crash_the_check(folder, signer, tmp_path, predicate):
    path = tmp_path / "odd.json"
    path.write_bytes(seal(f'{{"_type": "{STATEMENT_TYPE}", "predicate": {predicate}'.encode(), signer))
    assert check(path, folder, []).result is PassportVerdict.BROKEN
    long = [{"name": "n" * 5000, "digest": {}}]
    assert "cannot be read" in check(passport(folder, signer, subject=long), folder, []).broken[0]


def test_any_changed_byte_of_the_envelope_is_noticed(folder, signer):
    path = passport(folder, signer)
    good = path.read_bytes()
    for place in range(0, len(good), 7):
        changed = bytes([good[place] ^ 1])
        path.write_bytes(good[:place] + changed + good[place + 1 :])
        found = check(path, folder, [signer.public])
        if found.result is not PassportVerdict.BROKEN:
            assert json.loads(path.read_bytes())["payload"] == json.loads(good)["payload"], place
            assert changed.isspace() or good[place : place + 1].isspace(), place


def test_signed_anew_by_another_it_is_another_s(folder, signer, tmp_path):
    stranger = home_signer(tmp_path / "stranger")
    path = passport(folder, stranger)
    assert check(path, folder, [signer.public]).result == PassportVerdict.INTACT
    envelope = json.loads(passport(folder, signer).read_bytes())
    envelope["signatures"] = json.loads(passport(folder, stranger).read_bytes())["signatures"]
    path.write_bytes(msgspec.json.encode(envelope))
    assert "signature" in check(path, folder, [signer.public, stranger.public]).broken[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no DSSE envelope"),
        (b"{}", "no DSSE envelope"),
        (json.dumps({"payload": "!", "payloadType": "x", "signatures": []}).encode(), "no DSSE envelope"),
        (json.dumps({"payload": "e30=", "payloadType": "text/plain", "signatures": []}).encode(), "of type 'text/plain'"),
        (json.dumps({"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": []}).encode(), "missing"),
    ],
)  # fmt: skip
def test_what_is_no_passport_is_broken_and_says_why(tmp_path, content, reason):
    (tmp_path / "p.json").write_bytes(content)
    found = check(tmp_path / "p.json", tmp_path, [])
    assert found.result is PassportVerdict.BROKEN
    assert reason in found.broken[0]


def test_another_statement_and_a_key_that_is_none(folder, signer):
    assert "and not a passport" in check(passport(folder, signer, predicateType="urn:x"), folder, []).broken[0]
    assert "not a public key" in check(passport(folder, signer, predicate={"signer": "?"}), folder, []).broken[0]


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd"])
def test_a_name_that_leads_out_of_the_folder_is_not_followed(folder, signer, name):
    subject = [{"name": name, "digest": {"blake3": "", "sha256": ""}}]
    found = check(passport(folder, signer, subject=subject), folder, [signer.public])
    assert f"{name}: a name that leads out of the folder" in found.broken


def test_keys(signer, tmp_path):
    assert home_signer(tmp_path / "keys").public == signer.public, "made once"
    assert read_public_keys(tmp_path / "keys") == [signer.public]
    (tmp_path / "both.pem").write_text(signer.public.pem + home_signer(tmp_path / "other").public.pem)
    assert len(read_public_keys(tmp_path / "both.pem")) == 2
    private = (tmp_path / "keys" / "home.key").read_text()
    assert "PRIVATE" in private
    assert private.splitlines()[1] not in signer.public.pem
    with pytest.raises(UsageError):
        public_key(private)
    with pytest.raises(UsageError, match="no public key"):
        read_public_keys(tmp_path / "nothing") if (tmp_path / "nothing").mkdir() is None else None


def test_a_payload_is_canonical_json(folder, signer):
    payload = base64.b64decode(json.loads(passport(folder, signer).read_bytes())["payload"])
    assert payload == canonical(json.loads(payload))


def test_two_signatures_under_one_name_are_none(folder, signer):
    path = passport(folder, signer)
    envelope = json.loads(path.read_text())
    for signatures in (
        envelope["signatures"][:1] * 2,
        [{**envelope["signatures"][0], "sig": "AAAA"}, *envelope["signatures"]],
    ):
        path.write_text(json.dumps({**envelope, "signatures": signatures}))
        assert check(path, folder, [signer.public]).result is PassportVerdict.BROKEN
    for one in envelope["signatures"]:
        path.write_text(json.dumps({**envelope, "signatures": [one]}))
        assert check(path, folder, [signer.public]).result is PassportVerdict.TRUSTED, "either name of the key will do"
