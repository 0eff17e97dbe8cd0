"""What comes back is recognised: exported, copied and rewritten rows keep the stamps that the home knows them by."""

import json
import textwrap

import pytest
from aiohttp import web

from tests.gateways import post

WORDS = (
    "The function below walks the list once and keeps the largest value that it has met so far in a variable of its own, "
    "which it returns at the end; an empty list has no largest value, so that case raises an error that says what was wrong "
    "with the call, and nothing else is changed by it."
)
OWN = ("--origin", "human", "--terms", "organisation/own")
RIVAL = (
    "--origin",
    "teacher",
    "--lab",
    "rival",
    "--model",
    "rival-1",
    "--channel",
    "official",
    "--terms",
    "licence/mit",
)


OTHER_LAB = ("--lab", "qwen", "--channel", "open-weights", "--terms", "licence/apache-2.0")


def answers(count, topic="list"):
    return [
        {"prompt": f"Explain {topic} number {n}.", "response": f"{WORDS} This is number {n}."} for n in range(count)
    ]


def write(home, name, rows):
    return home.write(name, "".join(json.dumps(row) + "\n" for row in rows))


def bring(home, path, name, *declared, code=0, use="train"):
    return home(
        "dataset", "import", path, "--name", name, "--use", use, "--day", "2026-02-01", *declared, "--json", code=code
    )


def check(home, name):
    """How many rows may be used to train, and how many not."""
    found = home("policy", "check", name, "--use", "train", "--json", code=None).json
    return found["allowed"], found["denied"]


@pytest.fixture
def revoked(home):
    """Three answers of a rival, exported while that was allowed, and then revoked."""
    bring(home, write(home, "rival.jsonl", answers(3)), "rival", *RIVAL)
    home("dataset", "export", "rival", "out.jsonl")
    home("access", "revoke", "rival", "--reason", "their letter")
    return home


def exported(home):
    return [json.loads(line) for line in (home.folder / "out.jsonl").read_text().splitlines()]


def stripped(rows):
    return [{"messages": row["messages"]} for row in rows]


def wrapped(rows):
    return [
        {
            "prompt": row["messages"][-2]["content"].upper(),
            "response": textwrap.fill(row["messages"][-1]["content"], 30),
        }
        for row in rows
    ]


def with_a_system_text(rows):
    return [{"messages": [{"role": "system", "content": "You are somebody else."}, *row["messages"]]} for row in rows]


def under_other_keys(rows):
    return [
        {"question": row["messages"][-2]["content"], "answer": f"  {row['messages'][-1]['content']}\n\n"}
        for row in rows
    ]


def rounded(kind):
    """As a program leaves rows whose numbers have 53 bits, or that writes all as text; the words are changed so that they do not
    tell.
    """

    def change(rows):
        changed = []
        for row in rows:
            turns = [{**turn, "content": turn["content"] + " Indeed."} for turn in row["messages"]]
            changed.append(
                {
                    **row,
                    "messages": turns,
                    "stillhouse": row["stillhouse"] | {"stamps": kind(row["stillhouse"]["stamps"])},
                }
            )
        return changed

    return change


CHANGES = {
    "as it is": list, "without stamps": stripped, "reordered": lambda rows: stripped(rows[::-1]), "wrapped": wrapped,
    "another system text": with_a_system_text, "other keys": under_other_keys, "numbers as floats": rounded(float),
    "rounded": rounded(lambda number: int(float(number))), "numbers as text": rounded(str),
}  # fmt: skip


def test_a_number_that_no_set_has_is_unknown_origin(revoked):
    row = exported(revoked)[0]
    numbers = [10**400, -(10**400), 1e400, float("nan"), "9" * 5000, "x", True, [], {}, 0.5, "١"]
    rows = [{**row, "stillhouse": row["stillhouse"] | {"stamps": number}} for number in numbers]
    path = write(revoked, "back.jsonl", rows)
    plan = revoked("dataset", "import", path, "--name", "b", "--use", "train", *OWN, "--plan", "--json").json
    assert plan["does"]["recognised"]["stamps that resolve to nothing"] == len(numbers)
    assert plan["does"]["may be used to train"] == {"denied": len(numbers)}


