"""What others collected comes in with declared stamps, and its stock is taken: nobody starts from zero."""

import json

import pytest


def rows(count: int, **more):
    return "".join(
        json.dumps(
            {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}], **more}
        )
        + "\n"
        for n in range(count)
    )


def test_import_as_a_user_types_it(home):
    path = home.write("old.jsonl", rows(500, model="gpt-4o") + '{"text": "a page"}\n')
    plan = home("dataset", "import", path, "--name", "old", "--plan", "--json").json
    assert (plan["does"]["rows"], plan["does"]["labs"]) == (500, {"openai": 500})
    assert plan["does"]["skipped"] == {"of no known shape": 1}
    assert home("dataset", "list", "--json").json == [], "a plan does nothing"
    done = home("dataset", "import", path, "--name", "old", "--json").json
    assert (done["dataset"], done["rows"], done["skipped"]) == ("old@1", 500, {"of no known shape": 1})
    again = home("dataset", "import", path, "--name", "old", "--json").json
    assert again["dataset"] == "old@1", "the same again is the same"
    assert home("status", "--json").json["counts"]["answers"] == 500
    denied = home("policy", "check", "old", "--use", "train", "--json", code=3).json
    assert denied["denied"] == 500, "nobody said how it was reached"
    assert home("lineage", "show", "dataset:old@1", "--json").json
    assert home("doctor", "--json").json


def test_what_is_declared_and_allowed_can_be_used(home):
    path = home.write("own.jsonl", rows(3))
    words = [
        "--lab",
        "qwen",
        "--model",
        "qwen3",
        "--channel",
        "open-weights",
        "--terms",
        "licence/apache-2.0",
        "--day",
        "2026-01-01",
    ]
    home("dataset", "import", path, "--name", "own", "--use", "train", *words)
    assert home("policy", "check", "own", "--use", "train", "--json").json["allowed"] == 3
    assert home("dataset", "inventory", "own", "--json").json["by_lab"] == [{"what": "qwen", "rows": 3, "share": 1.0}]
    everything = home("dataset", "inventory", "--json").json
    assert (everything["rows"], everything["triage"]) == (3, [])


def test_a_declaration_that_the_rows_contradict_is_refused(home):
    said = {"choices": [{"message": {"content": "a"}}], "provider": "OpenAI", "model": "openai/gpt-4o"}
    path = home.write("raw.jsonl", json.dumps({"question": "q", "response": said}) + "\n")
    ran = home("dataset", "import", path, "--name", "raw", "--channel", "official", code=3)
    assert "came through openrouter" in ran.err
    home("dataset", "import", path, "--name", "raw")


def test_what_a_model_wrote_cannot_be_declared_human(home):
    path = home.write("old.jsonl", rows(2, model="gpt-4o"))
    words = ["--origin", "human", "--terms", "organisation/own"]
    assert "gpt-4o wrote it" in home("dataset", "import", path, "--name", "old", *words, code=3).err


def test_a_folder_with_links_that_lead_nowhere_is_imported(home):
    folder = home.folder / "corpus"
    folder.mkdir()
    (folder / "a.jsonl").write_text(rows(3))
    (folder / "b.jsonl").symlink_to(folder / "gone")
    done = home("dataset", "import", folder, "--name", "d", "--json").json
    assert (done["rows"], done["files"]["b.jsonl"]) == (3, "left out: a link that leads to no file")


def test_nothing_to_import(home):
    path = home.write("odd.jsonl", '{"text": "x"}\n')
    ran = home("dataset", "import", path, "--name", "odd", code=2)
    assert "1 rows left out: of no known shape (odd.jsonl, line 1)" in ran.err
    assert "docs/importing.md" in ran.err


def test_an_import_that_was_killed_goes_on(home):
    path = home.write("old.jsonl", rows(3000, model="gpt-4o"))
    process = home.start("dataset", "import", path, "--name", "old")
    import time

    time.sleep(1.0)
    process.kill()
    process.communicate()
    assert home("dataset", "import", path, "--name", "old", "--json").json["rows"] == 3000
    assert home("status", "--json").json["counts"]["answers"] == 3000


@pytest.mark.shared_data
@pytest.mark.slow
def test_raw_responses_of_an_intermediary(home, shared_data):
    """Real data, read five times over: 2,676 responses that name their model, and mostly the provider behind the intermediary."""
    path = shared_data / "channels" / "openrouter_responses.jsonl.gz"
    found = home("dataset", "inventory", path, "--json").json
    assert (found["rows"], found["skipped"]) == (2676, {})
    channels = {share["what"]: share["rows"] for share in found["by_channel"]}
    assert channels == {"intermediary": 2256, "cloud": 420}
    assert found["by_decision"]["train"] == [{"what": "denied", "rows": 2676, "share": 1.0}]
    providers = {share["what"]: share["rows"] for share in found["by_provider"]}
    assert providers["openrouter > Anthropic"] == 102
    assert sum(entry["rows"] for entry in found["triage"]) <= 2676
    assert found["triage"][0]["missing"]
    kept = [word for kind in ("truncated", "filtered", "failed", "empty") for word in ("--keep", kind)]
    done = home("dataset", "import", path, "--name", "speech", *kept, "--json").json
    assert done["left_out"] == {}
    assert home("dataset", "inventory", "speech", "--json").json["by_channel"] == found["by_channel"]
    whole = home("dataset", "import", path, "--name", "whole", "--json").json
    assert whole["left_out"].keys() == {"filtered", "failed", "empty"}
    assert sum(whole["left_out"].values()) == done["rows"] - whole["rows"]


def test_a_corpus_that_changes_while_it_is_imported_makes_no_dataset(home):
    """The plan is of the rows that were looked at; other rows void it."""
    from stillhouse.cli.output import LineProgress
    from stillhouse.datasets.corpora.origins import Declared
    from stillhouse.datasets.import_corpus import ImportRequest, execute_import, plan_import
    from stillhouse.errors import PlanRefused
    from stillhouse.home.open_home import open_home
    from stillhouse.home.settings import read_settings
    from stillhouse.nouns import Use

    path = home.write("old.jsonl", rows(3, model="gpt-4o"))
    with open_home(read_settings(home.home)) as app:
        request = ImportRequest(path, "old", Use.STORE, Declared())
        planned = plan_import(app, request, LineProgress())
        home.write("old.jsonl", rows(3, model="gpt-4o").replace("a1", "b1"))
        with pytest.raises(PlanRefused, match="has changed"):
            execute_import(app, request, LineProgress(), planned)
    assert home("dataset", "list", "--json").json == []
