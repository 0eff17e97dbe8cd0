"""A passport in other people's formats, held against their own validators; the weights, by their own tool."""

import base64
import copy
import json
import subprocess
import sys

import pytest

from stillhouse.errors import PolicyRefusal
from stillhouse.passport.exports.cards import to_model_card
from stillhouse.passport.exports.croissant import to_croissant
from stillhouse.passport.exports.licences import beginnings, published
from stillhouse.permission.terms_registry import shipped
from tests.acceptance.test_access import import_rival, mixed_recipe, revoke, rows
from tests.acceptance.test_student import RIGHT, add_local


@pytest.fixture(scope="module")
def model_home(tmp_path_factory, tiny_model):
    """A home with a model of two sources, and its passport: made once, only read by the tests of this file."""
    pytest.importorskip("peft")
    from tests.conftest import Cli

    home = Cli(tmp_path_factory.mktemp("exports"))
    home("init")
    home.prompts(4)
    home.add_replay(home.recording([{"task": f"t{n}", "text": f"{RIGHT} # {n}"} for n in range(4)]))
    add_local(home, tiny_model)
    import_rival(home, rows(home, "january.jsonl", 100, 3), "january", "2026-01-05")
    home("run", mixed_recipe(home, "mixed", ["january"]), "--json")
    home("passport", "write", "mixed")
    return home


def exported(home, form):
    target = home.folder / f"{form}.out"
    if not target.exists():
        home("passport", "export", "mixed", "--format", form, "--to", target)
    return target


def test_the_bill_of_materials_is_valid_and_says_who_taught(model_home):
    cyclonedx = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    text = exported(model_home, "cyclonedx").read_text()
    validator = cyclonedx.JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    broken = json.loads(text)
    broken["metadata"]["component"]["modelCard"]["nonsense"] = 1
    assert validator.validate_str(json.dumps(broken)) is not None, "a validator that cannot say no is none"
    document = json.loads(text)
    card = document["metadata"]["component"]["modelCard"]
    assert card["modelParameters"]["datasets"] == [{"ref": "dataset:mixed@1"}]
    assert {
        part["supplier"]["name"] for part in document["components"] if part["type"] == "machine-learning-model"
    } >= {
        "rival",
        "testlab",
    }
    [base] = document["metadata"]["component"]["pedigree"]["ancestors"]
    assert (base["name"], base["licenses"]) == ("m", [{"license": {"id": "Apache-2.0"}}])
    assert document["metadata"]["component"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert not any(base["bom-ref"] in one["dependsOn"] for one in document["dependencies"])
    names = {part["name"] for part in document["metadata"]["component"]["components"]}
    assert "model.safetensors" in names


def test_the_eu_summary_names_the_models_whose_outputs_were_learned_from(model_home):
    text = exported(model_home, "eu-summary").read_text()
    section = text.partition("### 2.5 Synthetic data")[2].partition("### 2.6")[0]
    assert "on its behalf to train the model? Yes" in section
    assert "less than 1 billion tokens" in text.partition("### 1.3")[2].partition("## 2.")[0]
    for number, question in (
        ("2.1", "publicly available datasets used? No"),
        ("2.3", "Were crawlers used"),
        ("2.6", "Yes"),
    ):
        assert question in text.partition(f"### {number} ")[2].partition("\n### ")[0], number
    assert "Code of Practice" in text.partition("### 3.1")[2].partition("### 3.2")[0]
    assert "duty" not in text.partition("### 3.1")[2].partition("### 3.2")[0], "a licence's duty reserves no rights"
    assert "| rival-1 | rival | official | 3 | 42.86% |" in section
    assert "| m | testlab | open-weights | 4 | 57.14% |" in section
    assert "licence/mit" in section
    for heading in (
        "1. General information",
        "2. List of data sources",
        "2.1",
        "2.2",
        "2.3",
        "2.4",
        "2.6",
        "1.1 Provider",
        "1.2 Model",
        "1.3 Modalities",
        "2.2.1",
        "2.2.2",
        "3. Data processing",
        "3.3",
        "3.1",
        "3.2",
    ):
        assert f"# {heading}" in text, heading
    assert "to be completed by the provider" in text


def test_the_cards_have_a_head_that_the_hub_reads(model_home):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(exported(model_home, "model-card").read_text())
    assert card.data.base_model is None, "nobody knows where the base is published"
    assert card.data.license == "apache-2.0"
    assert "synthetic" in card.data.tags
    data = hub.DatasetCard(exported(model_home, "dataset-card").read_text())
    assert data.data.size_categories == ["n<1K"]
    assert "rival" in data.text


def test_a_published_name_begins_as_the_licence_says(model_home):
    statement = whole_statement(model_home)
    statement["predicate"]["duties"] = list(registered_duties("licence/llama-3.1"))
    for beginning in ("", "small-llama", "my"):
        with pytest.raises(PolicyRefusal, match="must begin with 'Llama'"):
            published(statement, beginning)
    assert "# Llama-small" in to_model_card(published(statement, "Llama-small"))
    statement["predicate"]["evaluations"] = [EVALUATION]
    statement["predicate"]["bases"][0]["repository"] = "org/base"
    card = pytest.importorskip("huggingface_hub").ModelCard(to_model_card(published(statement, "Llama-small")))
    assert card.data.base_model == "org/base" or card.data.base_model == ["org/base"]
    [result] = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_type) == ("pass_at_1", 0.5, "held-out")