DECLARED = [OWN, ("--origin", "licensed", "--terms", "licence/mit"), OTHER_LAB, ()]


# What is declared is joined with what is recognised, however that was: each change, and each declaration with two of them.
@pytest.mark.parametrize(
    ("change", "declared"),
    [(change, OWN) for change in CHANGES]
    + [(change, each) for change in ("as it is", "wrapped") for each in DECLARED[1:]],
)
def test_revoked_rows_are_not_washed_by_a_way_round(revoked, change, declared):
    path = write(revoked, "back.jsonl", CHANGES[change](exported(revoked)))
    plan = revoked("dataset", "import", path, "--name", "back", *declared, "--plan", "--json").json
    assert sum(plan["does"]["recognised"].values()) >= 3
    done = bring(revoked, path, "back", *declared).json
    assert done["rows"] == 0
    bring(revoked, path, "kept", *declared, use="store")
    assert check(revoked, "kept")[0] == 0


def test_what_is_allowed_comes_back_as_it_was(home):
    """Without anything declared: the home knows what it is."""
    bring(home, write(home, "rival.jsonl", answers(3)), "rival", *RIVAL)
    home("dataset", "export", "rival", "out.jsonl")
    for name, change in CHANGES.items():
        back = bring(home, write(home, "back.jsonl", change(exported(home))), name.replace(" ", "-")).json
        assert back["rows"] == 3, name
        assert check(home, name.replace(" ", "-")) == (3, 0)


def test_observed_answers_keep_their_origin_under_another_declaration(home, sandboxed):
    home.prompts(2)
    text = f"{WORDS}\n```\ndef f(x): return x + 1\n```"
    home.add_replay(home.recording([{"task": f"t{n}", "text": f"{text} # {n}"} for n in range(2)]))
    home("collect", home.recipe("recorded"))
    home("dataset", "export", "example", "out.jsonl")
    home("access", "revoke", "testlab")
    path = write(home, "back.jsonl", stripped(exported(home)))
    for declared in (OWN, ("--lab", "testlab", "--channel", "open-weights", "--terms", "licence/mit")):
        assert bring(home, path, "back", *declared).json["rows"] == 0


@pytest.mark.parametrize(
    "text", ["Yes.", "def f(x): return x + 1", "I cannot help with that.", "\n".join(f"a{n} = {n}" for n in range(12))]
)
def test_short_answers_are_anybody_s(home, text):
    bring(home, write(home, "rival.jsonl", [{"prompt": "Is it?", "response": text}]), "rival", *RIVAL)
    home("access", "revoke", "rival")
    assert (
        bring(home, write(home, "own.jsonl", [{"prompt": "Is it?", "response": text}]), "own", *OWN).json["rows"] == 1
    )


def test_an_answer_alone_is_a_finding_and_no_verdict(revoked):
    rows = [{"prompt": f"Something else, {n}?", "response": row["response"]} for n, row in enumerate(answers(3))]
    path = write(revoked, "own.jsonl", rows)
    plan = revoked("dataset", "import", path, "--name", "own", *OWN, "--plan", "--json").json
    assert plan["does"]["inferred"] == {"an answer that is known under another question": 3}
    assert bring(revoked, path, "own", *OWN).json["rows"] == 3


def test_human_text_that_a_teacher_repeats_later_stays_human(home):
    path = write(home, "own.jsonl", answers(3))
    assert bring(home, path, "own", *OWN).json["rows"] == 3
    bring(home, write(home, "rival.jsonl", answers(3)), "rival", *RIVAL, use="store")
    home("access", "revoke", "rival")
    assert bring(home, path, "again", *OWN).json["rows"] == 3
    assert check(home, "own") == (3, 0)


