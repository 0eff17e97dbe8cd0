"""Who may change the roster: as TUF's root, by a threshold of the old and of the new, or by the recovery key."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.errors import ForgedEntry, SignatureRefused, UsageError
from stillhouse.nouns import AccessChange, Member, Role, Roster, Signature, Use, Waiver
from stillhouse.permission.acts.act import ChainState
from stillhouse.permission.chain import KIND, ChainEntry, advance, lacking, replay, statement
from stillhouse.permission.roster import advisory, check, with_member, without
from stillhouse.permission.signatures import HOME, Signatory, is_signed, message
from stillhouse.permission.signing_keys import make_key, read_signer
from tests.examples import examples

GOVERN = (Role.GOVERNANCE, Role.APPROVER)


@pytest.fixture(scope="module")
def signers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    found = {}
    for name in ("ada", "bob", "cy", "dan", "recovery", "home"):
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


def signed(signers, content, state, *names, plan="blake3:plan"):
    value = statement(content, plan, state.head)
    return tuple(Signatory(name, signers[name], 0).sign(KIND, value) for name in names)


def accept(signers, previous, candidate, *names):
    """Put a roster behind another one; raises SignatureRefused where the chain would not take it."""
    state = ChainState(head="blake3:head", roster=previous)
    signatures = signed(signers, candidate, state, *names)
    missing = lacking(state, candidate, "blake3:plan", signatures, signers["home"].public.pem)
    if missing:
        raise SignatureRefused(", ".join(missing))


PEOPLE = ["ada", "bob", "cy", "dan"]


@given(
    st.sets(st.sampled_from(PEOPLE), min_size=1),
    st.sets(st.sampled_from(PEOPLE), min_size=1),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sets(st.sampled_from(PEOPLE)),
)
@settings(max_examples=examples(80))
def test_a_threshold_of_the_old_and_of_the_new_must_sign(signers, old, new, before, after, who):
    if before > len(old) or after > len(new):
        return
    previous = roster_of(signers, old, before)
    candidate = roster_of(signers, new, after, 2)
    if len(who & old) >= before and len(who & new) >= after:
        accept(signers, previous, candidate, *sorted(who))
    else:
        with pytest.raises(SignatureRefused):
            accept(signers, previous, candidate, *sorted(who))


def test_the_same_signature_twice_is_one(signers):
    previous, candidate = roster_of(signers, ["ada", "bob"], 2), roster_of(signers, ["ada", "bob", "cy"], 2, 2)
    with pytest.raises(SignatureRefused, match="bob"):
        accept(signers, previous, candidate, "ada", "ada")


def test_a_roster_cannot_be_skipped_or_signed_for_another(signers):
    first = roster_of(signers, ["ada"], 1)
    accept(signers, None, first, "ada")
    for version in (1, 3):
        with pytest.raises(SignatureRefused, match="does not follow"):
            accept(signers, first, roster_of(signers, ["ada", "bob"], 1, version), "ada")
    state = ChainState(head="h", roster=first)
    second, stolen = roster_of(signers, ["ada", "bob"], 1, 2), roster_of(signers, ["ada", "cy"], 1, 2)
    home = signers["home"].public.pem
    assert lacking(state, second, "blake3:plan", signed(signers, second, state, "ada"), home) == ()
    assert lacking(state, stolen, "blake3:plan", signed(signers, second, state, "ada"), home) == ("ada", "cy")
    other_plan = signed(signers, second, state, "ada", plan="blake3:another")
    assert lacking(state, second, "blake3:plan", other_plan, home) == ("ada", "bob"), (
        "a yes to one plan is none to another"
    )


def test_the_recovery_key_stands_in_for_the_old_threshold_and_for_nothing_else(signers):
    previous = roster_of(signers, ["ada", "bob"], 2, recovery=True)
    candidate = roster_of(signers, ["cy"], 1, 2, recovery=True)
    accept(signers, previous, candidate, "recovery", "cy")
    with pytest.raises(SignatureRefused, match="cy"):
        accept(signers, previous, candidate, "recovery")
    with pytest.raises(SignatureRefused):
        accept(signers, roster_of(signers, ["ada", "bob"], 2), candidate, "recovery", "cy")


def chain(signers, *acts):
    """Entries in a row: (content, who signs)."""
    state, entries = ChainState(), []
    for number, (content, names) in enumerate(acts):
        plan = f"blake3:plan-{number}"
        signatures = signed(signers, content, state, *names, plan=plan)
        entries.append(ChainEntry(content, plan, state.head, signatures))
        state = advance(state, entries[-1], signers["home"].public.pem)
    return entries, state


def change(kind="revoke", lab="rival", number=0):
    return AccessChange(id=f"c{number}", kind=kind, lab=lab)


@pytest.fixture
def history(signers):
    """Two people, a grant that both signed, a revocation, a waiver."""
    waiver = Waiver(id="w", use=Use.TRAIN, owner="ada", expires="2099-01-01", reason="r", lab="x")
    return chain(
        signers,
        (roster_of(signers, ["ada"], 1), ["ada"]),
        (roster_of(signers, ["ada", "bob"], 1, 2), ["ada"]),
        (change("grant"), ["ada", "bob"]),
        (change("revoke", number=1), ["bob"]),
        (waiver, ["bob", "ada"]),
    )


def read(signers, entries, head=""):
    return replay(entries, signers["home"].public.pem, head)


@given(st.permutations(range(5)))
def test_a_chain_is_read_in_its_own_order_whatever_order_it_comes_in(signers, order):
    waiver = Waiver(id="w", use=Use.TRAIN, owner="ada", expires="2099-01-01", reason="r", lab="x")
    entries, state = chain(
        signers,
        (roster_of(signers, ["ada"], 1), ["ada"]),
        (roster_of(signers, ["ada", "bob"], 1, 2), ["ada"]),
        (change("grant"), ["ada", "bob"]),
        (change("revoke", number=1), ["bob"]),
        (waiver, ["bob", "ada"]),
    )
    assert read(signers, [entries[place] for place in order], state.head) == state


def test_every_entry_that_is_altered_moved_played_again_or_taken_out_is_found(signers, history):
    entries, state = history
    for place, entry in enumerate(entries):
        for forged in (
            entry._replace(plan="blake3:another"),
            entry._replace(previous="blake3:elsewhere"),
            entry._replace(signatures=()),
            entry._replace(signatures=tuple(Signature(s.by, s.key, s.roster, "AAAA") for s in entry.signatures)),
        ):
            with pytest.raises(ForgedEntry):
                read(signers, [*entries[:place], forged, *entries[place + 1 :]])
        with pytest.raises(ForgedEntry):
            read(signers, [*entries[:place], *entries[place + 1 :]], state.head)
        with pytest.raises(ForgedEntry):
            read(signers, [*entries, entry._replace(previous=state.head)])
        with pytest.raises(ForgedEntry):
            read(signers, [*entries, entry])
    assert read(signers, entries[:-1]).of(Waiver) == (), (
        "without a head that is kept elsewhere, a missing end is not seen"
    )


def test_a_grant_needs_two_and_it_does_not_matter_who_of_them_began(signers, history):
    _, state = history
    home = signers["home"].public.pem
    for names, enough in ((["ada", "bob"], True), (["bob", "ada"], True), (["ada"], False), (["ada", "ada"], False)):
        missing = lacking(state, change("grant"), "p", signed(signers, change("grant"), state, *names, plan="p"), home)
        assert (missing == ()) is enough, names
    with pytest.raises(SignatureRefused, match="answers for permission"):
        lacking(state, change("grant"), "p", signed(signers, change("grant"), state, "cy", plan="p"), home)
    with pytest.raises(ForgedEntry):
        advance(
            state,
            ChainEntry(change("grant"), "p", state.head, signed(signers, change("grant"), state, "home", plan="p")),
            home,
        )


def test_the_home_signs_only_before_there_is_a_roster(signers):
    value = statement(change(), "p", "")
    by_home = Signatory(HOME, signers["home"], 0).sign(KIND, value)
    home = signers["home"].public.pem
    state = advance(ChainState(), ChainEntry(change(), "p", "", (by_home,)), home)
    assert state.of(AccessChange) == (change(),)
    with pytest.raises(ForgedEntry):
        advance(
            ChainState(), ChainEntry(change(), "p", "", signed(signers, change(), ChainState(), "ada", plan="p")), home
        )


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
