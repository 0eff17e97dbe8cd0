"""What a home's owner, its programs and other users try against the custodian: nothing of it loses anything."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stillhouse.vault.custodian import CustodianBackend
from tests.conftest import Cli
from tests.users import OTHER, OWNER, CliAs, kept, owner, place  # noqa: F401

ASK = (
    "import sys; from pathlib import Path; from stillhouse.errors import StillhouseError\n"
    "from stillhouse.vault.custodian import CustodianBackend\n"
    "where = Path(sys.argv[1]); asks = CustodianBackend(where / 'objects', where / 'socket')\n"
    "try: print(asks.put(sys.argv[3], b'other bytes') if sys.argv[2] == 'put' else getattr(asks, sys.argv[2])(sys.argv[3]))\n"
    "except StillhouseError as failure: print(type(failure).__name__, failure)\n"
)
FORGE = """
import os, sys
from pathlib import Path
import msgspec
from stillhouse.home import facts
from stillhouse.nouns import HoldRelease
from stillhouse.vault.entries import GENESIS, SegmentHeader, frame
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects

how, home, custody = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
log = Log(home / "log", Objects(LocalBackend(custody / "objects")))
at = "2025-01-01T00:00:00.000Z"
if how == "header":
    for head in log.heads():  # a segment that claims to go on where the log ends, and has nothing before it
        data, _ = frame(msgspec.json.encode(SegmentHeader(head.writer, head.count, head.chain, "")), GENESIS)
        piece, _ = frame(facts.encode(facts.DayPassed(at=at, by="x", day="2025-01-01")), bytes.fromhex(head.chain))
        folder = home / "log" / head.writer
        for old in folder.glob("*.segment"):
            old.unlink()
        (folder / f"{head.count:012d}.segment").write_bytes(data + piece)
if how == "unsigned":
    release = HoldRelease(hold="x", reason="")
    fact = facts.HoldReleased(at=at, by="x", plan="blake3:00", previous="", signatures=(), release=release)
    with log.writer() as writer:
        writer.append(facts.encode(fact))
if how == "unknown":
    with log.writer() as writer:
        writer.append(b'{"fact": "of another planet"}')
if how == "pipe":
    os.mkfifo(home / "log" / "w0000" / "999999999999.segment")
if how == "odd":
    data, _ = frame(msgspec.json.encode(SegmentHeader("w0000", 5, "zz", "")), GENESIS)
    (home / "log" / "w0000" / "999999999999.segment").write_bytes(data)
"""
CROWD = (
    "import socket, sys, time\n"
    "held = []\n"
    "for _ in range(900):\n"
    "    s = socket.socket(socket.AF_UNIX)\n"
    "    try: s.connect(sys.argv[1])\n"
    "    except OSError: break\n"
    "    held.append(s)\n"
    "print(len(held), flush=True); time.sleep(60)\n"
)
FOLLOW = (
    "import os, sys\nfrom pathlib import Path\nfrom stillhouse.custody.copies import pull\nsynced = []\nreal = os.fsync\n"
    "os.fsync = lambda d: (synced.append(os.readlink(f'/proc/self/fd/{d}')), real(d))\n"
    "from stillhouse.vault.local import LocalBackend\nfrom stillhouse.vault.log import Log\n"
    "from stillhouse.vault.objects import Objects\n"
    "home, custody, scratch = map(Path, sys.argv[1:])\nobjects = Objects(LocalBackend(custody / 'objects'))\n"
    "key = (custody / 'keys' / 'home.pub').read_text()\n"
    "assert pull.follow(Log(scratch, objects), Log(home / 'log', objects), (), key)\n"
    "segment = str(next((home / 'log' / 'w0000').glob('*.segment')))\n"
    "assert synced.index(segment) < min(n for n, name in enumerate(synced) if str(scratch) in name)\n"
)


@pytest.fixture
def data(owner):  # noqa: F811
    folder = owner.folder / "data"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(f'{{"row": {n}}}\n' for n in range(3000)))
    shutil.chown(folder, OWNER)
    return folder


def python_as(user: str, code: str, *words: object) -> "subprocess.CompletedProcess[str]":
    command = [*CliAs(Path("/"), user).command()[:-2], "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=True)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("blake3-*") if path.is_file()}


def another(place, name, user):  # noqa: F811
    cli = CliAs(place / name, user)
    cli.folder.mkdir()
    shutil.chown(cli.folder, user)
    return cli


@pytest.mark.parametrize("how", ["header", "unsigned", "unknown", "pipe", "odd"])
def test_a_log_that_was_made_up_is_not_taken_over(owner, kept, data, place, how):  # noqa: F811
    """Neither by the custodian nor by a home that follows: what they have stays, and can be used."""
    snapshot = owner("vault", "snapshot", data, "--json").json["snapshot"]
    other = another(place, "other", OTHER)
    other("vault", "pull", owner.home)
    python_as(OWNER, FORGE, how, owner.home, kept.folder)
    before = files_of(kept.folder / "objects")
    for key in before:
        said = python_as(OWNER, ASK, kept.folder, "discard", key).stdout
        assert "does not continue the one that I have, or cannot be read" in said
    assert files_of(kept.folder / "objects") == before
    if how != "pipe":
        assert other("vault", "pull", owner.home, code=None).code != 0
    other("vault", "restore", snapshot, other.folder / "out")
    shutil.rmtree(owner.home)
    again = another(place, "again", OWNER)
    again("vault", "pull", kept.folder)
    again("vault", "restore", snapshot, again.folder / "out")


def test_damage_does_not_come_back_over_what_is_whole(owner, kept, data):  # noqa: F811
    """Neither at the request of a program nor by the custodian's own mending."""
    owner("vault", "snapshot", data)
    path = max((kept.folder / "objects").glob("??/blake3-*"), key=lambda path: path.stat().st_size)
    whole, uid = path.read_bytes(), path.stat().st_uid
    path.chmod(0o644)
    path.write_bytes(b"damaged" + whole[7:])
    asks = CustodianBackend(kept.folder / "objects", kept.folder / "socket")
    asks.discard(path.name)
    asks.put(path.name, whole)
    assert asks.recover(path.name) is False and asks.get(path.name) == whole and path.stat().st_uid == uid
    path.chmod(0o644)
    path.write_bytes(b"DAMAGED" + whole[7:])  # and now the live one goes bad
    asks.discard(path.name)
    assert len(list((kept.folder / "objects" / "trash" / path.parent.name).iterdir())) == 2, "both stay"
    asks.put(path.name, whole)
    owner("vault", "verify")