def test_a_declaration_is_corrected_by_another_one(home):
    """Of the same lab: what was not said, or said wrongly, in both directions."""
    path = write(home, "rows.jsonl", answers(2))
    assert bring(home, path, "d", "--lab", "rival", "--model", "rival-1").json["rows"] == 0
    assert bring(home, path, "d", *RIVAL).json["rows"] == 2
    personal = [word if word != "official" else "personal" for word in RIVAL]
    bring(home, path, "d", *personal, use="store")
    assert check(home, "d") == (0, 2), "the same rows under a stricter declaration are another version"


def test_where_there_is_a_roster_a_declaration_is_corrected_by_a_signature_alone(home):
    """Whoever imports could else open what is forbidden by saying something else of the same rows."""
    path = write(home, "rows.jsonl", answers(2))
    personal = [word if word != "official" else "personal" for word in RIVAL]
    bring(home, path, "d", *personal, use="store")
    ada = {"STILLHOUSE_KEYS": str(home.folder / "keys-ada")}
    home("identity", "enrol", "ada", "--role", "governance", **ada)
    bring(home, path, "again", *RIVAL)
    assert check(home, "again")[0] == 0
    words = [
        "--reviewer",
        "ada",
        "--evidence",
        home.write("review.txt", "It was the API."),
        "--reason",
        "wrong channel",
    ]
    home("policy", "not-a-copy", path, *words, **ada)
    bring(home, path, "corrected", *RIVAL)
    assert check(home, "corrected") == (2, 0)


def test_a_number_that_resolves_to_nothing_is_unknown(revoked):
    rows = [{**row, "stillhouse": {"stamps": 1234567}} for row in exported(revoked)]
    rows = [{**row, "messages": [*row["messages"][:-1], {"role": "assistant", "content": "Short."}]} for row in rows]
    assert bring(revoked, write(revoked, "back.jsonl", rows), "back", *OWN).json["rows"] == 0


@pytest.mark.parametrize("known", [True, False])
def test_another_home_resolves_what_an_export_carries(revoked, tmp_path_factory, known):
    """By the whole set beside the number; where the two do not belong together, nothing is believed."""
    rows = exported(revoked)
    if not known:
        for row in rows:
            row["stillhouse"]["origins"][0]["lab"] = "qwen"
    path = write(revoked, "carried.jsonl", rows)
    other = ("--home", tmp_path_factory.mktemp("other") / "home")
    revoked("init", *other)
    done = revoked("dataset", "import", path, "--name", "back", "--use", "train", *OWN, *other, "--json").json
    assert done["rows"] == (3 if known else 0)
    if known:
        labs = revoked("dataset", "inventory", "back", *other, "--json").json["by_lab"]
        assert "rival" in {share["what"] for share in labs}
        revoked("access", "revoke", "rival", *other)
        assert revoked("policy", "check", "back", "--use", "train", *other, "--json", code=3).json["denied"] == 3


def test_what_can_be_erased_is_known_while_its_key_exists(home):
    path = write(home, "rival.jsonl", answers(3))
    config = home.home / "config.toml"
    stores = [str(home.folder / "k1"), str(home.folder / "k2")]
    for store in stores:
        (home.folder / store).mkdir()
    config.write_text(config.read_text() + f"\n[custody]\nkey_stores = {json.dumps(stores)}\n")
    bring(home, path, "survey", *RIVAL, "--erasable", "survey-1")
    home("access", "revoke", "rival", "--even-if-nothing")
    plan = ["dataset", "import", path, "--name", "x", "--use", "train", *OWN, "--plan", "--json"]
    found = home(*plan).json
    assert found["does"]["recognised"] == {"question and answer": 3}
    assert not any(decision["allowed"] for decision in found["decisions"])
    home("plan", "execute", home("delete", "erase", "survey-1", "--json").json["plan"])
    assert "recognised" not in home(*plan).json["does"], "without its key nothing of it is known"


