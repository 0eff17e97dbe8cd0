"""The table, the registry and the decision."""

import csv
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import TeacherContradiction
from stillhouse.nouns import Channel, Grade, Origin, Stamp, Teacher, TeacherKind, Use
from stillhouse.policy.decide import OWN_TERMS, Organisation, decide, decide_set
from stillhouse.policy.known import check_declaration, known_host
from stillhouse.policy.registry import registry, resolve
from stillhouse.policy.table import TABLE, Rule, Verdict

ANYONE = Organisation()
NOBODY = Organisation(competes_with=(), commercial=False)
GOOD = Stamp(Origin.TEACHER, lab="x", channel=Channel.OPEN_WEIGHTS, terms=("licence/mit",), day="2026-01-01")


def with_terms(*terms: str, **more: str) -> Stamp:
    return msgspec.structs.replace(GOOD, terms=terms, channel=Channel.OFFICIAL, **more)


STAMPS = st.builds(
    Stamp,
    origin=st.sampled_from(Origin),
    lab=st.sampled_from(["", "openai", "x"]),
    channel=st.sampled_from(Channel),
    terms=st.lists(st.sampled_from([version.id for version in registry()] + [OWN_TERMS, "no/such"]), max_size=2).map(
        tuple
    ),
    day=st.sampled_from(["", "2023-01-01", "2026-11-01"]),
    purpose=st.sampled_from(["", "train", "evaluate"]),
    grade=st.sampled_from(Grade),
)


def test_the_table_is_whole():
    assert set(TABLE) == set(Verdict)
    assert all(set(row) == set(Use) for row in TABLE.values())
    assert [TABLE[Verdict.UNKNOWN][use] for use in Use] == [Rule.ALLOW] + [Rule.DENY] * 5


@given(st.lists(STAMPS, max_size=3), STAMPS, st.sampled_from(Use), st.sampled_from([ANYONE, NOBODY]))
def test_another_part_never_allows_more(stamps, more, use, organisation):
    if stamps and not decide_set(stamps, use, organisation).allowed:
        assert not decide_set([*stamps, more], use, organisation).allowed


@given(st.lists(STAMPS, min_size=1, max_size=4), st.sampled_from(Use), st.randoms())
def test_the_order_of_parts_does_not_matter(stamps, use, random):
    shuffled = stamps[:]
    random.shuffle(shuffled)
    assert decide_set(stamps, use, ANYONE).allowed == decide_set(shuffled, use, ANYONE).allowed


@given(STAMPS, st.sampled_from(Use), st.sampled_from([ANYONE, NOBODY]))
def test_every_decision_has_a_reason(stamp, use, organisation):
    assert decide(stamp, use, organisation).reason


def test_nothing_known_means_no():
    assert not decide_set([], Use.TRAIN, NOBODY).allowed
    assert not decide(with_terms("no/such"), Use.EVALUATE, NOBODY).allowed
    assert not decide(with_terms(), Use.TRAIN, NOBODY).allowed
    assert decide(with_terms(), Use.STORE, NOBODY).allowed, "evidence is kept"
    assert not decide(with_terms("DeepSeek/Terms of Service", day="2020-01-01"), Use.TRAIN, NOBODY).allowed


@pytest.mark.parametrize(
    ("channel", "use"), list(product([Channel.PERSONAL, Channel.INTERMEDIARY, Channel.UNKNOWN], list(Use)[1:]))
)
def test_personal_accounts_and_intermediaries_are_denied_whatever_the_lab_allows(channel, use):
    assert not decide(msgspec.structs.replace(GOOD, channel=channel), use, NOBODY).allowed


# Flips that were read in the archive, and pairs that only look like flips.
FLIPS = [
    ("Mistral AI/Developer Terms", "2024-02-26", Verdict.NO_COMPETING_MODEL, "2024-02-27", Verdict.CONDITIONS),
    (
        "Amazon Web Services/Terms of Service",
        "2025-11-22",
        Verdict.NO_COMPETING_MODEL,
        "2026-01-24",
        Verdict.NO_GENERATION_FOR_TRAINING,
    ),
    ("Llama API/Terms of Service", "2026-07-07", Verdict.CONDITIONS, "2026-07-08", Verdict.NO_COMPETING_MODEL),
    ("Cursor/Terms of Service", "2025-06-18", Verdict.UNCLEAR, "2025-06-19", Verdict.NO_COMPETING_MODEL),
    ("Grok/Commercial Terms", "2026-08-13", Verdict.NO_MODEL, "2026-08-14", Verdict.NO_MODEL),
]


