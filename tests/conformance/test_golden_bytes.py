"""What is written, digested and signed stays what it was: lines that an earlier version left, read by this one.

A log entry is read for as long as there are homes; an ask whose key changes is paid for twice; an act whose statement changes
has no valid signature any more. So these lines are never changed, only added to (``tests/fixtures/golden/make.py``).
"""

import json
from pathlib import Path

import msgspec
import pytest

from stillhouse import nouns
from stillhouse.canon import canonical, digest_value, raw_digest
from stillhouse.conversations import record
from stillhouse.conversations.prompts import prompt_digest
from stillhouse.datasets.content_tree import ContentTree
from stillhouse.datasets.filter import Candidate, content_digest_before_2026_12, content_of
from stillhouse.datasets.fingerprint import code_digest
from stillhouse.home import facts
from stillhouse.home.plans.planning import plan_digest
from stillhouse.permission import acts, chain
from stillhouse.permission.signatures import is_signed
from stillhouse.permission.stamp_sets import stamp_set
from stillhouse.teachers.questions import key_of_ask, teacher_identity
from tests.fixtures.golden.make import CODE, SIGNATORY, said_of
from tests.older_homes import holds

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden"
FACTS = [json.loads(line) for line in (GOLDEN / "facts.jsonl").read_text().splitlines()]
DIGESTS = [json.loads(line) for line in (GOLDEN / "digests.jsonl").read_text().splitlines()]


def test_every_kind_of_fact_is_pinned():
    assert {line["fact"] for line in FACTS} == {kind.__struct_config__.tag for kind in facts.KINDS}


@pytest.mark.parametrize("line", FACTS, ids=lambda line: f"{line['fact']}-{len(line)}")
def test_an_entry_is_read_and_written_as_ever(line):
    again = json.loads(facts.encode(facts.decode(json.dumps(line).encode())))
    assert holds(again, line), "what was written is still there; a field that is added has a default"


def of(kind):
    return [
        pytest.param(line["value"], line["was"], id=f"{kind}{n}")
        for n, line in enumerate(DIGESTS)
        if line["of"] == kind
    ]


def read(kind, value):
    return msgspec.convert(value, kind)


@pytest.mark.parametrize("value,was", of("act"))
def test_an_act_is_stated_as_ever(value, was):
    stated = chain.statement(read(acts.act_called(value["tag"]).content, value["content"]), "plan", "previous")
    assert digest_value(stated) == was["digest"]
    signature = read(nouns.Signature, was["signature"])
    assert is_signed(SIGNATORY.signer.public, chain.KIND, stated, signature)
    assert not is_signed(SIGNATORY.signer.public, chain.KIND, [*stated[:-1], "another"], signature)


def test_every_kind_of_act_is_pinned():
    pinned = {line["value"]["tag"] for line in DIGESTS if line["of"] == "act"}
    assert pinned == {act.tag for act in acts.ACTS}


@pytest.mark.parametrize("value,was", of("plan"))
def test_the_digest_of_a_plan(value, was):
    assert plan_digest(read(nouns.Plan, value["plan"])) == was["digest"]


@pytest.mark.parametrize("value,was", of("conversation"))
def test_a_conversation_is_written_and_digested_as_ever(value, was):
    assert said_of(record.decode(value["bytes"].encode())) == was


@pytest.mark.parametrize("value,was", of("ask"))
def test_an_answer_that_was_paid_for_is_found_again(value, was):
    identity = teacher_identity(read(nouns.Teacher, value["teacher"]))
    prompt = prompt_digest(read(tuple[nouns.Message, ...], value["messages"]))
    parameters = read(nouns.Parameters, value["parameters"])
    assert (identity, prompt) == (was["identity"], was["prompt"])
    assert key_of_ask(identity, prompt, parameters, value["sample"]) == was["key"]


@pytest.mark.parametrize("value,was", of("stamps"))
def test_stamps_keep_their_identity(value, was):
    interned = stamp_set(read(tuple[nouns.Stamp, ...], value["stamps"]))
    assert (interned.digest, str(interned.id)) == (was["digest"], was["id"])


@pytest.mark.parametrize("value,was", of("row"))
def test_rows_keep_their_content(value, was):
    task, verdict = read(nouns.Task, value["task"]), read(nouns.Verdict, value["verdict"])
    row = Candidate("key", task, 0, value["text"], value["code"], "stop", 1, verdict, value["reasoning"])
    assert content_digest_before_2026_12([row]) == was["content"]
    assert code_digest(CODE) == code_digest(value["code"]) == was["code"]


def rows_digest(rows):
    tree = ContentTree()
    for row in rows:
        tree.add(raw_digest(content_of(row)))
    return tree.root()


@pytest.mark.parametrize("value,was", of("content"))
def test_rows_keep_their_digests_and_so_do_datasets(value, was):
    task, verdict = read(nouns.Task, value["task"]), read(nouns.Verdict, value["verdict"])
    row = Candidate("key", task, 0, value["text"], value["code"], "stop", 1, verdict, value["reasoning"])
    assert content_of(row) == was["row"]
    assert rows_digest([row]) == was["rows"]


def test_canonical_json():
    value = {"é": [1.0, 1e21, -0.0, 2**53 - 1, True, None], "a": '"\\\n\u2028', "A": {}}
    assert canonical(value) == '{"A":{},"a":"\\"\\\\\\n\u2028","é":[1,1e+21,0,9007199254740991,true,null]}'.encode()