def test_a_job_finds_revoked_text_under_allowed_stamps(revoked):
    """In the process of the job: the row loader, as docs/access.md shows it."""
    import stillhouse
    from stillhouse.access.grants import stamp_gate
    from stillhouse.errors import PolicyRefusal
    from stillhouse.nouns import Use

    bring(revoked, write(revoked, "own.jsonl", answers(2, "tree")), "own", *OWN)
    revoked("dataset", "export", "own", "own-out.jsonl")
    own = [json.loads(line) for line in (revoked.folder / "own-out.jsonl").read_text().splitlines()]
    with stillhouse.open(revoked.home) as home:
        gate = stamp_gate(home, Use.TRAIN)
    assert list(gate.rows(own)) == own
    swapped = [{**row, "stillhouse": own[0]["stillhouse"]} for row in exported(revoked)]
    with pytest.raises(PolicyRefusal, match="text that may not be used"):
        list(gate.rows(swapped))
    added = [{**row, "stamps": own[0]["stillhouse"]["stamps"]} for row in exported(revoked)]
    with pytest.raises(PolicyRefusal):
        list(gate.rows(added))


def find_no_copy(home, path, *more, code=0):
    words = [
        "policy",
        "not-a-copy",
        path,
        "--reviewer",
        "ada",
        "--evidence",
        home.write("review.txt", "Compared by hand."),
    ]
    return home(*words, "--reason", "it is older", *more, "--json", code=code)


def test_a_reviewer_s_finding_lifts_the_match_of_these_rows_and_of_no_others(revoked):
    home, file = revoked, write(revoked, "old.jsonl", answers(2))
    bring(home, file, "before", *OWN)
    assert check(home, "before")[0] == 0
    assert json.loads(find_no_copy(home, file, "--plan").out)["does"]["finding"]["rows"] == 2
    bring(home, file, "planned", *OWN)
    assert check(home, "planned")[0] == 0, "a plan does nothing"
    assert find_no_copy(home, file).json["done"]
    bring(home, file, "after", *OWN)
    assert check(home, "after") == (2, 0)
    bring(home, write(home, "all.jsonl", answers(3)), "all", *OWN)
    assert check(home, "all")[0] == 2, "the third row was not looked at"
    bring(home, "out.jsonl", "export", *OWN)
    assert check(home, "export")[0] == 0, "what an export says of itself is no match of words"


def test_a_finding_needs_something_to_lift_and_something_to_rest_on(revoked):
    home = revoked
    assert "nothing is recognised" in find_no_copy(home, write(home, "new.jsonl", answers(2, "sets")), code=2).err
    words = ["policy", "not-a-copy", write(home, "old.jsonl", answers(1)), "--reviewer", "ada", "--reason", "r"]
    assert "is empty" in home(*words, "--evidence", home.write("empty.txt", " "), code=2).err
    assert "cannot be read" in home(*words, "--evidence", "none.txt", code=2).err


def test_where_there_are_two_a_finding_waits_for_the_second(revoked):
    home, file = revoked, write(revoked, "old.jsonl", answers(2))
    ada, bob = ({"STILLHOUSE_KEYS": str(home.folder / f"keys-{who}")} for who in ("ada", "bob"))
    home("identity", "enrol", "ada", "--role", "governance", **ada)
    home("identity", "request", "bob", "--to", home.folder / "bob.json", **bob)
    home("identity", "enrol", "bob", "--role", "approver", "--request", home.folder / "bob.json", **ada)
    words = [
        "policy",
        "not-a-copy",
        file,
        "--evidence",
        home.write("review.txt", "By hand."),
        "--reason",
        "older",
        "--json",
    ]
    assert "not on the roster" in home(*words, "--reviewer", "eve", code=2, **ada).err
    assert home(*words, "--reviewer", "ada", code=3, **bob)
    plan = home(*words, "--reviewer", "ada", **ada).json["plan"]
    shown = home("plan", "show", plan, "--json", **bob).json["recomputed"]
    assert (shown["rows"], shown["evidence"], shown["differs from what it says"]) == (2, "By hand.", [])
    assert shown["row 1"].startswith("The function below")
    home("plan", "approve", plan, **bob)
    home("plan", "execute", plan, **ada)
    bring(home, file, "after", *OWN)
    assert check(home, "after") == (2, 0)


