"""The table, the registry and the decision."""

import csv
import gzip
import hashlib
import itertools
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import TeacherContradiction, TermsError
from stillhouse.nouns import AccessChange, Channel, Grade, Origin, Stamp, Teacher, TeacherKind, Use
from stillhouse.permission.decide import OWN_TERMS, Door, Organisation, Policy
from stillhouse.permission.known_hosts import known_host
from stillhouse.permission.known_names import labs_in
from stillhouse.permission.known_origins import check_declaration
from stillhouse.permission.terms_registry import Registry, TermsVersion, parse_versions, shipped
from stillhouse.permission.verdict_table import TABLE, Cell, TermsVerdict

ANYONE = Policy(Organisation())
NOBODY = Policy(Organisation(competes_with=(), commercial=False))
GOOD = Stamp(Origin.TEACHER, lab="x", channel=Channel.OPEN_WEIGHTS, terms=("licence/mit",), day="2026-01-01")


def with_terms(*terms: str, **more: str) -> Stamp:
    return msgspec.structs.replace(GOOD, terms=terms, channel=Channel.OFFICIAL, **more)


STAMPS = st.builds(
    Stamp,
    origin=st.sampled_from(Origin),
    lab=st.sampled_from(["", "openai", "x"]),
    channel=st.sampled_from(Channel),
    terms=st.lists(
        st.sampled_from([version.id for version in shipped().versions] + [OWN_TERMS, "no/such"]), max_size=2
    ).map(tuple),
    day=st.sampled_from(["", "2023-01-01", "2026-11-01"]),
    purpose=st.sampled_from(["", "train", "evaluate"]),
    grade=st.sampled_from(Grade),
)


def test_the_table_is_whole():
    assert set(TABLE) == set(TermsVerdict)
    assert all(set(row) == set(Use) for row in TABLE.values())
    assert [TABLE[TermsVerdict.UNKNOWN][use] for use in Use] == [Cell.ALLOW] + [Cell.DENY] * 5


@given(st.lists(STAMPS, max_size=3), STAMPS, st.sampled_from(Use), st.sampled_from([ANYONE, NOBODY]))
def test_another_part_never_allows_more(stamps, more, use, policy):
    if stamps and not policy.check(Door.USE, stamps, use).allowed:
        assert not policy.check(Door.USE, [*stamps, more], use).allowed


@given(st.lists(STAMPS, min_size=1, max_size=4), st.sampled_from(Use), st.randoms())
def test_the_order_of_parts_does_not_matter(stamps, use, random):
    shuffled = stamps[:]
    random.shuffle(shuffled)
    assert ANYONE.check(Door.USE, stamps, use).allowed == ANYONE.check(Door.USE, shuffled, use).allowed


@given(STAMPS, st.sampled_from(Use), st.sampled_from([ANYONE, NOBODY]))
def test_every_decision_has_a_reason(stamp, use, policy):
    assert policy.check(Door.USE, [stamp], use).reason


def test_nothing_known_means_no():
    assert not NOBODY.check(Door.USE, [], Use.TRAIN).allowed
    assert not NOBODY.check(Door.USE, [with_terms("no/such")], Use.EVALUATE).allowed
    assert not NOBODY.check(Door.USE, [with_terms()], Use.TRAIN).allowed
    assert NOBODY.check(Door.USE, [with_terms()], Use.STORE).allowed, "evidence is kept"
    assert not NOBODY.check(Door.USE, [with_terms("DeepSeek/Terms of Service", day="2020-01-01")], Use.TRAIN).allowed


@pytest.mark.parametrize(
    ("channel", "use"), list(product([Channel.PERSONAL, Channel.INTERMEDIARY, Channel.UNKNOWN], list(Use)[1:]))
)
def test_personal_accounts_and_intermediaries_are_denied_whatever_the_lab_allows(channel, use):
    assert not NOBODY.check(Door.USE, [msgspec.structs.replace(GOOD, channel=channel)], use).allowed


