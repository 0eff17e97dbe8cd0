"""An organisation's own rules, and waivers."""

import pytest

from stillhouse.errors import RuleError
from stillhouse.nouns import Channel, Ground, Origin, Stamp, Use, Waiver
from stillhouse.permission.decide import Door, Organisation, Policy, facts_of
from stillhouse.permission.rules import Rule, Rules, RuleTest, parse_rules, reach

ORGANISATION = Organisation(competes_with=(), regions=("EU",))
YES, NO = RuleTest(Use.TRAIN, True, {"lab": "qwen"}), RuleTest(Use.TRAIN, False, {"lab": "x"})
GOOD = Stamp(Origin.TEACHER, "qwen", "m", Channel.OPEN_WEIGHTS, terms=("licence/mit",), day="2026-01-01")


def rule(when='stamp.lab == "qwen" && use == "train"', effect="forbid", tests=(YES, NO), name="r", reason="we said so"):
    return Rule(name, effect, when, reason, "ada", tests)


def policy(*rules, **more):
    return Policy(ORGANISATION, rules=Rules(rules, facts_of(ORGANISATION)), **more)


def test_forbid_wins_over_what_a_licence_allows():
    decision = policy(rule()).check(Door.USE, [GOOD], Use.TRAIN)
    assert not decision.allowed
    assert decision.grounds == (Ground.ORGANISATION,)
    assert decision.citations == ("rule r (ada)",)
    assert "we said so" in decision.reason
    assert policy(rule()).check(Door.USE, [GOOD], Use.EVALUATE).allowed


def test_a_permit_lifts_the_organisation_s_own_denial_and_no_terms():
    permit = rule('stamp.channel == "intermediary"', "permit", (
        RuleTest(Use.TRAIN, True, {"channel": "intermediary"}), RuleTest(Use.TRAIN, False, {"channel": "personal"}),
    ))  # fmt: skip
    through = Stamp(Origin.TEACHER, "x", "m", Channel.INTERMEDIARY, terms=("licence/mit",), day="2026-01-01")
    assert not policy().check(Door.USE, [through], Use.TRAIN).allowed
    assert policy(permit).check(Door.USE, [through], Use.TRAIN).allowed
    banned = Stamp(Origin.TEACHER, "xai", "m", Channel.INTERMEDIARY, terms=("Grok/Commercial Terms",), day="2026-01-01")
    assert policy(permit).check(Door.USE, [banned], Use.TRAIN).grounds == (Ground.TERMS,)
    forbid = rule('stamp.channel == "intermediary"', "forbid", permit.test, "f")
    assert not policy(permit, forbid).check(Door.USE, [through], Use.TRAIN).allowed, "forbid wins"


def test_rules_see_the_organisation_s_facts():
    found = policy(
        rule('"EU" in organisation.regions && stamp.region == "US"', tests=(
            RuleTest(Use.TRAIN, True, {"region": "US"}), RuleTest(Use.TRAIN, False, {"region": "EU"}),
        ))
    )  # fmt: skip
    assert found.check(Door.USE, [GOOD], Use.TRAIN).allowed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (rule("stamp.lab =="), "cannot be read"),
        (rule("stamp.nothing == 1"), "asks for 'nothing', which there is not"),
        (rule("1 + 1"), "not offered|not to true or false"),
        (rule("stamp.terms.all(t, t != 'x')"), "no bound"),
        (rule("stamp.lab.matches('(a+)+$')"), "no bound"),
        (rule("stamp .terms . exists (t, t == 'x')"), "no bound"),
        (rule(" && ".join(["stamp.lab == 'x'"] * 200)), "characters"),
        (rule("now() > 1"), "cannot be read|not offered"),
        (rule("user.name == 'x'"), "speaks of user"),
        (rule(tests=(YES,)), "at least one test"),
        (rule(tests=(NO,)), "at least one test"),
        (rule(tests=()), "at least one test"),
        (rule(tests=(YES, RuleTest(Use.TRAIN, False, {"lab": "qwen", "model": "y"}))), "as its test says"),
        (rule(tests=(YES, RuleTest(Use.TRAIN, False, {"origin": "nobody"}))), "no stamp"),
    ],
)
def test_rules_that_cannot_be_relied_on_are_refused(given, said):
    with pytest.raises(RuleError, match=said):
        Rules((given,), facts_of(ORGANISATION))


def test_names_are_unique_and_files_are_checked():
    with pytest.raises(RuleError, match="same name"):
        Rules((rule(), rule()))
    assert parse_rules(b"", "policy.toml", {}).rules == ()
    with pytest.raises(RuleError, match="missing required field"):
        parse_rules(b'[[rule]]\nname = "x"\n', "policy.toml", {})
    with pytest.raises(RuleError, match=r"policy\.toml"):
        parse_rules(b"\xff", "policy.toml", {})