@pytest.mark.parametrize(("terms", "before", "was", "after", "became"), FLIPS)
def test_terms_count_as_of_the_day(terms, before, was, after, became):
    assert resolve(terms, before).verdict is was
    assert resolve(terms, after).verdict is became
    assert resolve(f"{terms}@2020-01-01", after).verdict is became, "an id names the document, the day decides"


def test_a_purpose_clause_bites_at_collection():
    bedrock = "Amazon Web Services/Terms of Service"
    assert not decide(with_terms(bedrock, day="2026-06-01", purpose="train"), Use.STORE, NOBODY).allowed
    assert decide(with_terms(bedrock, day="2026-06-01", purpose="evaluate"), Use.STORE, NOBODY).allowed
    assert not decide(with_terms(bedrock, day="2026-06-01", purpose="evaluate"), Use.TRAIN, NOBODY).allowed


def test_organisation_facts_decide():
    openai = with_terms("ChatGPT/Commercial Terms", day="2026-01-01")
    assert not decide(openai, Use.TRAIN, ANYONE).allowed
    assert decide(openai, Use.TRAIN, NOBODY).allowed
    assert not decide(openai, Use.PUBLISH_DATA, NOBODY).allowed, "others would compete with it"
    licensed = with_terms("licence/cc-by-nc-4.0")
    assert decide(licensed, Use.TRAIN, NOBODY).allowed
    assert not decide(licensed, Use.TRAIN, ANYONE).allowed


def test_a_channel_is_bound_by_all_its_documents():
    assert not decide(with_terms("OpenRouter/Terms of Service"), Use.TRAIN, NOBODY).allowed, "whose model is it?"
    assert decide(with_terms("OpenRouter/Terms of Service", "licence/mit"), Use.TRAIN, NOBODY).allowed


def test_duties_add_up():
    decision = decide_set(
        [with_terms("licence/llama-3.1"), with_terms("licence/cc-by-4.0")], Use.RELEASE_WEIGHTS, ANYONE
    )
    assert decision.allowed
    assert {'display "Built with Llama"', "credit the source"} <= set(decision.duties)


def test_the_registry_is_dated_and_sourced():
    assert len(registry()) >= 12
    for version in registry():
        assert version.since and version.source and version.summary, version.id
        assert version.confidence == "read" or version.verdict is Verdict.UNCLEAR


@pytest.mark.shared_data
def test_services_are_called_as_the_archive_calls_them(shared_data):
    with (shared_data / "terms" / "index.csv").open(encoding="utf-8") as file:
        archived = {(row["service"], row["document"]) for row in csv.DictReader(file)}
    ours = {(version.service, version.document) for version in registry() if version.service != "licence"}
    assert ours <= archived


def teacher(**changes: object) -> Teacher:
    given = {"name": "t", "kind": TeacherKind.OPENAI, "model": "m", "lab": "openai", "channel": Channel.OFFICIAL}
    return Teacher(
        **{**given, "terms": ("ChatGPT/Commercial Terms",), "base_url": "https://api.openai.com/v1", **changes}
    )


def test_declarations_that_contradict_a_known_host_are_refused():
    check_declaration(teacher())
    check_declaration(teacher(channel=Channel.PERSONAL))
    check_declaration(teacher(base_url="http://127.0.0.1:8000", lab="anyone", channel=Channel.CLOUD))
    for changes in (
        {"channel": Channel.CLOUD},
        {"lab": "deepseek"},
        {"base_url": "https://openrouter.ai/api/v1"},
        {"base_url": "https://API.OpenAI.com:443/v1", "lab": "other"},
        {"base_url": "https://api.openai.com./v1", "lab": "other"},
        {"terms": ("licence/mit",)},
        {"terms": (OWN_TERMS,)},
        {"base_url": "https://openrouter.ai/api/v1", "channel": Channel.INTERMEDIARY, "terms": ("licence/mit",)},
    ):
        with pytest.raises(TeacherContradiction):
            check_declaration(teacher(**changes))
    assert known_host("https://us.aiplatform.googleapis.com").channel is Channel.CLOUD
    assert known_host("https://notopenai.com") is None


def test_declarations_that_contradict_known_weights_are_refused():
    digest = "blake3:5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3"
    local = {"kind": TeacherKind.LOCAL, "base_url": "", "weights_digest": digest, "channel": Channel.OPEN_WEIGHTS}
    check_declaration(teacher(**local, lab="huggingface", terms=("licence/apache-2.0",)))
    with pytest.raises(TeacherContradiction, match="SmolLM2"):
        check_declaration(teacher(**local, lab="me", terms=("licence/apache-2.0",)))
    with pytest.raises(TeacherContradiction, match="SmolLM2"):
        check_declaration(teacher(**local, lab="huggingface", terms=("licence/mit",)))
