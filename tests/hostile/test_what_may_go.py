"""Every input of "what may go" (vault/FORMAT.md), forged: nothing that is named leaves, and a forged act is shown."""

import shutil
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from msgspec.structs import asdict

from stillhouse.approvals import HANDLINGS, submit
from stillhouse.canon import raw_digest
from stillhouse.clock import now
from stillhouse.custody.deletion.deletion import DELETE, ERASE, RELEASE
from stillhouse.home import facts
from stillhouse.home.current_permission import load, own_signatory
from stillhouse.home.ledger import custody_queries, dataset_queries, permission_queries
from stillhouse.home.open_home import open_home
from stillhouse.home.plans.planning import plan_digest
from stillhouse.home.proposals import plan_act
from stillhouse.home.settings import read_settings
from stillhouse.nouns import Deletion, Erasure, HoldRelease
from stillhouse.permission.chain import KIND, statement
from stillhouse.vault.erasable import CIPHER_MAGIC
from tests.acceptance.test_custody import data, objects_on_disk, people  # noqa: F401
from tests.signers import somebody
from tests.vaults import tree


def planned(app, kind, *rest):
    """A plan as somebody crafts it."""
    return plan_act(app, HANDLINGS[kind], kind, *rest)


@contextmanager
def inside(home, who=""):
    """A program that uses the home's own parts as it likes, with somebody's keys."""
    environment = {"STILLHOUSE_KEYS": str(home.folder / f"keys-{who}")} if who else {}
    with open_home(read_settings(home.home, environment)) as app:
        yield app


def record(home, *entries, who=""):
    with inside(home, who) as app:
        common = {"at": now(), "by": app.recorder.by}
        app.recorder.record(*(kind(**common | fields) for kind, fields in entries))


@pytest.fixture
def precious(home, data, people):  # noqa: F811
    """A home with two people, a scratch snapshot that both agreed to delete, and one that nobody did; a third is encrypted."""
    (home.folder / "scratch").mkdir()
    (home.folder / "scratch" / "x").write_text("x" * 5000)
    home("vault", "snapshot", data, "--name", "precious")
    home("vault", "snapshot", data, "--name", "sealed", "--erasable", "s1")
    home("vault", "snapshot", home.folder / "scratch", "--name", "scratch")
    return home


def subject_of(home, name):
    with inside(home) as app:
        return next(f"snapshot:{one.snapshot}" for one in custody_queries.snapshots(app.ledger) if one.name == name)


def still_there(home, data, *names):  # noqa: F811
    """After everything that removes has run, twice, all of it comes back."""
    for words in (["vault", "gc"], ["tick"], ["vault", "gc"]):
        home(*words, code=None)
    for name in names or ("precious", "sealed"):
        shutil.rmtree(home.folder / f"back-{name}", ignore_errors=True)
        home("vault", "restore", name, f"back-{name}")
        assert tree(home.folder / f"back-{name}") == tree(data)


def agreed(home, people):  # noqa: F811
    """The scratch snapshot is deleted as it should be: there are signatures of both that could be played again."""
    asked = people("ada", "delete", "plan", subject_of(home, "scratch"), "--json").json
    people("bob", "plan", "approve", asked["plan"])
    people("ada", "plan", "execute", asked["plan"])


def forged_signatures(app, how, content, plan, head):
    value = statement(content, plan, head)
    own = own_signatory(app.ledger, app.settings).sign(KIND, value)
    if how == "none":
        return ()
    if how == "one":
        return (own,)
    if how == "one, twice":
        return (own, msgspec.structs.replace(own, by="bob"))
    if how == "a stranger's":
        return (own, msgspec.structs.replace(somebody()(KIND, value), by="bob"))
    return permission_queries.acts(app.ledger)[-1].entry.signatures  # played again


