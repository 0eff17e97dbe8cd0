"""`guard run`: what a command can still do, and what it cannot, as its owner, as another user and as root."""

import os
import shutil
import subprocess
import sys

import pytest

from stillhouse.sandbox.inner import syscalls
from tests.vaults import tree

pytestmark = pytest.mark.skipif(
    syscalls.landlock_version() < syscalls.GUARD_VERSION, reason="this kernel has no Landlock 3: guard run refuses here"
)
DELETERS = {
    "rm": 'rm -rf "$1"',
    "rm of one file": 'rm -f "$(find "$1/objects" -name "blake3-*" -type f | head -1)"',
    "mv": 'mv "$1" "$2/moved"',
    "mv of the folder above": 'mv "$(dirname "$1")" "$2/moved"',
    "truncate": 'truncate -s 0 "$(find "$1/objects" -name "blake3-*" -type f | head -1)"',
    "overwrite": 'f="$(find "$1/objects" -name "blake3-*" -type f | head -1)"; chmod 644 "$f"; echo x > "$f"',
    "append": 'f="$(find "$1/objects" -name "blake3-*" -type f | head -1)"; chmod 644 "$f"; echo x >> "$f"',
    "find": 'find "$1" -delete',
    "link": 'ln "$(find "$1/objects" -name "blake3-*" -type f | head -1)" "$2/linked"',
    "rmtree": f'{sys.executable} -c "import shutil,sys; shutil.rmtree(sys.argv[1])" "$1" 2>&1',
    "in the background": '(sleep 0.1; rm -rf "$1") & wait',
    "by a link": 'ln -s "$1" "$2/way"; rm -rf "$2/way/"*',
    "new file": 'echo x > "$1/objects/new"',
}


@pytest.fixture
def guarded(tmp_path_factory, cli):
    """A home in a parent folder of its own, with something in it, and a folder to work in."""
    own = cli.folder / "own"
    own.mkdir()
    cli.home = own / "home"
    cli.environment["STILLHOUSE_HOME"] = str(cli.home)
    work = cli.folder / "work"
    work.mkdir()
    cli("init")
    (work / "data").write_text("data")
    cli("vault", "snapshot", work / "data")
    return cli


@pytest.mark.parametrize("name", DELETERS)
def test_nothing_under_custody_is_changed(guarded, name):
    before = tree(guarded.home / "objects"), tree(guarded.home / "log")
    script = guarded.write("script.sh", DELETERS[name])
    guarded.process("guard", "run", "--", "sh", script, guarded.home, guarded.folder / "work", code=None)
    after = tree(guarded.home / "objects"), tree(guarded.home / "log")
    assert [{path: what[2] for path, what in one.items()} for one in after] == [
        {path: what[2] for path, what in one.items()} for one in before
    ]
    assert not (guarded.folder / "work" / "linked").exists()
    guarded("vault", "verify")


@pytest.mark.parametrize("name", ["rm", "truncate", "overwrite", "rmtree"])
def test_the_same_commands_do_harm_without_a_guard(guarded, name):
    """Else the test above would show nothing."""
    script = guarded.write("script.sh", DELETERS[name])
    subprocess.run(["sh", str(script), str(guarded.home), str(guarded.folder / "work")], check=False)
    lost = not guarded.home.exists() or guarded("vault", "verify", code=None).code != 0
    assert lost


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_another_user_is_kept_from_it_too(guarded):
    for path in [guarded.home, *guarded.home.rglob("*")]:
        os.chown(path, 65534, 65534)
    for path in (guarded.folder, *guarded.folder.parents):
        if str(path) not in ("/", "/tmp") and path.stat().st_uid == 0:
            path.chmod(path.stat().st_mode | 0o055)
    program = f"import os,shutil; os.setgid(65534); os.setuid(65534); shutil.rmtree({str(guarded.home / 'objects')!r})"
    ran = guarded.process("guard", "run", "--", sys.executable, "-S", "-c", program.replace(";", "\n"), code=None)
    del ran
    guarded("vault", "verify")
    done = subprocess.run([sys.executable, "-S", "-c", program], check=False, capture_output=True)
    assert done.returncode == 0, "its owner could have done it"


