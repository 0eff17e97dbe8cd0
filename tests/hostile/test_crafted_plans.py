"""A plan whose author writes something else than it does: whoever is asked to agree sees it, and it goes through neither way."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from stillhouse.access.changes import waiver_id
from stillhouse.access.grants import GRANT, REVOKE, plan_change
from stillhouse.access.people import ROSTER
from stillhouse.access.policy_adoption import ADOPT, plan_adoption
from stillhouse.access.policy_questions import WAIVE, plan_waiver
from stillhouse.approvals import submit
from stillhouse.home.current_permission import current_roster
from stillhouse.nouns import AccessChange, AccessKind, Role, Teacher, TeacherKind, Use, Waiver
from stillhouse.permission.roster import change_between, roster_subject, without
from stillhouse.teachers.register import REGISTER
from tests.acceptance.test_custody import people  # noqa: F401
from tests.hostile.test_what_may_go import inside, planned

EXPIRES = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()


def honest(app, kind):
    """The plan as the product makes it."""
    if kind == ROSTER:
        present = current_roster(app.ledger, app.settings)
        coming = without(present, "bob")
        does = {"roster": msgspec.to_builtins(coming), "what": change_between(present, coming)}
        return planned(app, ROSTER, roster_subject(coming), does)
    if kind == ADOPT:
        (app.folder / "prices.toml").write_text("")
        return plan_adoption(app)
    if kind == REGISTER:
        fields = {"channel": "official", "terms": ("licence/mit",), "base_url": "http://127.0.0.1:9"}
        teacher = Teacher(name="small", kind=TeacherKind.OPENAI, model="m", lab="testlab", **fields)
        return planned(app, REGISTER, "small", {"teacher": msgspec.to_builtins(teacher)})
    if kind == WAIVE:
        return plan_waiver(
            app, Waiver(id="", use=Use.PUBLISH_DATA, owner="ada", expires=EXPIRES, reason="x", lab="openai")
        )
    grant = AccessKind.GRANT if kind == GRANT else AccessKind.REVOKE
    return plan_change(app, AccessChange(id="", kind=grant, lab="openai", reason="x"), None).plan


def crafted(plan, wrong):
    name = next(name for name in plan.does if name != "what")
    content, does = dict(plan.does[name]), dict(plan.does)
    if wrong == "subject":
        return msgspec.structs.replace(plan, subject="something small")
    if wrong == "what":
        does["what"] = "enrol carl as requester"
    elif wrong == "id":
        does[name] = content | {"id": "0123456789ab"}
    elif wrong == "members":
        does[name] = content | {"members": [known | {"roles": ["governance"]} for known in content["members"]]}
    elif wrong in ("owner", "end"):
        waiver = msgspec.convert(
            content | ({"owner": "eve"} if wrong == "owner" else {"expires": "2099-01-01"}), Waiver
        )
        named = msgspec.structs.replace(waiver, id=waiver_id(waiver))
        plan = msgspec.structs.replace(plan, subject=named.id)
        does[name] = msgspec.to_builtins(named)
    elif wrong == "documents":
        does[name] = content | {
            "documents": {**content["documents"], "policy.toml": content["documents"]["prices.toml"]}
        }
    elif wrong == "teachers":
        does[name] = content | {"teachers": [*content["teachers"], "blake3:" + "0" * 64]}
    elif wrong == "scope":
        does[name] = content | {"lab": "anthropic"}
    elif wrong == "kind":
        return msgspec.structs.replace(plan, kind=REVOKE if plan.kind == GRANT else GRANT)
    return msgspec.structs.replace(plan, does=does)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        *((ROSTER, wrong) for wrong in ("subject", "what", "members")),
        *((kind, wrong) for kind in (GRANT, REVOKE) for wrong in ("subject", "id", "scope", "kind")),
        *((WAIVE, wrong) for wrong in ("subject", "id", "scope", "owner", "end")),
        *((ADOPT, wrong) for wrong in ("subject", "what", "documents", "teachers")),
        (REGISTER, "subject"),
    ],
)
def test_a_plan_that_says_something_else_than_it_does(home, people, kind, wrong):  # noqa: F811
    with inside(home, "ada") as app:
        proposed = submit(app, crafted(honest(app, kind), wrong)).digest
    shown = people("bob", "plan", "show", proposed, "--json").json["recomputed"]
    assert shown["differs from what it says"]
    for who, what in (("bob", "approve"), ("ada", "execute")):
        assert "does not say what it would do" in people(who, "plan", what, proposed, code=3).err


@pytest.mark.parametrize("kind", [ROSTER, GRANT, REVOKE, WAIVE, ADOPT, REGISTER])
def test_an_honest_plan_differs_in_nothing(home, people, kind):  # noqa: F811
    with inside(home, "ada") as app:
        proposed = submit(app, honest(app, kind)).digest
    shown = people("bob", "plan", "show", proposed, "--json").json["recomputed"]
    assert shown.pop("differs from what it says") == []
    assert shown, "what it would do is said"
    people("bob", "plan", "approve", proposed)


@pytest.mark.parametrize("kind", [GRANT, REVOKE, WAIVE])
def test_an_impact_that_was_written_otherwise_is_shown(home, people, kind):  # noqa: F811
    """It refuses nothing: what a revocation reaches grows with every answer that comes in."""
    with inside(home, "ada") as app:
        plan = honest(app, kind)
        proposed = submit(app, msgspec.structs.replace(plan, impact={**plan.impact, "records": 10**6})).digest
    shown = people("bob", "plan", "show", proposed, "--json").json["recomputed"]
    assert [line for line in shown["differs from what it says"] if line.startswith("records: it says 1000000")]
    people("bob", "plan", "approve", proposed)


def test_every_difference_between_rosters_is_said(home, people):  # noqa: F811
    with inside(home, "ada") as app:
        present = current_roster(app.ledger, app.settings)
    bob, ada = sorted(present.members, key=lambda known: known.name != "bob")[:2]
    other = msgspec.structs.replace
    for candidate, said in (
        (without(present, "bob"), "drop bob"),
        (other(present, members=(ada, other(bob, key=ada.key))), "another key for bob"),
        (other(present, members=(ada, other(bob, roles=(Role.CUSTODIAN,)))), "bob becomes custodian instead of"),
        (other(present, members=(*present.members, other(bob, name="eve"))), "enrol eve as"),
        (other(present, threshold=present.threshold + 1), "a threshold of"),
        (other(present, recovery=ada.key), "recovery key"),
        (present, "nothing"),
    ):
        assert said in change_between(present, candidate)