def test_a_finding_is_about_what_was_known_then(revoked):
    """The same words from another lab, collected later, are looked at anew."""
    home, file = revoked, write(revoked, "old.jsonl", answers(1))
    find_no_copy(home, file)
    bring(home, file, "later", *[word if word != "rival" else "second-rival" for word in RIVAL])
    home("access", "revoke", "second-rival", "--reason", "another letter")
    bring(home, file, "again", *OWN)
    assert check(home, "again")[0] == 0


ANSWERS = {
    "/v1/chat/completions": lambda text: {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    },
    "/v1/responses": lambda text: {
        "id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}],
        "usage": {"input_tokens": 3, "output_tokens": 2},
    },
}  # fmt: skip


@pytest.mark.parametrize("endpoint", ANSWERS)
@pytest.mark.parametrize("parts", [False, True])
def test_what_a_teacher_answered_through_the_gateway_is_recognised(start, endpoint, parts):
    """No dataset was ever formed of it: a copy of the traffic is what comes back."""

    async def answer(server, body):
        return web.json_response(ANSWERS[server.request.path](WORDS))

    _, running, key = start(answer)
    content = [{"type": "input_text" if endpoint.endswith("responses") else "text", "text": "Explain the list."}]
    turns = [{"role": "user", "content": content if parts else "Explain the list."}]
    field = "input" if endpoint.endswith("responses") else "messages"
    status, _, body = post(running, key, json.dumps({"model": "m", field: turns}).encode(), endpoint)
    assert status == 200, body
    running.ended()
    home = running.cli
    home("access", "revoke", "testlab")
    path = write(home, "own.jsonl", [{"prompt": "EXPLAIN the  list.", "response": WORDS}])
    plan = home("dataset", "import", path, "--name", "own", *OWN, "--plan", "--json").json
    assert plan["does"]["recognised"] == {"question and answer": 1}
    assert bring(home, path, "own", *OWN, code=None).json["rows"] == 0


CODE = """def total(values, limit):
    result = 0
    for value in values:
        if value > limit and value % 2 == 0:
            result += value * limit
    return result
"""


def test_code_that_a_model_gave_is_a_finding_and_no_verdict(home):
    """Under other names and without the words around it; as work of a person, it stays that."""
    fenced = f"Here it is:\n\n```python\n{CODE}```\n"
    bring(home, write(home, "rival.jsonl", [{"prompt": "Add.", "response": fenced}]), "rival", *RIVAL)
    home("access", "revoke", "rival")
    renamed = CODE.replace("total", "add_up").replace("value", "x").replace("limit", "most").replace("    ", "\t")
    rows = [
        {"prompt": "Sum up.", "response": renamed},
        {"prompt": "Other.", "response": CODE.replace("> limit", "< limit")},
    ]
    path = write(home, "own.jsonl", rows)
    plan = home("dataset", "import", path, "--name", "own", *OWN, "--plan", "--json").json
    assert plan["does"]["inferred"] == {"code that models gave here, but for names and layout": 1}
    assert plan["does"]["labs of that code"] == {"rival": 1}
    done = bring(home, path, "own", *OWN)
    assert "grade inferred, not a decision" in done.err
    assert done.json["rows"] == 2
    assert check(home, "own") == (2, 0)


def turns(*texts):
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]}