def test_how_much_a_rule_is_about_is_counted():
    nothing = rule('stamp.lab == "nobody"', tests=(RuleTest(Use.TRAIN, True, {"lab": "nobody"}), NO), name="nothing")
    everything = rule(
        'stamp.day != "2030-01-01"', tests=(YES, RuleTest(Use.TRAIN, False, {"day": "2030-01-01"})), name="all"
    )
    counts = reach(Rules((nothing, everything)), [GOOD])
    assert counts == {"nothing": 0, "all": len(Use)}


def waiver(use=Use.TRAIN, **more):
    return Waiver(id="w1", use=use, owner="ada", expires="2026-12-31", reason="we asked", **more)


UNKNOWN = Stamp(Origin.TEACHER, "zhipu", "m", Channel.OFFICIAL, day="2026-01-01")


def test_what_is_unknown_is_never_published():
    policy = Policy(ORGANISATION, waivers=[waiver(use, lab="zhipu") for use in Use], today="2026-06-01")
    unknown = Stamp(origin=Origin.TEACHER, lab="zhipu", channel=Channel.OFFICIAL)
    assert policy.check(Door.USE, [unknown], Use.TRAIN).allowed
    assert not policy.check(Door.USE, [unknown], Use.PUBLISH_DATA).allowed


def test_a_waiver_lifts_what_is_unknown_and_is_seen_wherever_it_acts():
    decision = Policy(ORGANISATION, waivers=[waiver(lab="zhipu")], today="2026-06-01").check(
        Door.USE, [UNKNOWN], Use.TRAIN
    )
    assert decision.allowed
    assert decision.waivers == ("w1",)
    assert "WAIVED by ada until 2026-12-31: we asked" in decision.reason


@pytest.mark.parametrize(
    ("given", "today"),
    [
        (waiver(lab="zhipu"), "2027-01-01"),
        (waiver(lab="zhipu"), ""),
        (waiver(lab="other"), "2026-06-01"),
        (waiver(Use.RELEASE_WEIGHTS, lab="zhipu"), "2026-06-01"),
        (waiver(channel=Channel.PERSONAL), "2026-06-01"),
        (waiver(terms="Grok/Commercial Terms"), "2026-06-01"),
    ],
)
def test_a_waiver_acts_on_nothing_else_and_ends(given, today):
    assert not Policy(ORGANISATION, waivers=[given], today=today).check(Door.USE, [UNKNOWN], Use.TRAIN).allowed


def test_no_waiver_lifts_what_a_document_forbids_or_a_lab_revoked():
    from stillhouse.nouns import AccessChange

    banned = Stamp(Origin.TEACHER, "xai", "m", Channel.OFFICIAL, terms=("Grok/Commercial Terms",), day="2026-01-01")
    given = [waiver(lab="xai"), waiver(lab="zhipu")]
    assert not Policy(ORGANISATION, waivers=given, today="2026-06-01").check(Door.USE, [banned], Use.TRAIN).allowed
    change = AccessChange(id="c", kind="revoke", lab="zhipu")
    both = Policy(ORGANISATION, waivers=given, changes=(change,), today="2026-06-01").check(
        Door.USE, [UNKNOWN], Use.TRAIN
    )
    assert set(both.grounds) == {Ground.REVOCATION, Ground.UNKNOWN}
    assert both.waivers == ()


def test_a_waiver_lifts_the_organisation_s_own_rule():
    decision = policy(rule(), waivers=[waiver(lab="qwen")], today="2026-06-01").check(Door.USE, [GOOD], Use.TRAIN)
    assert decision.allowed
    assert decision.waivers == ("w1",)


def test_a_waiver_of_one_document_lifts_no_other_and_no_account():
    def allowed(given, stamp):
        return Policy(ORGANISATION, waivers=[given], today="2026-06-01").check(Door.USE, [stamp], Use.TRAIN).allowed

    about_one = waiver(terms="A/Terms of Service")
    one = Stamp(Origin.TEACHER, "x", "m", Channel.CLOUD, terms=("A/Terms of Service",), day="2026-05-01")
    assert allowed(about_one, one)
    two = Stamp(
        Origin.TEACHER, "x", "m", Channel.CLOUD, terms=("A/Terms of Service", "B/Terms of Service"), day="2026-05-01"
    )
    assert not allowed(about_one, two)
    for channel in (Channel.PERSONAL, Channel.UNKNOWN):
        by_hand = Stamp(Origin.TEACHER, "x", "m", channel, terms=("A/Terms of Service",), day="2026-05-01")
        assert not allowed(about_one, by_hand), channel
        assert allowed(waiver(lab="x"), by_hand), channel