def test_every_export_of_a_model_carries_the_published_name(model_home):
    where = {
        "cyclonedx": '"name": "Mine-1"',
        "spdx": '"name": "Mine-1"',
        "eu-summary": ": Mine-1,",
        "model-card": "# Mine-1",
    }
    for form, expected in where.items():
        target = model_home.folder / f"{form}.named"
        model_home("passport", "export", "mixed", "--format", form, "--name", "Mine-1", "--to", target)
        assert expected in target.read_text()
    for form in ("dataset-card", "croissant"):
        words = ["passport", "export", "mixed", "--format", form, "--name", "Mine-1", "--to", "x"]
        assert "not a model" in model_home(*words, code=2).err


EVALUATION = {
    "suite": "held-out",
    "split": "test",
    "tasks": 8,
    "samples": 2,
    "arms": {
        "before": {"pass_at_1": {"mean": 0.25, "low": 0.1, "high": 0.4}},
        "after": {"pass_at_1": {"mean": 0.5, "low": 0.3, "high": 0.7}},
    },
}


@pytest.mark.parametrize("licence", ["llama-3.1", "llama-3.2", "llama-3.3", "llama-4"])
def test_every_licence_with_a_duty_of_names_is_understood(licence):
    assert beginnings(registered_duties(f"licence/{licence}")) == ["Llama"]


def registered_duties(document):
    return next(version.duties for version in shipped().versions if version.id.partition("@")[0] == document)


def whole_statement(home):
    envelope = json.loads((home.home / "models" / "mixed-1" / "passport.json").read_text())
    return json.loads(base64.b64decode(envelope["payload"]))


def test_spdx_is_read_back_strictly(model_home):
    spdx = pytest.importorskip("spdx_python_model").v3_0_1
    text = exported(model_home, "spdx").read_text()

    def read(document):
        found = spdx.SHACLObjectSet()
        spdx.JSONLDDeserializer().deserialize_data(document, found)
        return found

    found = read(json.loads(text))
    assert not found.missing_ids
    [model] = [one for one in found.foreach_type(spdx.ai_AIPackage) if one.name == "mixed"]
    [dataset] = list(found.foreach_type(spdx.dataset_DatasetPackage))
    assert dataset.dataset_datasetSize == 7
    related = {
        (one.from_.name, one.relationshipType.rpartition("/")[2], to.name)
        for one in found.foreach_type(spdx.Relationship)
        for to in one.to
        if to.name
    }
    assert {
        ("mixed", "trainedOn", "mixed"),
        ("mixed", "descendantOf", "m"),
        ("rival-1", "generates", "mixed"),
    } <= related
    assert ("mixed", "contains", "model.safetensors") in related
    licences = {
        (one.from_.name, to.simplelicensing_licenseExpression)
        for one in found.foreach_type(spdx.Relationship)
        for to in one.to
        if isinstance(to, spdx.simplelicensing_LicenseExpression)
    }
    assert ("mixed", "Apache-2.0") in licences
    assert ("rival-1", "MIT") in licences
    assert model.suppliedBy.name == "home"
    broken = json.loads(text)
    broken["@graph"][-1]["nonsense"] = 1
    with pytest.raises(Exception, match="nonsense"):
        read(broken)