@pytest.mark.parametrize("how", ["none", "one", "one, twice", "a stranger's", "played again"])
@pytest.mark.parametrize("what", ["deletion", "erasure", "release"])
def test_an_act_without_its_signatures_removes_nothing_and_is_shown(precious, people, data, what, how):  # noqa: F811
    home = precious
    agreed(home, people)
    held = people("ada", "vault", "hold", subject_of(home, "precious"), "--reason", "a lawsuit", "--json").json["hold"]
    with inside(home, "ada") as app:
        head = load(app.ledger, app.settings).state.head
        old = permission_queries.acts(app.ledger)[-1].entry
        key = next(iter(custody_queries.erasure_keys(app.ledger)))
        deletion = Deletion(
            id="f" * 12, mentions={subject_of(home, "sealed"): 9}, objects=1, bytes=1, usd="0", reason=""
        )
        name, kind, content = {
            "deletion": ("deletion", facts.Deleted, deletion),
            "erasure": ("erasure", facts.Erased, Erasure(source="s1", key=key, reason="")),
            "release": ("release", facts.HoldReleased, HoldRelease(hold=held, reason="")),
        }[what]
        signatures = forged_signatures(app, how, content, old.plan, head)
        given = {name: content, "plan": old.plan, "previous": head, "signatures": signatures}
        app.recorder.record(kind(at=now(), by=app.recorder.by, **given))
    before = objects_on_disk(home)
    assert "not signed by whom it names" in home("access", "list", code=4).err
    still_there(home, data, "precious")
    assert set(before) <= set(objects_on_disk(home))
    assert "not signed by whom" in home("vault", "restore", "sealed", "x", code=4).err, "it may be that it was erased"


@pytest.mark.parametrize("wrong", ["mentions", "count", "objects", "bytes", "usd", "subject", "impact"])
def test_a_plan_that_says_less_than_it_does(precious, people, data, wrong):  # noqa: F811
    """Who approves sees what was recomputed, and what the author wrote otherwise; neither approval nor execution goes through."""
    home = precious
    scratch, other = subject_of(home, "scratch"), subject_of(home, "precious")
    honest = people("ada", "delete", "plan", scratch, "--plan", "--json").json
    deletion, subject, impact = dict(honest["does"]["deletion"]), scratch, dict(honest["impact"])
    deletion |= {
        "mentions": {"mentions": {scratch: 1, other: 10**9}},
        "count": {"mentions": {scratch: 10**9}},
        "objects": {"objects": 1},
        "bytes": {"bytes": 0},
        "usd": {"usd": "-1"},
    }.get(wrong, {})
    if wrong == "subject":
        subject = other
    if wrong == "impact":
        impact |= {"copies elsewhere": ["far", "farther"], "last copy": False, "bytes": 0, "objects": 0}
    with inside(home, "ada") as app:
        crafted = submit(app, planned(app, DELETE, subject, {"deletion": deletion}, impact)).digest
    shown = people("bob", "plan", "show", crafted, "--json").json["recomputed"]
    assert shown["last copy"] is True
    assert shown["copies elsewhere"] == []
    if wrong == "impact":
        assert shown["bytes"] > 0, "what it would do is recomputed, whatever its author wrote beside it"
        return
    assert any(wrong.replace("count", "mentions") in line for line in shown["differs from what it says"])
    assert "does not say what it would do" in people("bob", "plan", "approve", crafted, code=3).err
    assert "does not say what it would do" in people("ada", "plan", "execute", crafted, code=3).err
    still_there(home, data)


def test_an_erasure_of_another_s_key(precious, people, data):  # noqa: F811
    """Its author names a source, and the key of another one."""
    home = precious
    home("vault", "snapshot", home.folder / "scratch", "--name", "other", "--erasable", "s2")
    with inside(home, "ada") as app:
        keys = {one.source: one.key for one in custody_queries.erasure_keys(app.ledger).values()}
        does = {"erasure": {"source": "s2", "key": keys["s1"], "reason": ""}}
        crafted = submit(app, planned(app, ERASE, "s2", does)).digest
    assert "key of: it says s2, and it is s1" in people("bob", "plan", "approve", crafted, code=3).err
    still_there(home, data)


