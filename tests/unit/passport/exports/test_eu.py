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
        ("human", ["licence/mit"], "2.2"),
        ("licensed", ["licence/mit"], "2.1"),
        ("web", [], "2.3"),
        ("teacher", ["licence/mit"], "2.5"),
        ("own model", [], "2.5"),
        ("unknown", [], "2.6"),
    ],
)
def test_own_prompts_are_no_public_dataset(origin, terms, section):
    assert section_of({"origin": origin, "terms": terms}).startswith(section)
