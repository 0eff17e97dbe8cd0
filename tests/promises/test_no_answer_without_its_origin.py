"""Promise 3. Every record carries a provenance stamp.

Not covered yet: the gateway, which is not built.
"""

import msgspec

from stillhouse.app import open_app
from stillhouse.ledger import queries
from stillhouse.settings.home import read_settings
from stillhouse.teachers.register import account_fingerprint


def test_every_answer_says_where_it_comes_from(home, serve):
    home.add_mock(serve().url, "mock", "--unmetered", "--key-env", "MOCK_KEY")
    home.prompts(3)
    home("run", home.recipe(samples=2), MOCK_KEY="sk-abc")
    with open_app(read_settings(home.home)) as app:
        sets = queries.stamp_sets(app.ledger)
        keys = [row.key for row in queries.placements(app.ledger, "example@1")]
        answers = queries.answers(app.ledger, keys)
    assert len(answers) == 6
    for answer in answers.values():
        teacher, prompt = (
            sets[answer.stamps].stamps
            if sets[answer.stamps].stamps[0].origin == "teacher"
            else sets[answer.stamps].stamps[::-1]
        )
        assert (teacher.origin, teacher.lab, teacher.model, teacher.channel) == (
            "teacher",
            "testlab",
            "m",
            "open-weights",
        )
        assert (teacher.terms, teacher.purpose, teacher.grade) == (("licence/apache-2.0",), "train", "declared")
        assert teacher.account == account_fingerprint("sk-abc")
        assert teacher.day == prompt.day
        assert prompt.origin == "prompt seed"


def test_a_stamp_set_is_in_the_log_before_the_first_entry_that_names_it(home, serve):
    home.add_mock(serve().url)
    home.prompts(1)
    home("run", home.recipe())
    with open_app(read_settings(home.home)) as app:
        kinds = [
            msgspec.json.decode(entry.payload)["fact"] for writer in app.log.writers() for entry in app.log.read(writer)
        ]
    assert kinds.index("stamps-seen") < kinds.index("asked") < kinds.index("answered")
    assert kinds.index("prompt-seen") < kinds.index("asked")


def test_lineage_reaches_from_teacher_to_dataset_and_back(home, serve):
    home.add_mock(serve().url)
    home.prompts(2)
    home("run", home.recipe(samples=2))
    down = home("lineage", "impact", "teacher:mock", "--json").json
    assert "dataset:example@1" in down["nodes"]
    assert down["records"] == 4
    up = home("lineage", "show", "dataset:example@1", "--json").json
    assert {edge["parent"] for edge in up} >= {"teacher:mock", "prompts:prompts.jsonl"}