# Flips that were read in the archive, and pairs that only look like flips: document, day before, verdict, day after, verdict.
FLIPS = [
    ("Mistral AI/Developer Terms", "2024-02-26", "no-competing-model", "2024-02-28", "allow"),
    ("Mistral AI/Terms of Service", "2024-02-08", "no-competing-model", "2024-02-28", "allow"),
    (
        "Amazon Web Services/Terms of Service",
        "2025-11-22",
        "no-competing-model",
        "2026-01-24",
        "no-generation-for-training",
    ),
    ("Llama API/Terms of Service", "2025-11-13", "conditions", "2026-07-08", "no-competing-model"),
    ("Cursor/Terms of Service", "2025-02-18", "unclear", "2025-06-19", "no-competing-model"),
    ("Grok/Terms of Service", "2024-02-01", "unclear", "2025-08-01", "no-model"),
    ("Grok/Acceptable Use Policy", "2025-11-11", "unclear", "2026-07-08", "no-model"),
    # The wording was widened ("any other AI service", "any AI technology"), and both forbid all training.
    ("Microsoft/Terms of Service", "2025-09-29", "no-model", "2025-09-30", "no-model"),
]
NOT_FLIPS = [
    ("Claude.ai/Acceptable Use Policy", "2025-08-01", "2025-09-15", "no-model"),
    ("Grok/Commercial Terms", "2025-11-11", "2026-08-14", "no-model"),
    ("Google Generative AI Services/Terms of Service", "2025-11-11", "2026-08-03", "no-model"),
    ("ChatGPT/Commercial Terms", "2025-07-31", "2026-08-22", "no-competing-model"),
    # The page flickered out of capture between these days, and came back as it was.
    ("Llama API/Terms of Service", "2025-11-14", "2025-11-26", "conditions"),
]


def verdicts(terms: str, day: str) -> set[str]:
    return {str(version.verdict) for version in shipped().governing(terms, day)}


@pytest.mark.parametrize(("terms", "before", "was", "after", "became"), FLIPS)
def test_terms_count_as_of_the_day(terms, before, was, after, became):
    assert verdicts(terms, before) == {was}
    assert verdicts(terms, after) == {became}
    assert verdicts(f"{terms}@2020-01-01", after) == {became}, "an id names the document, the day decides"


@pytest.mark.parametrize(("terms", "before", "after", "verdict"), NOT_FLIPS)
def test_another_wording_is_no_flip(terms, before, after, verdict):
    assert verdicts(terms, before) == verdicts(terms, after) == {verdict}


def test_a_document_may_treat_uses_differently():
    openai = with_terms("ChatGPT/Commercial Terms", day="2026-01-01", lab="openai")
    assert ANYONE.check(Door.USE, [openai], Use.TRAIN_INTERNAL_CLASSIFIER).allowed
    assert not ANYONE.check(Door.USE, [openai], Use.TRAIN).allowed
    grok = with_terms("Grok/Commercial Terms", day="2025-09-01", lab="xai")
    assert not ANYONE.check(Door.USE, [grok], Use.EVALUATE).allowed, "all benchmarking was barred then"


def version(verdict: str, since: str = "2026-01-01", **more: object) -> TermsVersion:
    given = {"service": "s", "document": "d", "summary": "x", "source": "x", "effective": since}
    return TermsVersion(**{**given, "verdict": TermsVerdict(verdict), **more})


def policy_of(*versions: TermsVersion, **organisation: object) -> Policy:
    return Policy(Organisation(competes_with=(), commercial=False, **organisation), Registry(versions))


def test_in_a_gap_the_stricter_decides():
    seen = {"effective": "", "observed": "2026-01-01", "last_seen": "2026-01-10"}
    old = version("allow", **seen)
    later = version("no-model", effective="", observed="2026-02-01")
    dated = version("no-model", effective="2026-02-01", observed="2026-02-03")
    for new, allowed in ((later, False), (dated, True)):
        policy = policy_of(old, new)
        assert policy.check(Door.USE, [with_terms("s/d", day="2026-01-10")], Use.TRAIN).allowed
        assert policy.check(Door.USE, [with_terms("s/d", day="2026-01-20")], Use.TRAIN).allowed is allowed
        assert not policy.check(Door.USE, [with_terms("s/d", day="2026-02-05")], Use.TRAIN).allowed


def test_of_two_terms_of_one_day_the_stricter_decides_and_it_is_said():
    policy = policy_of(version("allow"), version("no-model"))
    assert not policy.check(Door.USE, [with_terms("s/d", day="2026-03-01")], Use.TRAIN).allowed
    assert policy.registry.contradictions() == ("s/d@2026-01-01: allow and no-model",)
    assert not shipped().contradictions()


