"""A vault that only its custodian writes: real users, a real socket, `rm -rf` as people type it."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stillhouse.errors import CustodianRefused
from stillhouse.vault.custodian import CustodianBackend
from stillhouse.vault.locks import locked
from tests.conftest import Cli
from tests.users import KEEPER, OTHER, OWNER, CliAs, kept, owner, place, run_as  # noqa: F401


@pytest.fixture
def data(owner):  # noqa: F811
    folder = owner.folder / "data"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(f'{{"row": {n}}}\n' for n in range(3000)))
    shutil.chown(folder, OWNER)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("blake3-*") if path.is_file()}


def destroy(user: str, objects: Path) -> None:
    """Everything that an accident or a program of a user may do to a folder of objects."""
    some = next(objects.rglob("blake3-*"))
    run_as(user, "rm", "-rf", objects, code=None)
    run_as(user, sys.executable, "-c", "import shutil, sys; shutil.rmtree(sys.argv[1])", objects, code=None)
    run_as(user, "find", objects, "-delete", code=None)
    run_as(user, "truncate", "-s", "0", some, code=None)
    run_as(user, "sh", "-c", f"echo changed > {some}", code=None)
    run_as(user, "chmod", "-R", "0777", objects, code=None)
    run_as(user, "mv", objects, objects.with_name("moved"), code=None)


def test_neither_owner_nor_other_users_change_anything(owner, kept, data):  # noqa: F811
    taken = owner("vault", "snapshot", data, "--json").json
    before = files_of(kept.folder)
    assert len(before) >= 3
    for user in (OWNER, OTHER):
        destroy(user, kept.folder / "objects")
        run_as(user, "rm", "-rf", kept.folder, code=None)
        run_as(user, "mv", kept.folder, kept.folder.with_name("away"), code=None)
        assert files_of(kept.folder) == before
    owner("vault", "verify")
    owner("vault", "restore", taken["snapshot"], owner.folder / "out")
    assert (owner.folder / "out" / "a.jsonl").read_bytes() == (data / "a.jsonl").read_bytes()
    lines = {line["attacker"]: line for line in owner("vault", "probe", "--json").json["copies"]}
    assert {"delete", "overwrite", "truncate", "move"} <= set(lines["this program"]["resists"])
    assert lines["root"]["resists"] == []
    destroy("root", kept.folder / "objects")
    assert files_of(kept.folder / "objects") == {}, "root is not resisted, and the probe says so"


def test_status_says_who_keeps_the_vault(owner, kept):  # noqa: F811
    said = owner("status").out
    assert f"custodian    {kept.folder}: answers" in said
    assert "two persons agree to" not in said and "one program that holds that key deletes" in said
    kept.stop()
    assert "does not answer" in owner("status").out


@pytest.fixture
def people(owner):  # noqa: F811
    """Two people, whose keys lie in folders of their own."""

    def run(who, *words, code=0):
        return owner(*words, code=code, STILLHOUSE_KEYS=str(owner.folder / f"keys-{who}"))

    run("ada", "identity", "enrol", "ada", "--role", "governance", "--role", "custodian")
    run("bob", "identity", "request", "bob", "--to", owner.folder / "bob.json")
    run("ada", "identity", "enrol", "bob", "--role", "approver", "--request", owner.folder / "bob.json")
    return run


def test_a_deletion_with_both_signatures_is_carried_out_and_undone(owner, people, kept, data):  # noqa: F811
    snapshot = owner("vault", "snapshot", data, "--json").json["snapshot"]
    asked = people("ada", "delete", "plan", f"snapshot:{snapshot}", "--reason", "old", "--json").json
    refused = people("ada", "plan", "execute", asked["plan"], code=3)
    assert "Others must approve" in refused.err
    people("bob", "plan", "approve", asked["plan"])
    people("ada", "plan", "execute", asked["plan"])
    assert not list((kept.folder / "objects").glob("??/" + snapshot.replace(":", "-")))
    assert list((kept.folder / "objects" / "trash").glob("??/" + snapshot.replace(":", "-")))
    people("ada", "delete", "undo", asked["plan"][7:19])
    people("ada", "vault", "restore", snapshot, owner.folder / "back")
    assert "discard" in kept.stop()


def ask(folder: Path, act: str, key: str, user: str = OWNER) -> str:
    """Ask the custodian something, as a program of some user would that does not care for rules; returns the refusal."""
    code = (
        "import sys; from pathlib import Path; from stillhouse.errors import StillhouseError\n"
        "from stillhouse.vault.custodian import CustodianBackend\n"
        "where = Path(sys.argv[1]); asks = CustodianBackend(where / 'objects', where / 'socket')\n"
        "try: print(asks.put(sys.argv[3], b'other bytes') if sys.argv[2] == 'put' else getattr(asks, sys.argv[2])(sys.argv[3]))\n"
        "except StillhouseError as failure: print(type(failure).__name__, failure)\n"
    )
    cli = CliAs(folder.parent, user)
    command = cli.command()[:-2]
    done = subprocess.run(
        [*command, "-c", code, str(folder), act, key], capture_output=True, text=True, check=True, cwd="/"
    )
    return done.stdout.strip()


def test_what_is_named_stays_whoever_asks(owner, people, kept, data):  # noqa: F811
    snapshot = owner("vault", "snapshot", data, "--json").json["snapshot"]
    key = snapshot.replace(":", "-")
    assert "is needed" in ask(kept.folder, "discard", key)
    assert "not one whom this custodian serves" in ask(kept.folder, "discard", key, OTHER)
    assert "not the name of these bytes" in ask(kept.folder, "put", "blake3-" + "0" * 64)
    assert "nothing that can be asked for" in ask(kept.folder, "put", "../../keys/home.pub")
    assert (kept.folder / "keys" / "home.pub").read_text() == (owner.home / "keys" / "home.pub").read_text()
    owner("vault", "restore", snapshot, owner.folder / "out")


def test_the_trash_is_kept_by_the_custodian_s_own_clock(owner, kept, data):  # noqa: F811
    snapshot = owner("vault", "snapshot", data, "--json").json["snapshot"]
    asked = owner("delete", "plan", f"snapshot:{snapshot}", "--reason", "old", "--json").json
    owner("plan", "execute", asked["plan"])
    key = snapshot.replace(":", "-")
    assert "it stays for 30 days" in ask(kept.folder, "reclaim", key)
    # Days that only the home says were lived through count for nothing.
    today = datetime.now(UTC).date().isoformat()
    assert (kept.folder / "days").read_text().split() == [today]
    noted = {name: (kept.folder / name).read_bytes() for name in ("days", "discards")}
    for name in noted:
        for words in (f"echo 2020-01-01 >> {name}", f": > {name}", f"rm -f {name}", f"mv /etc/hostname {name}"):
            run_as(OWNER, "sh", "-c", f"cd {kept.folder} && {words}", code=None)
    assert {name: (kept.folder / name).read_bytes() for name in noted} == noted
    assert list((kept.folder / "objects" / "trash").glob(f"??/{key}"))


@pytest.mark.parametrize("how", ["cut", "removed", "replaced"])
def test_a_log_that_was_taken_back_is_not_believed(owner, kept, data, how):  # noqa: F811
    snapshot = owner("vault", "snapshot", data, "--json").json["snapshot"]
    assert "is needed" in ask(kept.folder, "discard", snapshot.replace(":", "-"))  # which makes it follow the log
    log = owner.home / "log"
    if how == "cut":
        segment = next(log.glob("w0000/*.segment"))
        segment.write_bytes(segment.read_bytes()[:-40])
    else:
        shutil.rmtree(log)
    if how == "replaced":
        (owner.folder / "else").mkdir()
        shutil.chown(owner.folder / "else", OWNER)
        CliAs(owner.folder / "else", OWNER)("init")
        shutil.copytree(owner.folder / "else" / "home" / "log", log)
    said = ask(kept.folder, "discard", snapshot.replace(":", "-"))
    assert "does not continue the one that I have" in said
    assert "does not continue" in CliAs(owner.folder, OWNER)("status", code=None).out or how != "cut"
    assert list((kept.folder / "objects").glob("??/" + snapshot.replace(":", "-")))
    # And what was lost comes back from the custodian's copy.
    again = CliAs(owner.folder / "again", OWNER)
    again.folder.mkdir()
    shutil.chown(again.folder, OWNER)
    again("vault", "pull", kept.folder)
    again("vault", "restore", snapshot, again.folder / "out")
    assert (again.folder / "out" / "a.jsonl").read_bytes() == (data / "a.jsonl").read_bytes()


def test_a_custodian_that_is_away_loses_nothing(owner, kept, data):  # noqa: F811
    kept.kill()
    ran = owner("vault", "snapshot", data, code=1)
    assert "The custodian of this vault does not answer" in ran.err and "Start it" in ran.err
    assert owner("vault", "list", "--json").json == []
    kept.start()
    owner("vault", "snapshot", data)
    kept.stop()
    assert kept.process.returncode == 0


def test_it_starts_for_nobody_but_the_folder_s_owner_and_root(owner, kept):  # noqa: F811
    kept.stop()
    assert "belongs to user" in CliAs(owner.folder, OTHER)("vault", "custodian", kept.folder, code=1).err
    assert "no Stillhouse home" in CliAs(owner.folder, KEEPER)("vault", "custodian", owner.folder, code=1).err
    (kept.folder / "charge.json").write_text("{")
    assert "not the folder of a custodian" in CliAs(owner.folder, KEEPER)("vault", "custodian", kept.folder, code=1).err


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_protecting_goes_on_where_it_was_killed(owner, place, data, done):  # noqa: F811
    from stillhouse.custody.protection import protect_setup
    from stillhouse.home.settings import read_settings

    snapshot = owner("vault", "snapshot", data, "--json").json["snapshot"]
    settings = read_settings(owner.home, {})
    steps = protect_setup.plan_protection(settings, protect_setup.Mechanism.CUSTODIAN, place / "custody", KEEPER)
    assert len(steps) == 6
    protect_setup.carry_out(steps[:done], lambda line: None)
    root = Cli(owner.folder)
    root("vault", "protect", "custodian", "--folder", place / "custody", "--user", KEEPER)
    root("vault", "protect", "custodian", "--folder", place / "custody", "--user", KEEPER)  # which changes nothing
    owner("vault", "verify")
    owner("vault", "restore", snapshot, owner.folder / "out")
    assert (owner.home / "objects").is_file(), "nothing can be stored there by mistake"


def test_what_cannot_be_protected_is_refused_before_anything_is_done(owner, place):  # noqa: F811
    root = Cli(owner.folder)
    before = (owner.home / "config.toml").read_text()
    assert "only root gives files" in owner("vault", "protect", "custodian", "--folder", place / "c", code=1).err
    assert "needs a folder" in root("vault", "protect", "custodian", code=2).err
    assert "in the home" in root("vault", "protect", "custodian", "--folder", owner.home / "c", code=2).err
    assert (
        "Others than root may move" in root("vault", "protect", "custodian", "--folder", owner.folder / "c", code=1).err
    )
    assert "no mechanism 'prayer'" in root("vault", "protect", "prayer", code=2).err
    assert "no seal" in root("vault", "protect", "custodian", "--lift", code=2).err
    planned = root("vault", "protect", "custodian", "--folder", place / "c", "--user", KEEPER, "--plan", "--json").json
    assert planned["done"] is False and len(planned["steps"]) == 6
    assert (owner.home / "config.toml").read_text() == before and not (place / "c").exists()
    (owner.home / "objects" / "aa").mkdir(parents=True, exist_ok=True)
    secret = place / "secret"
    secret.write_text("of root")
    (owner.home / "objects" / "aa" / ("blake3-" + "a" * 64)).hardlink_to(secret)
    words = ["vault", "protect", "custodian", "--user", KEEPER, "--folder"]
    assert "has a second name" in root(*words, place / "c", code=1).err
    assert secret.stat().st_uid == 0
    shutil.rmtree(owner.home / "objects")
    (owner.home / "objects").symlink_to(place)
    assert "is a link" in root(*words, place / "c", code=1).err
    (owner.home / "objects").unlink()
    assert (
        "must be neither" in root("vault", "protect", "custodian", "--user", OWNER, "--folder", place / "c", code=2).err
    )
    (place / "theirs").mkdir()
    (place / "theirs" / "secret").write_text("of root")
    assert "is there already, and not for this" in root(*words, place / "theirs", code=1).err
    (owner.home / "config.toml").write_text(before + f'\n[custody]\ncustodian = "{place / "theirs"}"\n')
    assert "needs a folder" in root("vault", "protect", "custodian", code=2).err, "the owner does not say where"
    assert "is there already, and not for this" in root(*words, place / "theirs", code=1).err
    assert (place / "theirs" / "secret").stat().st_uid == 0
    (owner.home / "config.toml").write_text(before)
    process = owner.start("gateway", "serve", "--port", "0", "--ops-port", "0", "--workers", "1", "--json")
    assert process.stdout.readline()
    owner("vault", "snapshot", owner.home / "config.toml")
    process.terminate()
    process.communicate()
    owner.home.chmod(0o700)
    assert "Permission denied" in root(*words, place / "c", code=1).err
    owner.home.chmod(0o755)
    with locked(owner.home / "log" / "w0000" / "lock", "a writer"):
        assert "stop it first" in root(*words, place / "c", code=1).err
    root(*words, place / "c")


def test_the_backend_says_what_is_refused(owner, kept, data):  # noqa: F811
    snapshot = owner("vault", "snapshot", data, "--json").json["snapshot"]
    asks = CustodianBackend(kept.folder / "objects", kept.folder / "socket")  # as root, who may ask, too
    with pytest.raises(CustodianRefused, match="is needed"):
        asks.discard(snapshot.replace(":", "-"))
    asks.discard("blake3-" + "0" * 64)  # what is not there is no error
    assert asks.recover("blake3-" + "0" * 64) is False