def test_a_known_answer_is_recognised_in_whichever_turn_it_stands(revoked):
    """Two rows made into one conversation, one that goes on, and a history in a column beside it."""
    a, b, _ = answers(3)
    merged = turns(a["prompt"], a["response"], b["prompt"], b["response"])
    goes_on = turns(a["prompt"], a["response"], "Thanks.", "You are welcome.")
    history = {"instruction": "Thanks.", "output": "You are welcome.", "history": [[a["prompt"], a["response"]]]}
    path = write(revoked, "own.jsonl", [merged, goes_on, history])
    plan = revoked("dataset", "import", path, "--name", "own", *OWN, "--plan", "--json").json
    assert plan["does"]["recognised"] == {"question and answer": 3}
    assert bring(revoked, path, "own", *OWN).json["rows"] == 0


def test_a_known_answer_elsewhere_in_a_row_is_a_finding(revoked):
    a = answers(1)[0]
    rows = [
        {"prompt": a["response"], "response": a["prompt"]},
        {"prompt": "New.", "response": "Yes.", "reasoning": a["response"]},
    ]
    plan = revoked(
        "dataset", "import", write(revoked, "own.jsonl", rows), "--name", "own", *OWN, "--plan", "--json"
    ).json
    assert plan["does"]["inferred"] == {"an answer that is known under another question": 2}


FORMS = {
    "JSON text": lambda own: {"stillhouse": json.dumps(own)}, "a list": lambda own: {"stillhouse": [own]},
    "JSON text twice": lambda own: {"stillhouse": json.dumps([own])}, "another case": lambda own: {"Stillhouse": own},
    "columns": lambda own: {"stillhouse.stamps": own["stamps"], "stillhouse.origins": own["origins"]},
    "columns with text": lambda own: {"stillhouse_stamps": str(own["stamps"]), "stillhouse_origins": json.dumps(own["origins"])},
    "below metadata": lambda own: {"metadata": {"stillhouse": own}},
    "metadata as text": lambda own: {"metadata": json.dumps({"stillhouse": own})},
    "no number": lambda own: {"stillhouse": {**own, "stamps": None}}, "other text": lambda own: {"stillhouse": "see the log"},
}  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_the_stamps_of_an_export_stay_in_whatever_form_a_table_gives_them(home, kind):
    """Answers too short to be known by their text: only what they carry says whose they are."""
    import csv

    short = [{"prompt": f"{n}?", "response": f"It is {n}."} for n in range(2)]
    bring(home, write(home, "rival.jsonl", short), "rival", *RIVAL)
    home("dataset", "export", "rival", "out.jsonl")
    home("access", "revoke", "rival")
    own = exported(home)[0]["stillhouse"]
    for number, (name, form) in enumerate(FORMS.items()):
        row = {"prompt": "0?", "response": "It is 0.", **form(own)}
        if kind == "jsonl":
            path = write(home, f"{number}.jsonl", [row])
        else:
            path = home.folder / f"{number}.csv"
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, row)
                writer.writeheader()
                writer.writerow(
                    {key: value if isinstance(value, str | int) else json.dumps(value) for key, value in row.items()}
                )
        assert bring(home, path, f"n{number}", *OWN).json["rows"] == 0, name


@pytest.mark.parametrize("before", [(), OTHER_LAB, ("--lab", "rival")])
@pytest.mark.parametrize("roster", [False, True])
def test_an_earlier_import_hides_nothing(home, before, roster):
    """Only a person's text that came first stays a person's."""
    if roster:
        home("identity", "enrol", "ada", "--role", "governance", STILLHOUSE_KEYS=str(home.folder / "keys-ada"))
    path = write(home, "rows.jsonl", answers(3))
    bring(home, path, "first", *before, use="store")
    bring(home, path, "rival", *RIVAL, use="store")
    home("access", "revoke", "rival", **({"STILLHOUSE_KEYS": str(home.folder / "keys-ada")} if roster else {}))
    bring(home, path, "own", *OWN)
    assert check(home, "own")[0] == 0


