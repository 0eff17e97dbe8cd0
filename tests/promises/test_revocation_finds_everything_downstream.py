"""Promise 5: revocation finds everything downstream, through own models and their outputs too.

That it finds just what walking from record to record finds is `tests/unit/home/ledger/test_lineage_graph.py`; here is what a user
sees of it.
Not covered: what was copied out of the home without `dataset export`, and models that somebody made elsewhere and never wrote
down (`model derive`).
"""

import subprocess
import sys

import pytest

from tests.acceptance.test_access import import_rival, mixed_recipe, revoke, rows
from tests.acceptance.test_student import RIGHT, add_local


@pytest.fixture
def chain(home, tiny_model, sandboxed):
    """A rival's answers, a model of them, its student, and the student's student; exported and with passports."""
    pytest.importorskip("peft")
    home.prompts(3)
    home.add_replay(home.recording([{"task": f"t{n}", "text": f"{RIGHT} # {n}"} for n in range(3)]))
    add_local(home, tiny_model)
    import_rival(home, rows(home, "f.jsonl", 100, 2), "february", "2026-02-01")
    home("run", mixed_recipe(home, "one", ["february"]))
    train = '[train]\nstudent = "tiny"\nlearning_rate = 0.01\nepochs = 1\n'
    for name, teacher in (("two", "one@1"), ("three", "two@1")):
        recipe = home.recipe(teacher, name=f"{name}.toml", dataset=name, max_tokens=8, keep=("truncated",))
        recipe.write_text(recipe.read_text() + "verified = false\n" + train)
        home("run", recipe)
    home("dataset", "export", "three", "three-out.jsonl")
    return home


def test_it_reaches_students_of_students_and_what_they_gave(chain):
    nodes = set(chain("lineage", "impact", "dataset:february@1", "--json").json["nodes"])
    assert {"dataset:one@1", "model:one@1", "teacher:one@1", "dataset:two@1", "model:two@1", "model:three@1"} <= nodes
    assert any(node.startswith("export:") for node in nodes)
    found = revoke(chain, "--plan").json
    assert {model["model"] for model in found["models"]} == {"one@1", "two@1", "three@1"}
    assert {share["dataset"] for share in found["datasets"]} == {"february@1", "one@1", "two@1", "three@1"}
    assert any("three-out.jsonl" in export for export in found["exports"])
    assert len(found["passports"]) == 3
    assert found["records"] == 2 + 3 + 3
    revoke(chain)
    for name in ("one", "two", "three"):
        chain("access", "gate", name, code=3)
        chain("policy", "check", name, "--use", "release-weights", code=3)
    for name in ("one@1", "two@1", "three@1"):
        use = chain.recipe(name, name="again.toml", dataset="again", max_tokens=4, seed=5, keep=("truncated",))
        assert "revoked access" in chain("collect", use, code=3).err


FORGE = """
import sys
from pathlib import Path

import msgspec

from stillhouse.home import facts
import stillhouse
from stillhouse.home.ledger import origin_queries, training_queries
from stillhouse.home.recorder import now
from stillhouse.home.settings import read_settings

with stillhouse.open(sys.argv[1]) as home:
    model = training_queries.model(home.ledger, "three")
    sets = origin_queries.stamp_sets(home.ledger).items()
    clean = next(id for id, known in sets if not any(stamp.lab == "rival" for stamp in known.stamps))
    forged = msgspec.structs.replace(model, name="washed", stamps=clean, weights_digest="blake3:x", files={})
    home.recorder.record(facts.ModelTrained(at=now(), by="t", model=forged))
"""


def test_the_check_can_fail(chain):
    """Where a model did not inherit its stamps, the revocation would miss it: this is what the test above would see."""
    revoke(chain, "--plan")
    subprocess.run([sys.executable, "-c", FORGE, str(chain.home)], check=True)
    found = {model["model"] for model in revoke(chain, "--plan").json["models"]}
    assert "washed@1" not in found
    below = chain("lineage", "impact", "teacher:two@1", "--json").json
    assert "model:three@1" in below["nodes"], (
        "the graph, which was not forged, still leads to the model that it was made of"
    )