@pytest.mark.parametrize("at", ["2000-01-01T00:00:00.000Z", "2099-01-01T00:00:00.000Z"])
def test_an_erasure_of_a_key_that_a_forged_claim_makes_one_s_own(precious, people, data, at):  # noqa: F811
    """Another writer's entry, dated as it likes, says that the key of s1 is that of s2, and a plan to erase s2 names it."""
    home = precious
    home("vault", "snapshot", home.folder / "scratch", "--name", "other", "--erasable", "s2")
    with inside(home) as first, inside(home, "ada") as app:  # the second is another writer
        first.recorder.record(facts.DayPassed(at=now(), by=first.recorder.by, day="2026-01-01"))
        keys = {one.source: one.key for one in custody_queries.erasure_keys(app.ledger).values()}
        app.recorder.record(facts.ErasureKeyMade(at=at, by=app.recorder.by, source="s2", key=keys["s1"]))
        app.recorder.refresh()
        does = {"erasure": {"source": "s2", "key": keys["s1"], "reason": ""}}
        crafted = submit(app, planned(app, ERASE, "s2", does)).digest
    assert "key of: it says s2, and it is" in people("bob", "plan", "approve", crafted, code=3).err
    assert "does not say what it would do" in people("ada", "plan", "execute", crafted, code=3).err
    assert "are all said to have the key" in people("ada", "delete", "erase", "s1", "--reason", "x", code=4).err
    assert "are all said to have the key" in home("vault", "snapshot", data, "--erasable", "s1", code=4).err
    still_there(home, data)
    erase(home, people, "s2")
    still_there(home, data)


@pytest.mark.parametrize("at", ["2000-01-01T00:00:00.000Z", "2099-01-01T00:00:00.000Z"])
def test_a_release_of_a_hold_whose_name_is_forged(precious, people, data, at):  # noqa: F811
    home = precious
    held = people("ada", "vault", "hold", subject_of(home, "precious"), "--reason", "a lawsuit", "--json").json["hold"]
    scratch = subject_of(home, "scratch")
    with inside(home) as first, inside(home, "ada") as app:
        first.recorder.record(facts.DayPassed(at=now(), by=first.recorder.by, day="2026-01-01"))
        app.recorder.record(facts.HoldPlaced(at=at, by=app.recorder.by, hold=held, subject=scratch, reason="old"))
        app.recorder.refresh()
        crafted = submit(app, planned(app, RELEASE, scratch, {"release": {"hold": held, "reason": "x"}})).digest
    assert "does not say what it would do" in people("bob", "plan", "approve", crafted, code=3).err
    assert "does not say what it would do" in people("ada", "plan", "execute", crafted, code=3).err
    assert "hold" in people("ada", "delete", "plan", subject_of(home, "precious"), code=3).err


def test_a_plan_that_is_not_what_its_digest_is_of(precious, people):  # noqa: F811
    home = precious
    with inside(home, "ada") as app:
        honest = planned(
            app,
            DELETE,
            "x",
            {"deletion": {"mentions": {}, "id": "1", "reason": "", "objects": 0, "bytes": 0, "usd": "0"}},
        )
        other = msgspec.structs.replace(honest, subject="something else")
        app.recorder.record(facts.PlanMade(at=now(), by=app.recorder.by, digest=plan_digest(honest), plan=other))
        app.recorder.refresh()
    for words in (("show",), ("approve",), ("execute",)):
        assert "do not match its digest" in people("bob", "plan", *words, plan_digest(honest), code=4).err


def test_a_release_of_another_hold_than_its_plan_names(precious, people, data):  # noqa: F811
    home = precious
    held = people("ada", "vault", "hold", subject_of(home, "precious"), "--reason", "a lawsuit", "--json").json["hold"]
    with inside(home, "ada") as app:
        does = {"release": {"hold": held, "reason": "scratch of last week"}}
        crafted = submit(app, planned(app, RELEASE, subject_of(home, "scratch"), does, {"hold": "scratch"})).digest
    shown = people("bob", "plan", "show", crafted, "--json").json["recomputed"]
    assert shown["subjects"] == [subject_of(home, "precious")]
    assert shown["held because"] == ["a lawsuit"]
    assert "does not say what it would do" in people("bob", "plan", "approve", crafted, code=3).err
    assert people("ada", "vault", "holds", "--json").json