def test_key_stores_are_kept_from_it_too(guarded):
    """What was erased stays erased, and what can be read stays readable: no command makes, alters or removes a key."""
    store = guarded.folder / "stick"
    store.mkdir()
    config = guarded.home / "config.toml"
    config.write_text(config.read_text() + f'\n[custody]\nkey_stores = ["{store}"]\n')
    guarded("vault", "snapshot", guarded.folder / "work" / "data", "--name", "sealed", "--erasable", "s1")
    before = {path: path.read_bytes() for path in store.iterdir()}
    assert before
    script = guarded.write(
        "s.sh", 'rm -f "$1"/*; for f in "$1"/*; do chmod 600 "$f"; echo x > "$f"; done; echo x > "$1/more"'
    )
    guarded.process("guard", "run", "--", "sh", script, store, code=None)
    assert {path: path.read_bytes() for path in store.iterdir()} == before
    guarded("vault", "restore", "sealed", guarded.folder / "back")


def test_what_was_open_is_closed_to_it(guarded):
    """A descriptor that may write is a way past every folder, whoever opened it."""
    import fcntl

    some = next((guarded.home / "objects").rglob("blake3-*"))
    before = some.read_bytes()
    some.chmod(0o644)
    file = os.open(some, os.O_RDWR)
    folder = os.open(some.parent, os.O_RDONLY)
    code = (
        "import os, sys\n"
        "def attempt(act, *given, **named):\n"
        "    try: act(*given, **named); print('done', act.__name__)\n"
        "    except OSError as failure: print('refused', failure)\n"
        "attempt(os.pwrite, int(sys.argv[1]), b'x', 0)\n"
        "attempt(os.ftruncate, int(sys.argv[1]), 0)\n"
        "attempt(os.unlink, sys.argv[3], dir_fd=int(sys.argv[2]))\n"
    )
    passed = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 50) for descriptor in (file, folder)]
    try:
        words = ["guard", "run", "--", sys.executable, "-c", code, *map(str, passed), some.name]
        done = subprocess.run(
            guarded.command(*words), pass_fds=passed, capture_output=True, text=True, env=guarded.environment
        )
    finally:
        for descriptor in (*passed, file, folder):
            os.close(descriptor)
    assert "done" not in done.stdout
    assert done.stdout.count("refused") == 3, done.stderr
    assert some.read_bytes() == before


def test_elsewhere_everything_works_and_the_exit_code_is_the_commands(guarded):
    work = guarded.folder / "work"
    script = "cd work && mkdir a && echo x > a/b && mv a/b c && rm -r a && ln c d && exit 7"
    guarded.process("guard", "run", "--", "sh", "-c", script, code=7)
    assert (work / "d").read_text() == "x\n"
    assert guarded.process("guard", "run", "--", "cat", work / "data").out == "data"
    assert guarded.process("guard", "run", "--", "ls", guarded.home).out, "it can be read"


def test_a_plan_says_what_is_closed(guarded):
    made = guarded.process("guard", "run", "--plan", "--json", "--", "true").json
    assert made["protected"] == [str(guarded.home)]
    assert str(guarded.home.parent) in made["closed"] and "/" in made["closed"]
    assert str(guarded.folder / "work") in made["changeable"]
    assert made["problems"] == []


def test_it_does_not_start_where_a_hard_link_leads_in(guarded):
    inner = next((guarded.home / "objects").rglob("blake3-*"))
    os.link(inner, guarded.folder / "work" / "backdoor")
    refused = guarded.process("guard", "run", "--", "touch", guarded.folder / "work" / "started", code=3)
    assert "hard links" in refused.err
    assert not (guarded.folder / "work" / "started").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_it_does_not_start_where_another_mount_leads_in(guarded):
    door = guarded.folder / "work" / "door"
    door.mkdir()
    words = guarded.command("guard", "run", "--", "rm", "-rf", str(door))
    script = f"mount --bind {guarded.home} {door} && exec {' '.join(words)}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        env=guarded.environment,
        cwd=guarded.folder,
        capture_output=True,
        text=True,
    )
    if "unshare failed" in done.stderr or "permission denied" in done.stderr:
        pytest.skip(f"this machine lets nobody mount: {done.stderr.strip()}")
    assert done.returncode == 3 and "also reached through the mount" in done.stderr
    guarded("vault", "verify")


def test_further_folders_and_what_is_not_there(guarded):
    work = guarded.folder / "work"
    guarded.process("guard", "run", "--protect", work, "--", "rm", "-f", work / "data", code=1)
    assert (work / "data").exists()
    assert (
        "does not exist"
        in guarded.process("guard", "run", "--protect", guarded.folder / "no", "--", "true", code=3).err
    )
    assert "no-such-program" in guarded.process("guard", "run", "--", "no-such-program", code=3).err
    shutil.rmtree(guarded.home)
    assert "no Stillhouse home" in guarded.process("guard", "run", "--", "true", code=1).err