def test_an_earlier_erasable_import_hides_nothing(home):
    for name, source, words in (("first", "s1", ()), ("rival", "s2", RIVAL)):
        bring(home, write(home, f"{name}.jsonl", answers(3)), name, *words, "--erasable", source, use="store")
    home("access", "revoke", "rival")
    bring(home, write(home, "own.jsonl", answers(3)), "own", *OWN)
    assert check(home, "own")[0] == 0


def test_stamps_of_an_export_are_corrected_by_no_declaration(revoked, tmp_path_factory):
    """Of another home, what it saw is a declaration here; but the row says it of itself."""
    rows = exported(revoked)
    path = write(revoked, "carried.jsonl", rows)
    other = ("--home", tmp_path_factory.mktemp("other") / "home")
    revoked("init", *other)
    revoked("access", "revoke", "rival", "--even-if-nothing", "--since", "2026-01-15", *other)
    declared = [word for word in RIVAL if word not in ("--origin", "teacher")]
    for name in ("one", "two"):
        words = ["dataset", "import", path, "--name", name, "--use", "train", *declared, "--day", "2025-12-01", *other]
        assert revoked(*words, "--json").json["rows"] == 0


def test_what_was_made_erasable_before_marks_changed_is_known(home, monkeypatch):
    from stillhouse.conversations import text_marks
    from stillhouse.datasets import row_marks, row_reader

    marked = row_marks.mark_row
    before = lambda row: marked(row)._replace(own=row_marks.marks_before(row.messages, row.text))  # noqa: E731
    monkeypatch.setattr(row_reader, "mark_row", before)
    bring(home, write(home, "rival.jsonl", answers(3)), "rival", *RIVAL, "--erasable", "s1", use="store")
    monkeypatch.undo()
    question = text_marks.marks_before_2026_12([("user", "Explain list number 0.")], "short")
    assert question == ("90fccf1e00936a1c3de0c435d4541435", ""), "as logs have it"
    home("access", "revoke", "rival")
    bring(home, write(home, "own.jsonl", answers(3)), "own", *OWN)
    assert check(home, "own")[0] == 0


def test_a_job_finds_revoked_text_of_which_the_log_has_no_words(home):
    import stillhouse
    from stillhouse.access.grants import stamp_gate
    from stillhouse.errors import PolicyRefusal
    from stillhouse.nouns import Use

    bring(home, write(home, "rival.jsonl", answers(2)), "rival", *RIVAL, "--erasable", "s1", use="store")
    bring(home, write(home, "own.jsonl", answers(1, "tree")), "own", *OWN)
    home("dataset", "export", "own", "own-out.jsonl")
    own = json.loads((home.folder / "own-out.jsonl").read_text())
    home("access", "revoke", "rival")
    with stillhouse.open(home.home) as opened:
        gate = stamp_gate(opened, Use.TRAIN)
    assert gate.check(own) is own
    with pytest.raises(PolicyRefusal, match="text that may not be used"):
        gate.check({**answers(2)[1], "stillhouse": own["stillhouse"]})


@pytest.mark.parametrize("erasable", [(), ("--erasable", "s1")])
def test_a_turn_of_a_known_conversation_by_itself_is_a_finding(home, erasable):
    """Somebody else may have written that turn for the model to go on from, so it is no verdict."""
    first, last = answers(2)
    turns = [{"role": role, "content": row[name]} for row in (first, last) for role, name in ASKED_AND_ANSWERED]
    bring(home, write(home, "talk.jsonl", [{"messages": turns}]), "talk", *RIVAL, *erasable, use="store")
    path = write(home, "first.jsonl", [first])
    found = home("dataset", "import", path, "--name", "own", *OWN, "--plan", "--json").json["does"]
    assert found["inferred"] == {"an answer that is known under another question": 1}
    other = write(home, "other.jsonl", [{**first, "response": " ".join(reversed(WORDS.split()))}])
    assert "inferred" not in home("dataset", "import", other, "--name", "own", *OWN, "--plan", "--json").json["does"]


ASKED_AND_ANSWERED = (("user", "prompt"), ("assistant", "response"))