def erase(home, people, source):  # noqa: F811
    asked = people("ada", "delete", "erase", source, "--reason", "withdrawn", "--json").json
    people("bob", "plan", "approve", asked["plan"])
    people("ada", "plan", "execute", asked["plan"])


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_erasure_destroys_the_key_that_was_signed_for_and_no_other(precious, people, data, when):  # noqa: F811
    """Whose key a key is said to be, by a fact that nobody signed, makes it the key of no erased source."""
    home = precious
    home("vault", "snapshot", home.folder / "scratch", "--name", "other", "--erasable", "s2")
    with inside(home) as app:
        keys = {one.source: one.key for one in custody_queries.erasure_keys(app.ledger).values()}
    claim = (facts.ErasureKeyMade, {"source": "s2", "key": keys["s1"]})
    for moment in ("before", "after"):
        if when == moment:
            record(home, claim)
        if moment == "before":
            erase(home, people, "s2")
    still_there(home, data)
    assert home("vault", "restore", "other", "x", code=None).code != 0


def test_what_is_claimed_against_the_bytes_is_shown(precious):
    home = precious
    assert [one["state"] for one in home("doctor", "--json").json["checks"] if one["name"] == "claims"] == ["ok"]
    with inside(home) as app:
        keys = {one.source: one.key for one in custody_queries.erasure_keys(app.ledger).values()}
    fields = {"name": "x", "source": "x", "subject": "", "files": 0, "bytes": 0, "added": 0, "erasable": "gone"}
    plain = subject_of(home, "precious").removeprefix("snapshot:")
    record(
        home,
        (facts.SnapshotTaken, fields | {"snapshot": plain}),
        (facts.ErasureKeyMade, {"source": "s9", "key": keys["s1"]}),
    )
    said = [one["detail"] for one in home("doctor", "--json").json["checks"] if one["name"] == "claims"]
    assert [plain in said[0], "s1, s9 are all said to have one key" in said[1]] == [True, True]


def test_a_key_that_is_only_said_to_be_destroyed_is_destroyed(precious, people):  # noqa: F811
    home = precious
    with inside(home) as app:
        key = next(iter(custody_queries.erasure_keys(app.ledger)))
    record(home, (facts.ErasureKeyDestroyed, {"source": "s1", "key": key, "places": ()}))
    erase(home, people, "s1")
    assert not list((home.home / "keys").rglob(f"{key.rpartition(':')[2]}.key"))


def test_a_dataset_is_erased_only_where_all_that_is_said_of_it_is(home, people):  # noqa: F811
    """A fact, dated back, says that a living dataset is of files that need a destroyed key."""
    for number, source in enumerate(("s1", "s2")):
        rows = home.write(f"{number}.jsonl", f'{{"prompt": "{number}?", "response": "the answer is {number}"}}\n')
        home("dataset", "import", rows, "--name", f"d{number}", "--erasable", source)
    erase(home, people, "s1")
    with inside(home) as app:
        key = next(one.key for one in custody_queries.erasure_keys(app.ledger).values() if one.source == "s1")
        forged = app.objects.put(CIPHER_MAGIC + raw_digest(key) + b"anything")
        living = dataset_queries.dataset(app.ledger, "d1")
        said = msgspec.structs.replace(living, files={"rows.jsonl": forged}, erasable="s1")
        common = {"at": "2000-01-01T00:00:00.000Z", "by": app.recorder.by}
        app.recorder.record(facts.DatasetFormed(**common, run="", dataset=said))
        app.recorder.refresh()
    home("vault", "gc", code=None)
    with inside(home) as app:
        assert all(map(app.objects.exists, living.files.values()))
    home("dataset", "export", "d1", "out.jsonl", "--use", "store")


LATER = {
    "a snapshot of that name": lambda one: (facts.SnapshotTaken, asdict(one) | {"snapshot": "blake3:" + "0" * 64}),
    "that snapshot, of nothing": lambda one: (facts.SnapshotTaken, asdict(one) | {"files": 0, "bytes": 0}),
    "its objects were discarded": lambda one: (facts.Discarded, {"objects": (one.snapshot,), "bytes": 1, "reason": ""}),
    "its objects were reclaimed": lambda one: (facts.Reclaimed, {"objects": (one.snapshot,)}),
    "its key was destroyed": lambda one: (facts.ErasureKeyDestroyed, {"source": "s1", "key": "k", "places": ()}),
    "its key is another source's": lambda one: (facts.ErasureKeyMade, {"source": "s2", "key": "k"}),
}  # fmt: skip