def test_others_verify_the_envelope_by_the_key_alone(model_home):
    dsse = pytest.importorskip("securesystemslib.dsse")
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    envelope = json.loads((model_home.home / "models" / "mixed-1" / "passport.json").read_text())
    pem = (model_home.home / "keys" / "home.pub").read_bytes()
    key = SSlibKey.from_crypto(load_pem_public_key(pem))  # by the name that it gives to a key itself
    assert dsse.Envelope.from_dict(copy.deepcopy(envelope)).verify([key], 1)
    changed = json.loads(base64.b64decode(envelope["payload"])) | {"subject": []}
    envelope["payload"] = base64.b64encode(json.dumps(changed).encode()).decode()
    with pytest.raises(VerificationError):
        dsse.Envelope.from_dict(envelope).verify([key], 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib.*")
def test_croissant_calls_no_encrypted_file_a_table(model_home):
    mlcroissant = pytest.importorskip("mlcroissant")
    envelope = json.loads((model_home.home / "models" / "mixed-1" / "passport.json").read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["dataset"]["erasable"] = "survey-17"
    document = json.loads(to_croissant(statement))
    mlcroissant.Dataset(jsonld=document)
    assert document["distribution"][0]["encodingFormat"] == "application/octet-stream" and document["recordSet"] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib.*")
def test_croissant_is_valid(model_home):
    mlcroissant = pytest.importorskip("mlcroissant")
    path = exported(model_home, "croissant")
    document = json.loads(path.read_text())
    dataset = mlcroissant.Dataset(jsonld=document)
    assert not dataset.metadata.ctx.issues.errors
    assert [field.name for field in dataset.metadata.record_sets[0].fields][:2] == ["rows/key", "rows/task"]
    broken = {**document, "recordSet": [{**document["recordSet"][0], "field": [{"@type": "cr:Field", "@id": "x"}]}]}
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(jsonld=broken)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib.*")
@pytest.mark.parametrize("erasable", [False, True])
def test_croissant_names_every_shard(model_home, erasable):
    mlcroissant = pytest.importorskip("mlcroissant")
    envelope = json.loads((model_home.home / "models" / "mixed-1" / "passport.json").read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["subject"].append({"name": "dataset/rows-00001.parquet", "digest": {"blake3": "0", "sha256": "1" * 64}})
    if erasable:
        statement["predicate"]["dataset"]["erasable"] = "survey-17"
    document = json.loads(to_croissant(statement))
    dataset = mlcroissant.Dataset(jsonld=document)
    assert not dataset.metadata.ctx.issues.errors
    files = [one["@id"] for one in document["distribution"] if one["@type"] == "cr:FileObject"]
    assert files == ["rows.parquet", "rows-00001.parquet"]
    if not erasable:
        assert document["recordSet"][0]["field"][0]["source"]["fileSet"] == {"@id": "shards"}


def test_the_weights_are_signed_as_others_verify_them(model_home):
    pytest.importorskip("model_signing")
    model = model_home("model", "show", "mixed", "--json").json
    folder = model_home.home / model["folder"]
    key = model_home.write("weights.pub", _statement(folder)["weights_signature"]["public_key"])
    verify = [
        sys.executable,
        "-m",
        "model_signing",
        "verify",
        "key",
        str(folder),
        "--signature",
        str(folder / "model.sig"),
    ]
    verify += ["--public_key", str(key), "--ignore-paths", str(folder / "passport.json")]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_passport_leaves_those_that_were_given_out_valid(model_home):
    pytest.importorskip("model_signing")
    folder = model_home.home / "models" / "mixed-1"
    signed = (folder / "model.sig").read_bytes()
    model_home("passport", "write", "mixed", "--to", model_home.folder / "another.json")
    assert (folder / "model.sig").read_bytes() == signed
    assert model_home("passport", "verify", folder / "passport.json", "--json").json["result"] == "trusted"
    (folder / "model.sig").write_bytes(signed[:-10])
    model_home("passport", "write", "mixed")
    assert model_home("passport", "verify", folder / "passport.json", "--json").json["result"] == "trusted", (
        "signed again"
    )


def _statement(folder):
    import base64

    return json.loads(base64.b64decode(json.loads((folder / "passport.json").read_text())["payload"]))["predicate"]


def test_the_statement_is_full(model_home):
    model = model_home("model", "show", "mixed", "--json").json
    said = _statement(model_home.home / model["folder"])
    assert {share["lab"]: share["rows"] for share in said["shares"]} == {"rival": 3, "testlab": 4}
    assert said["revocation_checked_as_of"]
    assert said["revocations"] == []
    assert {version["id"] for version in said["terms_versions"]} >= {"licence/mit@1988-01-01"}
    assert said["compute"]["steps"] == model["steps"]
    assert said["audits"] == []
    assert any(decision["use"] == "release-weights" for decision in said["decisions"])


def test_whoever_has_the_passport_alone_can_ask_for_what_is_later_than_a_day(model_home):
    home = model_home
    model = home("model", "show", "mixed", "--json").json
    ask = ["passport", "verify", home.home / model["folder"] / "passport.json", "--home", home.folder / "nothing"]
    found = home(*ask, "--lab", "Rival", "--after", "2026-01-31", "--json").json
    assert found["later"] == {"lab": "Rival", "after": "2026-01-31", "found": []}
    later = home(*ask, "--lab", "rival", "--after", "2026-01-01", "--json", code=3).json["later"]["found"]
    assert later == ["3 rows: rival-1, 2026-01-05"]
    assert "together" in home(*ask, "--lab", "rival", code=2).err


def test_a_passport_of_after_the_revocation_says_so(home, tiny_model):
    pytest.importorskip("peft")
    home.prompts(2)
    home.add_replay(home.recording([{"task": f"t{n}", "text": f"{RIGHT} # {n}"} for n in range(2)]))
    add_local(home, tiny_model)
    import_rival(home, rows(home, "f.jsonl", 100, 2), "february", "2026-02-01")
    home("run", mixed_recipe(home, "mixed", ["february"]))
    revoke(home)
    home("passport", "write", "mixed")
    folder = home.home / home("model", "show", "mixed", "--json").json["folder"]
    said = _statement(folder)
    assert len(said["revocations_that_touch_it"]) == 1
    home("access", "revoke", "testlab", "--use", "release-weights")
    home("passport", "write", "mixed")
    assert any(
        "testlab revoked access to release-weights" in one for one in _statement(folder)["revocations_that_touch_it"]
    )
    assert not next(decision for decision in said["decisions"] if decision["use"] == "release-weights")["allowed"]
    words = ["model", "derive", "small", "--from", "mixed", "--how", "quantised", "--weights", quantised(home, folder)]
    home(*words)
    shown = home("model", "show", "small", "--json").json
    assert any(stamp["lab"] == "rival" for stamp in shown["origins"])
    home("passport", "write", "small", "--to", home.folder / "small.json")
    assert (
        "without a dataset of its own"
        in home("passport", "export", home.folder / "small.json", "--format", "croissant", "--to", "x.json", code=2).err
    )
    words = [
        "teacher",
        "add",
        "laundered",
        "--kind",
        "local",
        "--model",
        "m",
        "--lab",
        "me",
        "--channel",
        "open-weights",
    ]
    home(*words, "--terms", "licence/mit", "--weights", home.folder / "small")
    use = home.recipe("laundered", name="use.toml", dataset="again", max_tokens=4, keep=("truncated",))
    assert "revoked access" in home("collect", use, code=3).err


def quantised(home, folder):
    """Another model made of the first: the same files with one number changed, as a rounding would."""
    import shutil

    from safetensors.torch import load_file, save_file

    target = home.folder / "small"
    target.mkdir()
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    ):
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)
    tensors = load_file(folder / "model.safetensors")
    first = sorted(tensors)[0]
    tensors[first] = tensors[first].clone() * 0.5
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("form", ["cyclonedx", "spdx", "eu-summary", "model-card", "dataset-card", "croissant"])
def test_what_was_changed_is_put_into_no_other_format(model_home, form, tmp_path):
    """A duty that somebody took out of the statement would be missing there in silence."""
    path = next(model_home.folder.rglob("passport.json"))
    envelope = json.loads(path.read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["duties"] = []
    statement["predicate"]["note"] = "changed"
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    changed = tmp_path / "passport.json"
    changed.write_text(json.dumps(envelope))
    told = model_home("passport", "export", changed, "--format", form, "--to", tmp_path / "out", code=4)
    assert "was changed, or signed by another key" in told.err
    assert not (tmp_path / "out").exists()