def test_nobody_else_stops_it(owner, kept, data):  # noqa: F811
    """Connections of a user whom it does not serve, many and silent; names that are none; a second one beside it."""
    command = [*CliAs(Path("/"), OTHER).command()[:-2], "-c", CROWD, str(kept.folder / "socket")]
    crowd = subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/")
    assert int(crowd.stdout.readline()) > 100
    owner("vault", "snapshot", data)
    crowd.kill()
    crowd.communicate()
    before = files_of(kept.folder / "objects")
    for key in ("blake3:" + "0" * 64, "..", "x" * 250, "objects", "BLAKE3-AA"):
        for act in ("put", "discard", "recover", "reclaim"):
            python_as(OWNER, ASK, kept.folder, act, key)
    assert files_of(kept.folder / "objects") == before
    owner("vault", "verify")
    assert "another custodian" in Cli(owner.folder).process("vault", "custodian", kept.folder, code=1).err
    owner("vault", "snapshot", data, "--name", "again")


def test_what_it_takes_over_the_home_cannot_lose(owner, kept, data):  # noqa: F811
    """Made durable in the home first: after a loss of power the two still agree."""
    owner("vault", "snapshot", data)
    words = [sys.executable, "-c", FOLLOW, owner.home, kept.folder, owner.folder / "scratch"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mechanism", ["modes", "flags"])
def test_a_seal_follows_no_link_of_the_owner_s(owner, place, mechanism):  # noqa: F811
    """Root seals and lifts within the vault, and nowhere else."""
    roots = place / "roots"
    roots.mkdir()
    (roots / "file").write_text("of root")
    os.chmod(roots, 0o700)
    (owner.home / "objects" / "aa").symlink_to(roots)
    root = Cli(owner.folder)
    from stillhouse.errors import StorageError
    from stillhouse.vault.sealing import Seal, flags_of, lift, seal

    if mechanism == "flags":
        assert "could not be sealed" in root("vault", "protect", "flags", code=1).err
    with pytest.raises(StorageError):
        seal(owner.home / "objects", Seal(mechanism))
    with pytest.raises(StorageError):
        lift(owner.home / "objects")
    assert flags_of(roots) & 0x30 == flags_of(roots / "file") & 0x30 == 0 and roots.stat().st_mode & 0o777 == 0o700
    (owner.home / "objects" / "aa").unlink()
    (owner.home / "objects" / "aa").mkdir()
    with pytest.raises(StorageError, match="belongs to user 0"):
        seal(owner.home / "objects", Seal(mechanism))


def test_a_pulled_home_has_no_custodian_that_the_source_names(owner, place):  # noqa: F811
    config = owner.home / "config.toml"
    before = config.read_text()
    forms = [
        f'[custody]\n  "custodian" = "{place}"\n', f'custody.custodian = "{place}"\n', f'custody = {{ custodian = "{place}" }}\n',
        f'[custody]\n   custodian="{place}"\n',
    ]  # fmt: skip
    for number, text in enumerate(forms):
        config.write_text(
            text + (before if text.startswith("custody") else "") if text[0] != "[" else before + "\n" + text
        )
        ran = Cli(place)("vault", "pull", owner.home, "--home", place / f"h{number}", code=None)
        made = place / f"h{number}" / "config.toml"
        assert ran.code != 0 or str(place) not in made.read_text().replace(str(made), ""), text


def test_many_store_at_once_under_a_seal(tmp_path):
    """One finds a folder open that another has opened, and is about to close."""
    from stillhouse.vault.local import LocalBackend
    from stillhouse.vault.sealing import Seal, lift, seal

    code = (
        "import sys; from pathlib import Path; from concurrent.futures import ThreadPoolExecutor\n"
        "from stillhouse.vault.local import LocalBackend\n"
        "store = LocalBackend(Path(sys.argv[1]))\n"
        "put = lambda n: store.put(f'blake3-{n % 3:02x}{n:062x}', b'x')\n"
        "with ThreadPoolExecutor(8) as pool: list(pool.map(put, range(99)))\n"
    )
    root = tmp_path / "objects"
    seal(root, Seal.MODES)
    user = OWNER if os.geteuid() == 0 else ""  # modes do not stop root: an ordinary user does it
    if user:
        for path in (tmp_path, *tmp_path.rglob("*")):
            shutil.chown(path, user)
        for path in (tmp_path, *tmp_path.parents[:2]):
            path.chmod(path.stat().st_mode | 0o055)
        python_as(user, code, root)
    else:
        subprocess.run([sys.executable, "-c", code, root], check=True)
    assert len(list(LocalBackend(root).list())) == 99
    lift(root)