@pytest.mark.parametrize("claim", LATER)
def test_a_later_claim_takes_no_name_away(precious, data, claim):  # noqa: F811
    """A fact that nobody signed can keep an object, and never releases one: what was named once is named."""
    home = precious
    with inside(home) as app:
        keys = {one.source: one.key for one in custody_queries.erasure_keys(app.ledger).values()}
        mine = [entry.payload for writer in app.log.writers() for entry in app.log.read(writer)]
        taken = [one for one in map(facts.decode, mine) if isinstance(one, facts.SnapshotTaken)]
    for one in taken:
        kind, fields = LATER[claim](one)
        fields = {name: keys["s1"] if value == "k" else value for name, value in fields.items()}
        record(home, (kind, {name: value for name, value in fields.items() if name not in ("at", "by")}))
    for name in ("precious", "sealed"):
        digest = next(one.snapshot for one in taken if one.name == name)
        home("vault", "gc", code=None)
        home("tick", code=None)
        home("vault", "restore", digest, f"back-{name}")
        assert tree(home.folder / f"back-{name}") == tree(data)


def test_a_dataset_that_is_written_down_again_with_other_files(home):
    """The version's first files stay named, and the second claim is no reason to collect them."""
    rows = home.write("rows.jsonl", '{"prompt": "a", "response": "b"}\n')
    home("dataset", "import", rows, "--name", "d")
    with inside(home) as app:
        version = dataset_queries.datasets(app.ledger)[0]
        entry = next(
            one
            for writer in app.log.writers()
            for one in map(facts.decode, (entry.payload for entry in app.log.read(writer)))
            if getattr(getattr(one, "dataset", None), "name", "") == "d"
        )
        empty = msgspec.structs.replace(entry.dataset, files={})
        app.recorder.record(msgspec.structs.replace(entry, dataset=empty, at=now()))
    home("vault", "gc", code=None)
    with inside(home) as app:
        assert all(app.objects.exists(digest) for digest in version.files.values())


@pytest.mark.parametrize("named", [True, False], ids=["of what is named", "of what nothing names"])
def test_a_grace_that_is_said_to_be_over(precious, data, named):  # noqa: F811
    """Days that a program says it lived through, and a discard that it dates back, empty the trash of nothing that is named."""
    home = precious
    digest = subject_of(home, "precious").removeprefix("snapshot:")
    long_ago = datetime.now(UTC) - timedelta(days=90)
    days = [(facts.DayPassed, {"day": (long_ago + timedelta(days=n)).date().isoformat()}) for n in range(60)]
    with inside(home) as app:
        objects = (digest,) if named else (app.objects.put(b"SHPACK1\0nothing names this"),)
        if named:
            app.objects.discard(digest)
    dated = {"at": f"{long_ago:%Y-%m-%dT%H:%M:%S.000Z}", "objects": objects, "bytes": 1, "reason": "x"}
    record(home, (facts.Discarded, dated), *days)
    still_there(home, data)
    if not named:
        with inside(home) as app:
            where = (app.objects.exists(objects[0]), objects[0] in set(app.objects.discarded()))
        assert any(where), "what goes into the trash now has its grace before it, whatever was said of it before"


def test_a_copy_that_only_the_log_knows(precious, people, data, tmp_path):  # noqa: F811
    """That a copy was made and scrubbed is a claim; what is there is looked at."""
    home = precious
    place = tmp_path / "far"
    config = home.home / "config.toml"
    config.write_text(config.read_text() + f'\n[copies.far]\nplace = "{place}"\n')
    with inside(home) as app:
        heads = dict.fromkeys(app.log.writers(), 10**9)
    made = {"copy": "far", "place": str(place), "domain": "elsewhere", "objects": 10**6, "added": 0, "bytes": 10**9}
    made |= {"entries": 10**9, "sampled": 10**6, "heads": heads}
    scrubbed = {"copy": "far", "objects": 10**6, "read": 10**6, "bad": (), "repaired": ()}
    record(home, (facts.CopyMade, made), (facts.Scrubbed, scrubbed))
    impact = people("ada", "delete", "plan", subject_of(home, "precious"), "--plan", "--json").json["impact"]
    assert (impact["copies elsewhere"], impact["last copy"]) == ([], True)
    assert Decimal(impact["replaceability"]["usd"]) >= 0
    still_there(home, data)