def test_thresholds_and_regions_are_facts_of_the_organisation():
    display = version("allow", thresholds=({"users": 100, "duty": "show it"},), excluded_regions=("EU",))
    display = msgspec.convert(msgspec.to_builtins(display), TermsVersion)
    stamp = with_terms("s/d", day="2026-03-01")
    assert policy_of(display).check(Door.USE, [stamp], Use.TRAIN).duties == ("show it",), "not known: it counts"
    assert policy_of(display, monthly_users=100).check(Door.USE, [stamp], Use.TRAIN).duties == ()
    assert policy_of(display, monthly_users=101).check(Door.USE, [stamp], Use.TRAIN).duties == ("show it",)
    assert not policy_of(display, regions=("EU",)).check(Door.USE, [stamp], Use.TRAIN).allowed
    assert not policy_of(display).check(Door.USE, [msgspec.structs.replace(stamp, region="EU")], Use.TRAIN).allowed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('effective = "01.02.2026"', "not a date"),
        ('observed = "2026-02-01"\nlast_seen = "2026-01-01"', "last seen before"),
        ('effective = "2026-02-01"\nverdikt = "allow"', "unknown field"),
        ("", "has no date"),
        ('observed = "2026-02-01"\nconfidence = "unread"', "draft that was not read"),
    ],
)
def test_entries_that_cannot_be_meant_are_refused(text, said):
    entry = f'[[version]]\nservice = "s"\ndocument = "d"\nverdict = "allow"\nsummary = "x"\nsource = "x"\n{text}\n'
    with pytest.raises(TermsError, match=said):
        parse_versions(entry, "mine.toml")


def test_a_purpose_clause_bites_at_collection():
    bedrock = "Amazon Web Services/Terms of Service"
    assert not NOBODY.check(Door.USE, [with_terms(bedrock, day="2026-06-01", purpose="train")], Use.STORE).allowed
    assert NOBODY.check(Door.USE, [with_terms(bedrock, day="2026-06-01", purpose="evaluate")], Use.STORE).allowed
    assert not NOBODY.check(Door.USE, [with_terms(bedrock, day="2026-06-01", purpose="evaluate")], Use.TRAIN).allowed


def test_organisation_facts_decide():
    openai = with_terms("ChatGPT/Commercial Terms", day="2026-01-01")
    assert not ANYONE.check(Door.USE, [openai], Use.TRAIN).allowed
    assert NOBODY.check(Door.USE, [openai], Use.TRAIN).allowed
    assert not NOBODY.check(Door.USE, [openai], Use.PUBLISH_DATA).allowed, "others would compete with it"
    licensed = with_terms("licence/cc-by-nc-4.0")
    assert NOBODY.check(Door.USE, [licensed], Use.TRAIN).allowed
    assert not ANYONE.check(Door.USE, [licensed], Use.TRAIN).allowed


def test_a_channel_is_bound_by_all_its_documents():
    assert not NOBODY.check(Door.USE, [with_terms("OpenRouter/Terms of Service")], Use.TRAIN).allowed, (
        "whose model is it?"
    )
    assert NOBODY.check(Door.USE, [with_terms("OpenRouter/Terms of Service", "licence/mit")], Use.TRAIN).allowed


def test_duties_add_up():
    decision = ANYONE.check(
        Door.USE, [with_terms("licence/llama-3.1"), with_terms("licence/cc-by-4.0")], Use.RELEASE_WEIGHTS
    )
    assert decision.allowed
    assert {'display "Built with Llama"', "credit the source"} <= set(decision.duties)


def test_the_registry_is_dated_and_sourced():
    versions = shipped().versions
    assert len(versions) >= 120
    for known in versions:
        assert known.since and known.source and known.summary, known.id
        if known.confidence in ("recollected", "seen in part"):
            assert known.verdict is TermsVerdict.UNCLEAR, known.id
        assert len(known.summary) <= 240, "in our own words, and few of them"


