"""Seals on the vault's folders: what each resists of what an owner, another user and root type, and that work goes on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stillhouse.errors import StorageError
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.sealing import Seal, lift, lifted, seal, seal_of, set_flags
from tests.conftest import Cli
from tests.users import OTHER, OWNER, needs_root, owner, place, run_as  # noqa: F401


@pytest.fixture
def data(owner):  # noqa: F811
    folder = owner.folder / "data"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.jsonl").write_text("".join(f'{{"row": "{name}{n}"}}\n' for n in range(3000)))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("blake3-*") if path.is_file()}


def accidents(user: str, objects: Path) -> None:
    """What people and scripts do by mistake: they do not change modes or flags first."""
    some = next(objects.rglob("blake3-*"))
    run_as(user, "rm", "-rf", objects, code=None)
    run_as(user, sys.executable, "-c", "import shutil, sys; shutil.rmtree(sys.argv[1])", objects, code=None)
    run_as(user, "find", objects, "-delete", code=None)
    run_as(user, "mv", some, some.with_name("away"), code=None)
    run_as(user, "sh", "-c", f"echo changed > {some}", code=None)
    run_as(user, "truncate", "-s", "0", some, code=None)


@pytest.mark.parametrize(
    ("mechanism", "resists", "yields"),
    [("nothing", [OTHER], [OWNER]), ("modes", [OTHER, OWNER], ["root"]), ("flags", [OTHER, OWNER, "root"], [])],
)
def test_accidents(owner, data, mechanism, resists, yields):  # noqa: F811
    taken = owner("vault", "snapshot", data, "--json").json
    objects, root = owner.home / "objects", Cli(owner.folder)
    if mechanism != "nothing":
        (owner if mechanism == "modes" else root)("vault", "protect", mechanism)
    before = files_of(objects)
    for user in resists:
        accidents(user, objects)
        assert files_of(objects) == before, f"{mechanism} against {user}"
    owner("vault", "restore", taken["snapshot"], owner.folder / "out")
    for user in yields:
        accidents(user, objects)
        assert files_of(objects) == {}, f"{mechanism} does not claim to resist {user}"


@pytest.mark.parametrize("mechanism", ["modes", "flags"])
def test_work_goes_on_under_a_seal(owner, data, mechanism):  # noqa: F811
    objects, root = owner.home / "objects", Cli(owner.folder)
    works = owner if mechanism == "modes" else root
    first = owner("vault", "snapshot", data, "--json").json["snapshot"]
    works("vault", "protect", mechanism)
    shown = {one["mechanism"]: one["up"] for one in owner("vault", "protect", "--json").json}
    assert shown == {
        "modes": mechanism == "modes",
        "flags": mechanism == "flags",
        "custodian": False,
        "snapshot": False,
    }
    assert f"sealed       by {mechanism}" in owner("status").out
    (data / "d.jsonl").write_text("".join(f'{{"row": "d{n}"}}\n' for n in range(3000)))
    second = owner("vault", "snapshot", data, "--json").json["snapshot"]
    owner("vault", "restore", second, owner.folder / "out")
    if mechanism == "flags":  # what came since is not sealed until root comes by, and nothing claims that it is
        assert "only root sets flags" in owner("tick", code=1).err
        works("vault", "protect", "flags")
    probed = {line["attacker"]: line for line in works("vault", "probe", "--json").json["copies"]}
    assert ("delete" in probed["root"]["resists"]) == (mechanism == "flags")
    assert not list(objects.rglob(".canary-*"))
    asked = owner("delete", "plan", f"snapshot:{first}", "--reason", "old", "--json").json
    if mechanism == "flags":
        said = owner("plan", "execute", asked["plan"], code=1).err
        assert "is sealed, and this user may not lift that" in said
        works("vault", "protect", "flags", "--lift")
        assert seal_of(objects) is None
        accidents(OWNER, objects)
        assert files_of(objects) == {}, "what is lifted is open"
        return
    owner("plan", "execute", asked["plan"])
    assert seal_of(objects) is Seal.MODES
    accidents(OWNER, objects)
    owner("delete", "undo", asked["plan"][7:19])
    owner("vault", "restore", first, owner.folder / "first")
    owner("vault", "protect", "modes", "--lift")
    assert seal_of(objects) is None


def test_who_may_not_is_told_so(owner):  # noqa: F811
    assert "only root sets flags" in owner("vault", "protect", "flags", code=1).err
    assert "belongs to another user" in Cli(owner.folder)("vault", "protect", "modes", code=1).err


def test_a_seal_that_a_kill_left_open_is_put_back(tmp_path):
    needs_root()
    store = LocalBackend(tmp_path)
    store.put("blake3-aa", b"1")
    try:
        seal(tmp_path, Seal.FLAGS)
        with lifted(tmp_path, (tmp_path / "aa",), (tmp_path / "aa" / "blake3-aa",)):
            (tmp_path / "aa" / "blake3-aa").unlink()  # in here it is open: which is why that is short
        set_flags(tmp_path / "aa", 0)  # as if killed in there
        seal(tmp_path, Seal.FLAGS)
        store.put("blake3-aa", b"2")
        with pytest.raises(OSError):
            (tmp_path / "aa" / "blake3-aa").unlink()
        store.discard("blake3-aa")
        with pytest.raises(OSError):
            (tmp_path / "trash" / "aa" / "blake3-aa").unlink()
        store.reclaim("blake3-aa")
        assert list(store.discarded()) == []
    finally:
        lift(tmp_path)


def test_a_file_system_without_flags_is_named(tmp_path):
    needs_root()
    folder = tmp_path / "memory"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "ramfs", "ramfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(StorageError, match="could not be sealed"):
            seal(folder / "objects", Seal.FLAGS)
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def btrfs(place):  # noqa: F811
    """A small file system of its own, mounted from a file."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("there is no mkfs.btrfs (the package is btrfs-progs)")
    image, mounted = place / "image", place / "mounted"
    mounted.mkdir()
    subprocess.run(["truncate", "-s", "256M", image], check=True)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, mounted], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def test_a_snapshot_of_the_file_system_outlives_everything_but_its_own_command(btrfs, tmp_path):
    root = Cli(btrfs)
    root.home = btrfs / "home"
    root.environment |= {"STILLHOUSE_HOME": str(root.home)}
    root.home.mkdir()
    subprocess.run(["btrfs", "subvolume", "create", root.home / "objects"], check=True, capture_output=True)
    root("init")
    (btrfs / "data").mkdir()
    (btrfs / "data" / "a.jsonl").write_text("".join(f'{{"row": {n}}}\n' for n in range(3000)))
    taken = root("vault", "snapshot", btrfs / "data", "--json").json
    root("vault", "protect", "snapshot")
    (frozen,) = (root.home / "frozen").iterdir()
    before = files_of(frozen)
    assert before == files_of(root.home / "objects") and len(before) >= 3
    for user in (OTHER, "root"):
        accidents(user, frozen)
        assert files_of(frozen) == before
    accidents("root", root.home / "objects")
    assert "missing" in root("vault", "verify", code=4).out
    shutil.copytree(frozen, root.home / "objects", dirs_exist_ok=True)
    root("vault", "restore", taken["snapshot"], tmp_path / "out")
    assert (tmp_path / "out" / "a.jsonl").read_bytes() == (btrfs / "data" / "a.jsonl").read_bytes()
    subprocess.run(["btrfs", "subvolume", "delete", frozen], check=True, capture_output=True)
    assert not frozen.exists(), "one command of root, as the table says"
