"""Who may change the roster: as TUF's root, by a threshold of the old and of the new, or by the recovery key."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.errors import ForgedEntry, SignatureRefused, UsageError
from stillhouse.identity.keys import make_key, read_signer
from stillhouse.identity.roster import KIND, accept, advisory, check, in_force, lacking, replay, with_member, without
from stillhouse.identity.signatures import Signatory, is_signed, message
from stillhouse.nouns import Member, Role, Roster

GOVERN = (Role.GOVERNANCE, Role.APPROVER)


@pytest.fixture(scope="module")
def signers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    found = {}
    for name in ("ada", "bob", "cy", "dan", "recovery"):
        make_key(folder / f"{name}.key")
        found[name] = read_signer(folder / f"{name}.key")
    return found


def roster_of(signers, names, threshold, version=1, recovery=False):
    members = tuple(Member(name, GOVERN, signers[name].public.pem) for name in sorted(names))
    return Roster(
        version=version,
        members=members,
        threshold=threshold,
        recovery=signers["recovery"].public.pem if recovery else "",
    )


def signed(signers, roster, *names):
    return tuple(Signatory(name, signers[name], 0).sign(KIND, roster) for name in names)


PEOPLE = ["ada", "bob", "cy", "dan"]


@given(
    st.sets(st.sampled_from(PEOPLE), min_size=1),
    st.sets(st.sampled_from(PEOPLE), min_size=1),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sets(st.sampled_from(PEOPLE)),
)
@settings(max_examples=80)
def test_a_threshold_of_the_old_and_of_the_new_must_sign(signers, old, new, before, after, who):
    if before > len(old) or after > len(new):
        return
    previous = roster_of(signers, old, before)
    candidate = roster_of(signers, new, after, 2)
    enough = len(who & old) >= before and len(who & new) >= after
    signatures = signed(signers, candidate, *sorted(who))
    if enough:
        accept(previous, candidate, signatures)
        assert lacking(previous, candidate, signatures) == ()
    else:
        with pytest.raises(SignatureRefused):
            accept(previous, candidate, signatures)


def test_the_same_signature_twice_is_one(signers):
    previous, candidate = roster_of(signers, ["ada", "bob"], 2), roster_of(signers, ["ada", "bob", "cy"], 2, 2)
    with pytest.raises(SignatureRefused):
        accept(previous, candidate, signed(signers, candidate, "ada", "ada"))


def test_a_roster_cannot_be_skipped_replayed_or_signed_for_another(signers):
    first = roster_of(signers, ["ada"], 1)
    accept(None, first, signed(signers, first, "ada"))
    for version in (1, 3):
        other = roster_of(signers, ["ada", "bob"], 1, version)
        with pytest.raises(SignatureRefused, match="does not follow"):
            accept(first, other, signed(signers, other, "ada"))
    second, stolen = roster_of(signers, ["ada", "bob"], 1, 2), roster_of(signers, ["ada", "cy"], 1, 2)
    with pytest.raises(SignatureRefused):
        accept(first, stolen, signed(signers, second, "ada"))


def test_the_recovery_key_stands_in_for_the_old_threshold_and_for_nothing_else(signers):
    previous = roster_of(signers, ["ada", "bob"], 2, recovery=True)
    candidate = roster_of(signers, ["cy"], 1, 2, recovery=True)
    accept(previous, candidate, signed(signers, candidate, "recovery", "cy"))
    with pytest.raises(SignatureRefused, match="cy"):
        accept(previous, candidate, signed(signers, candidate, "recovery"))
    without_key = roster_of(signers, ["ada", "bob"], 2)
    with pytest.raises(SignatureRefused):
        accept(without_key, candidate, signed(signers, candidate, "recovery", "cy"))


def test_history_is_checked_from_its_beginning(signers):
    first, second = roster_of(signers, ["ada"], 1), roster_of(signers, ["ada", "bob"], 1, 2)
    changes = [("t1", first, signed(signers, first, "ada")), ("t2", second, signed(signers, second, "ada"))]
    held = replay(changes)
    assert in_force(held, "t0") is None
    assert in_force(held, "t1") == first
    assert in_force(held, "t9") == second
    with pytest.raises(ForgedEntry):
        replay([changes[0], ("t2", second, signed(signers, first, "ada"))])
    with pytest.raises(ForgedEntry):
        replay(changes[1:])


@pytest.mark.parametrize(
    ("members", "threshold", "said"),
    [
        ([("ada", (Role.ENGINEER,))], 1, "threshold"),
        ([("ada", GOVERN), ("ci", (Role.PROGRAM, Role.APPROVER))], 1, "never approve"),
        ([("ada", GOVERN)], 2, "threshold"),
        ([("ada", ())], 1, "no role"),
        ([("home", GOVERN)], 1, "none is 'home'"),
    ],
)
def test_rosters_that_make_no_sense(signers, members, threshold, said):
    keys = iter(signers.values())
    made = tuple(Member(name, roles, next(keys).public.pem) for name, roles in members)
    with pytest.raises(UsageError, match=said):
        check(Roster(version=1, members=made, threshold=threshold))


def test_two_members_have_two_keys(signers):
    key = signers["ada"].public.pem
    with pytest.raises(UsageError, match="same key"):
        check(Roster(version=1, members=(Member("ada", GOVERN, key), Member("bob", GOVERN, key)), threshold=1))


def test_controls_that_one_person_cannot_enforce_are_named(signers):
    assert "no roster" in advisory(None)[0]
    alone = with_member(None, Member("ada", GOVERN, signers["ada"].public.pem))
    assert len(advisory(alone)) == 3
    both = with_member(alone, Member("bob", GOVERN, signers["bob"].public.pem), 2, signers["recovery"].public.pem)
    assert advisory(both) == ()
    assert without(both, "bob").threshold == 1


def test_a_signature_over_one_kind_is_worth_nothing_for_another(signers):
    signature = Signatory("ada", signers["ada"], 1).sign("plan", ["x"])
    assert is_signed(signers["ada"].public, "plan", ["x"], signature)
    assert not is_signed(signers["ada"].public, "waiver", ["x"], signature)
    assert not is_signed(signers["bob"].public, "plan", ["x"], signature)
    assert message("a", "b") != message("ab", "")
