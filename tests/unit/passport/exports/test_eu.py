"""The EU summary: which source is told in which section of the template."""

import pytest

from stillhouse.passport.exports.eu import section_of


@pytest.mark.parametrize(
    ("origin", "terms", "section"),
    [
        ("prompt seed", [], "2.6"),
        ("prompt seed", ["organisation/own"], "2.6"),
        ("prompt seed", ["licence/mit"], "2.1"),
        ("prompt seed", ["organisation/own", "licence/mit"], "2.1"),
        ("human", ["organisation/own"], "2.6"),
        ("human", [], "2.2"),
        ("human", ["licence/mit"], "2.1"),
        ("human", ["Agency/Contract"], "2.2"),
        ("licensed", ["licence/mit"], "2.1"),
        ("licensed", ["Agency/Contract"], "2.2"),
        ("licensed", [], "2.2"),
        ("web", [], "2.3"),
        ("teacher", ["licence/mit"], "2.5"),
        ("own model", [], "2.5"),
        ("unknown", [], "2.6"),
    ],
)
def test_own_prompts_are_no_public_dataset(origin, terms, section):
    assert section_of({"origin": origin, "terms": terms}).startswith(section)


def test_what_others_published_of_a_model_is_a_public_dataset():
    published = {"origin": "teacher", "terms": ["licence/mit"], "channel": "published"}
    assert section_of(published).startswith("2.1")
    assert section_of({**published, "channel": "official"}).startswith("2.5")