@pytest.mark.shared_data
def test_every_archived_document_is_read_and_its_spans_are_where_they_are_said_to_be(shared_data):
    with (shared_data / "terms" / "index.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    archived = {(row["service"], row["document"]) for row in rows}
    first_seen: dict[str, str] = {}
    for row in rows:
        if row["text"]:
            first_seen.setdefault(row["service"] + row["document"] + row["text"], row["observed_at"][:10])
    read = [known for known in shipped().versions if known.text]
    # A text for some region alone is a document of its own here, and a capture of the same page in the archive.
    assert {(known.service, known.document.partition(" (")[0]) for known in read} == archived
    for known in read:
        text = gzip.decompress((shared_data / "terms" / "texts" / f"{known.text}.md.gz").read_bytes()).decode()
        assert hashlib.sha256(text.encode()).hexdigest().startswith(known.text)
        start, end = known.span
        passage = text[start:end]
        assert f"sha256:{hashlib.sha256(passage.encode()).hexdigest()}" == known.span_digest, known.id
        assert first_seen[known.service + known.document.partition(" (")[0] + known.text] == known.observed, known.id
        words = known.summary.lower().split()
        runs = {" ".join(words[place : place + 12]) for place in range(len(words) - 11)}
        assert not any(run in " ".join(text.lower().split()) for run in runs), "our own words, never the text"


@pytest.mark.shared_data
def test_no_version_was_last_seen_after_the_next_one_began(shared_data):
    """What was last seen is by its own date, and not by the page."""
    by_document: dict[tuple[str, str], list[TermsVersion]] = {}
    for known in shipped().versions:
        if known.effective and known.last_seen:
            by_document.setdefault((known.service, known.document), []).append(known)
    for versions in by_document.values():
        for before, after in itertools.pairwise(sorted(versions, key=lambda known: known.effective)):
            assert before.last_seen <= after.last_seen, (before.id, after.id)


def test_texts_for_regions_are_no_versions_of_one_another():
    europe = list(shipped().of("ChatGPT/Terms of Service (Europe)"))
    assert [known.effective for known in europe] == [
        "2024-02-15",
        "2024-10-23",
        "2024-12-11",
        "2025-04-29",
        "2026-01-16",
    ]
    assert [known.effective for known in shipped().of("ChatGPT/Terms of Service")] == ["2024-01-31"]


# From the mildest to the strictest, as far as readings differ.
STRICTNESS = (
    "allow",
    "conditions",
    "upstream",
    "unclear",
    "non-commercial",
    "no-competing-model",
    "no-model",
    "forbidden",
)


def test_where_readers_differ_the_stricter_counts():
    differing = 0
    for known in shipped().versions:
        if known.confidence == "seen in part":
            continue  # whatever the parts say, it is unclear
        verdicts = [said.partition(" ")[0].strip(";,") for said in known.readings]
        verdicts = [verdict for verdict in verdicts if verdict in STRICTNESS]
        if len(verdicts) == 2:
            assert STRICTNESS.index(str(known.verdict)) >= max(map(STRICTNESS.index, verdicts)), known.id
            differing += verdicts[0] != verdicts[1]
            assert known.confidence == "doubtful" or verdicts[0] == verdicts[1], known.id
    assert differing >= 3


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


def revoked(lab, *stamps, **more):
    change = AccessChange(id="c", kind="revoke", lab=lab, **more)
    return [
        Policy(Organisation(competes_with=()), changes=(change,)).revoked_by(stamp, Use.TRAIN) is not None
        for stamp in stamps
    ]


def answer(lab="x", model="m", channel=Channel.OFFICIAL, day="2026-02-01", **more):
    return Stamp(Origin.TEACHER, lab, model, channel, terms=("licence/mit",), day=day, **more)


@pytest.mark.parametrize(
    "stamp",
    [
        answer("anthropic"),
        answer("Anthropic"),
        answer("amazon", "anthropic.claude-3-5-sonnet-20240620-v1:0"),
        answer("amazon", "us.anthropic.claude-sonnet-4"),
        answer("google", "publishers/anthropic/models/claude-3"),
        answer("acme", "claude-3-opus"),
        answer("acme", "reseller/claude-3-opus"),
        answer("databricks", "databricks-claude-sonnet-4"),
        answer("sap", "anthropic--claude-3.5-sonnet"),
        answer("anthropic", day=""),
        answer("anthropic", day="2026"),
    ],
)
def test_a_revocation_is_not_evaded_by_spelling_hosts_or_days(stamp):
    assert revoked("Anthropic", stamp, since="2026-01-15") == [True]


def test_a_revoked_model_is_found_under_its_other_names_and_no_other_model_is():
    names = ["gpt-4o", "GPT-4o", "openai/gpt-4o", "gpt-4o-2024-08-06", "azure/openai/gpt-4o"]
    names += ["gpt-4o:free", "", "blake3:" + "0" * 64]  # of which version, or which it is at all, nobody knows
    others = ["gpt-4o-mini", "gpt-4", "o1"]
    stamps = [answer("openai", name) for name in (*names, *others)]
    for wanted in ("gpt-4o", "openai/gpt-4o"):
        assert revoked("openai", *stamps, models=(wanted,)) == [True] * len(names) + [False] * len(others)
    assert revoked("anthropic", answer("x", "anthropic.claude-3.5-sonnet"), models=("claude-3.5-sonnet",)) == [True]


def test_names_that_begin_like_a_lab_s_are_not_all_its_own():
    assert labs_in("EleutherAI/gpt-neo-2.7B") == {"eleutherai"}
    assert labs_in("acme/llamafile") == {"acme"}
    assert "openai" not in labs_in("o100-mini")
    assert "xai" not in labs_in("grokking-model")
    assert labs_in("DeepSeek-R1-Distill-Qwen-7B") == {"deepseek", "qwen"}
    assert revoked("cohere", answer("openrouter", "cohere/command-r")) == [True], (
        "a lab that this version does not know"
    )


def test_what_nobody_knows_counts_where_access_was_revoked():
    assert revoked("x", answer(account="a1"), answer(account="a2"), answer(), accounts=("a1",)) == [True, False, True]
    assert revoked("x", answer(channel=Channel.UNKNOWN), channels=(Channel.CLOUD,)) == [True]


def policy_after(*changes):
    return Policy(Organisation(competes_with=()), changes=changes)


def test_a_grant_of_one_lab_lifts_no_revocation_of_another():
    revocation = AccessChange(id="1", kind="revoke", lab="acme")
    grant = AccessChange(id="2", kind="grant", lab="openai", verdict="allow", document="d")
    through = answer("acme", "gpt-4o")
    assert not policy_after(revocation, grant).check(Door.USE, [through], Use.TRAIN).allowed
    banned = msgspec.structs.replace(through, terms=("Grok/Commercial Terms",))
    assert not policy_after(grant).check(Door.USE, [banned], Use.TRAIN).allowed, (
        "an agreement with one lab is none with another"
    )


def test_a_reversal_does_nothing_else_and_can_be_reversed():
    first = AccessChange(id="1", kind="revoke", lab="x")
    undo = AccessChange(id="2", kind="revoke", lab="x", reverses="1")
    redo = AccessChange(id="3", kind="grant", lab="x", reverses="2")
    other = AccessChange(id="4", kind="revoke", lab="x", models=("n",))
    allowed = [
        policy_after(*c).check(Door.USE, [answer()], Use.TRAIN).allowed
        for c in ((first,), (first, undo), (first, undo, redo))
    ]
    assert allowed == [False, True, False]
    assert (
        not policy_after(first, other, AccessChange(id="5", kind="grant", lab="x", reverses="4"))
        .check(Door.USE, [answer()], Use.TRAIN)
        .allowed
    )


def test_without_a_day_or_a_lab_the_strictest_decides():
    undated = with_terms("Grok/Terms of Service", day="", lab="xai")
    assert not NOBODY.check(Door.USE, [undated], Use.TRAIN).allowed, "an early version was unclear"
    nameless = with_terms("ChatGPT/Terms of Service", day="2026-01-01", lab="")
    assert not Policy(Organisation(competes_with=("openai",))).check(Door.USE, [nameless], Use.TRAIN).allowed


def test_what_is_revoked_stands_in_no_dataset_not_even_to_be_stored():
    policy = policy_after(AccessChange(id="1", kind="revoke", lab="x", exempt=(Use.EVALUATE,)))
    assert policy.check(Door.USE, [answer()], Use.STORE).allowed, "as evidence it is kept"
    assert not policy.check(Door.KEEP, [answer()], Use.STORE).allowed
    assert policy.check(Door.KEEP, [answer()], Use.EVALUATE).allowed


def test_what_a_document_makes_part_of_itself_binds_too():
    """Commercial terms that say nothing of a model that does not compete, and a use policy that they incorporate."""
    both = [
        TermsVersion(service="s", document="terms", verdict=TermsVerdict.NO_COMPETING_MODEL, summary="x", source="x",
                     effective="2026-01-01", incorporates=("s/policy", "s/terms")),
        TermsVersion(service="s", document="policy", verdict=TermsVerdict.NO_MODEL, summary="x", source="x",
                     effective="2026-02-01", incorporates=("s/terms",)),
    ]  # fmt: skip
    policy = Policy(Organisation(competes_with=()), Registry(both))
    for day, allowed in (("2026-01-15", False), ("2026-02-15", False)):
        decision = policy.check(Door.USE, [with_terms("s/terms", day=day)], Use.TRAIN)
        assert decision.allowed is allowed, "before the policy was seen nothing is known of it"
    assert (
        "s/policy@2026-02-01" in policy.check(Door.USE, [with_terms("s/terms", day="2026-02-15")], Use.TRAIN).citations
    )
    alone = Policy(Organisation(competes_with=()), Registry([msgspec.structs.replace(both[0], incorporates=())]))
    assert alone.check(Door.USE, [with_terms("s/terms", day="2026-02-15")], Use.TRAIN).allowed


def test_anthropics_commercial_terms_bring_its_usage_policy():
    stamp = with_terms("Claude.ai/Commercial Terms", day="2026-01-10")
    assert not NOBODY.check(Door.USE, [stamp], Use.TRAIN).allowed, "whoever it competes with"


@pytest.mark.parametrize(
    ("competes", "allowed"), [((), True), (("amazon",), False), (("meta",), False), (("x",), True)]
)
def test_competition_counts_with_the_lab_and_with_the_owner_of_the_service(competes, allowed):
    terms = ("Amazon Web Services/Terms of Service", "licence/llama-3.3")
    stamp = msgspec.structs.replace(with_terms(*terms, day="2025-08-01"), lab="meta")
    found = Policy(Organisation(competes_with=competes)).check(Door.USE, [stamp], Use.TRAIN)
    assert found.allowed is allowed, found.reason


@pytest.mark.parametrize(
    ("day", "stale"), [("2026-03-01", False), ("2026-04-01", False), ("2026-04-02", True), ("", True)]
)
def test_a_document_that_was_not_seen_for_long_is_said_to_be_stale(day, stale):
    version = TermsVersion(service="s", document="d", verdict=TermsVerdict.ALLOW, summary="x", source="x",
                           observed="2026-01-01", last_seen="2026-01-01")  # fmt: skip
    policy = Policy(Organisation(), Registry([version]), today="2026-11-29")
    decision = policy.check(Door.USE, [with_terms("s/d", day=day)], Use.TRAIN)
    assert ("stale: last seen on 2026-01-01" in decision.reason) is stale
    licence = msgspec.structs.replace(version, service="licence")
    assert (
        "stale"
        not in Policy(Organisation(), Registry([licence])).check(Door.USE, [with_terms("licence/d")], Use.TRAIN).reason
    )


def _trains(terms: str, day: str, organisation: Organisation, lab: str = "lg") -> bool:
    stamp = Stamp(Origin.TEACHER, lab, "m", Channel.OPEN_WEIGHTS, terms=(terms,), day=day)
    return Policy(organisation=organisation).check(Door.USE, (stamp,), Use.TRAIN).allowed


def test_two_limits_of_one_licence_both_count():
    """EXAONE 1.2: not commercial, and no competing models."""
    apart = Organisation(competes_with=("openai",), commercial=False)
    assert _trains("licence/exaone-1.2-nc", "2026-01-01", apart)
    assert not _trains("licence/exaone-1.2-nc", "2026-01-01", msgspec.structs.replace(apart, commercial=True))
    assert not _trains("licence/exaone-1.2-nc", "2026-01-01", msgspec.structs.replace(apart, competes_with=("lg",)))


@pytest.mark.parametrize(
    ("terms", "day", "verdict"),
    [
        ("Google Gemini API/Additional Terms", "2024-11-01", "unclear"),
        ("Google Gemini API/Additional Terms", "2023-10-01", "unclear"),
        ("Kimi OpenPlatform/Terms of Service", "2025-06-01", "no-competing-model"),
        ("Z.ai/Terms of Use", "2026-01-01", "no-model"),
        ("Groq/Services Agreement", "2026-01-01", "no-competing-model"),
        ("licence/gemma", "2025-06-01", "conditions"), ("licence/grok-2", "2026-01-01", "no-model"),
        ("licence/qwen-research", "2025-01-01", "non-commercial"), ("licence/mistral-research", "2025-01-01", "non-commercial"),
        ("licence/nvidia-nemotron-open-model", "2026-01-01", "allow"),
    ],
)  # fmt: skip
def test_what_was_missing_is_known_now(terms, day, verdict):
    assert {str(version.verdict) for version in shipped().governing(terms, day)} == {verdict}


@pytest.mark.parametrize(
    ("revoked", "terms", "provider"),
    [
        ("aws", "Amazon Web Services/Terms of Service", ""), ("amazon", "Amazon Web Services/Terms of Service", ""),
        ("groq", "Groq/Services Agreement", ""), ("openrouter", "OpenRouter/Terms of Service", ""),
        ("openrouter", "licence/mit", "openrouter > deepinfra"), ("deepinfra", "licence/mit", "openrouter > deepinfra"),
        ("azure", "Azure/Product Terms", ""), ("microsoft", "Azure/Product Terms", ""), ("github", "GitHub/Terms of Service", ""),
    ],
)  # fmt: skip
def test_who_offers_a_service_can_take_it_away(revoked, terms, provider):
    """Whose the model is makes no difference then: nothing more can be asked there."""
    stamp = Stamp(
        Origin.TEACHER, "deepseek", "deepseek-v3", Channel.CLOUD, terms=(terms,), day="2026-02-01", provider=provider
    )
    change = AccessChange(id="c", kind="revoke", lab=revoked, since="2026-01-01")
    assert Policy(changes=(change,)).revoked_by(stamp, Use.TRAIN) == change
    others = msgspec.structs.replace(stamp, terms=("licence/mit",), provider="", channel=Channel.OPEN_WEIGHTS)
    assert Policy(changes=(change,)).revoked_by(others, Use.TRAIN) is None


CLOSED_UNDER_OTHERS = [
    ("gpt-4o", "openai", Channel.OFFICIAL, ("DeepSeek/Terms of Service",)),
    ("claude-4-sonnet", "anthropic", Channel.CLOUD, ("Replicate/Terms of Service", "licence/apache-2.0")),
    ("claude-sonnet-4", "anthropic", Channel.CLOUD, ("Hugging Face/Inference Providers", "licence/mit")),
    ("gpt-4o", "openai", Channel.OFFICIAL, ("ChatGPT/Commercial Terms", "organisation/own")),
    ("qwen-max", "qwen", Channel.OPEN_WEIGHTS, ("licence/apache-2.0",)),
]


@pytest.mark.parametrize(("model", "lab", "channel", "terms"), CLOSED_UNDER_OTHERS)
@pytest.mark.parametrize("kind", [TeacherKind.OPENAI, TeacherKind.ANTHROPIC, TeacherKind.REPLAY])
def test_a_closed_model_has_no_open_licence_beside_another_document_nor_another_lab_s_terms(
    model, lab, channel, terms, kind
):
    asked = Teacher(
        name="t", kind=kind, model=model, lab=lab, channel=channel, terms=terms,
        base_url="" if kind is TeacherKind.REPLAY else "https://llm.example.org/v1",
    )  # fmt: skip
    with pytest.raises(TeacherContradiction, match=r"is a closed model|has no open weights"):
        check_declaration(asked)


def test_a_grant_of_a_model_reaches_no_variant_of_it():
    granted = AccessChange(
        id="g",
        kind="grant",
        lab="openai",
        models=("o1",),
        verdict="allow",
        document="d",
        since="2026-01-01",
        until="2026-12-31",
    )
    stamp = Stamp(
        Origin.TEACHER, "openai", "o1-preview", Channel.OFFICIAL, terms=("ChatGPT/Commercial Terms",), day="2026-02-01"
    )
    assert not Policy(changes=(granted,)).check(Door.USE, (stamp,), Use.TRAIN).allowed
    same = msgspec.structs.replace(stamp, model="o1-2024-12-17")
    assert Policy(changes=(granted,)).check(Door.USE, (same,), Use.TRAIN).allowed
