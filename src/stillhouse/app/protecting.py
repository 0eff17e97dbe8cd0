"""Put up what keeps the vault from being changed: seals on its folders, a custodian, a snapshot of the file system.

Decided first, as steps that ``--plan`` prints; done then, in an order in which a kill between any two loses nothing, and the same
command goes on. Run by root, it never opens the home (what root wrote in a ledger, the owner could not write again), follows no
link that the home's owner could have laid, and puts a custodian only where nobody else can move its folder away.
"""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillhouse.app.custodian import CHARGE, Charge
from stillhouse.app.home import HOME_VERSION, check_home
from stillhouse.app.permission import KEYS, home_key, own_home_key
from stillhouse.app.pulling import follow
from stillhouse.errors import HomeError, StorageError, UsageError
from stillhouse.identity.keys import PUBLIC
from stillhouse.recorder import now
from stillhouse.settings.home import CONFIG, Settings
from stillhouse.vault.files import storage_errors, sync_folder, write_whole
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects
from stillhouse.vault.sealing import Seal, lift, seal, seal_of

USER = "stillhouse"
FROZEN = "frozen"
_COMMAND_SECONDS = 600
_BTRFS = "btrfs"


class Mechanism(StrEnum):
    """What can keep a vault in a folder as it is."""

    MODES = "modes"
    FLAGS = "flags"
    CUSTODIAN = "custodian"
    SNAPSHOT = "snapshot"


class Step(NamedTuple):
    """One thing to do, in words, and doing it."""

    says: str
    act: Callable[[], object]


class Standing(NamedTuple):
    """A mechanism on this machine: is it up, can this user put it up (or why not), and what it is worth."""

    mechanism: Mechanism
    up: bool
    obstacle: str
    resists: str
    does_not_resist: str


def standings(settings: Settings) -> list[Standing]:
    """Every mechanism, as it stands here."""
    check_home(settings.home)
    root = settings.objects
    sealed = seal_of(root)
    mine = root.is_dir() and root.stat().st_uid == os.geteuid()
    is_root = os.geteuid() == 0
    frozen = root.parent / FROZEN
    return [
        Standing(
            Mechanism.MODES, sealed is Seal.MODES, "" if mine else f"{root} belongs to another user",
            "the owner's rm -rf, move and overwrite", "the owner's chmod; root",
        ),
        Standing(
            Mechanism.FLAGS, sealed is Seal.FLAGS, "" if is_root else "only root sets flags",
            "rm -rf, move, overwrite and truncate by anybody, root included", "root's chattr -i",
        ),
        Standing(
            Mechanism.CUSTODIAN, settings.custodian is not None, "" if is_root else "only root gives files to another user",
            "everything that users and programs of this home do, and deletions that lack a signature", "root",
        ),
        Standing(
            Mechanism.SNAPSHOT, frozen.is_dir() and any(frozen.iterdir()), _why_no_snapshot(root),
            "rm -rf, move, overwrite and truncate of what it holds, by anybody", "btrfs subvolume delete; loss of the disk",
        ),
    ]  # fmt: skip


def plan_protection(settings: Settings, mechanism: Mechanism, folder: Path | None, user: str) -> list[Step]:
    """The steps that put a mechanism up. Raises HomeError, StorageError, UsageError where it cannot be."""
    found = next(one for one in standings(settings) if one.mechanism is mechanism)
    if found.obstacle:
        raise StorageError(
            f"This cannot be put up here: {found.obstacle}.",
            next_step="`stillhouse vault protect` lists what can.",
        )
    root = settings.objects
    match mechanism:
        case Mechanism.MODES:
            return [Step(f"give every folder of {root} the mode 0555", lambda: seal(root, Seal.MODES))]
        case Mechanism.FLAGS:
            return [
                Step(
                    f"make every object in {root} immutable (+i), and every folder append-only (+a)",
                    lambda: seal(root, Seal.FLAGS),
                )
            ]
        case Mechanism.SNAPSHOT:
            target = root.parent / FROZEN / now().replace(":", "")
            words = [_BTRFS, "subvolume", "snapshot", "-r", str(root), str(target)]
            return [
                Step(f"make the folder {target.parent}", lambda: target.parent.mkdir(exist_ok=True)),
                Step(" ".join(words), lambda: _run(words)),
            ]
        case Mechanism.CUSTODIAN:
            return _custodian_steps(settings, folder, user)


def plan_lifting(settings: Settings, mechanism: Mechanism) -> list[Step]:
    """The step that takes a seal off again. Raises UsageError for what is no seal."""
    if mechanism not in (Mechanism.MODES, Mechanism.FLAGS):
        raise UsageError(
            f"{mechanism} is no seal that can be lifted.", next_step="docs/custody.md says how to undo it."
        )
    return [Step(f"take every seal off {settings.objects}", lambda: lift(settings.objects))]


def carry_out(steps: list[Step], tell: Callable[[str], None]) -> None:
    """Do the steps in order. Raises StorageError."""
    for step in steps:
        tell(step.says)
        with storage_errors(f"Could not {step.says}"):
            step.act()


def _custodian_steps(settings: Settings, folder: Path | None, user: str) -> list[Step]:
    home = settings.home
    if folder is None and settings.custodian is None:
        raise UsageError("A custodian needs a folder of its own (--folder), on the file system of the home.")
    place = (folder or settings.custodian or home).resolve()
    if settings.custodian is not None and place != settings.custodian:
        raise UsageError(f"{home} has a custodian already: {settings.custodian}.")
    if place.is_relative_to(home):
        raise UsageError(f"{place} is in the home, whose users could move it.", next_step="Choose a folder elsewhere.")
    above = place.parent
    if not above.is_dir() or above.stat().st_dev != home.stat().st_dev:
        raise StorageError(f"{above} must be there, on the file system of {home}, so that objects need not be copied.")
    _check_above(place)
    owner = home.stat()
    steps = [] if _exists(user) else [Step(f"make the system user {user}", lambda: _make_user(user))]
    return [
        *steps,
        Step(f"make the custodian's folder {place}", lambda: _make_folder(settings, place, owner)),
        Step(
            f"let {home / CONFIG} name it: from now on only the custodian writes objects",
            lambda: _name_custodian(home / CONFIG, place, owner),
        ),
        Step(f"move the objects to {place / 'objects'}", lambda: _move_objects(home / "objects", place / "objects")),
        Step(f"copy the log of {home} there", lambda: follow_once(home, place)),
        Step(f"give {place} and all that is in it to {user}", lambda: _give(place, pwd.getpwnam(user))),
        Step(f"write {place / 'stillhouse-custodian.service'}, for systemd", lambda: _write_unit(place, user)),
    ]


def follow_once(home: Path, place: Path) -> None:
    """Copy a home's log into a custodian's folder. Raises CorruptLog where it does not continue what is there."""
    objects = Objects(LocalBackend(place / "objects"))
    follow(Log(place / "log", objects), Log(home / "log", objects))


def _check_above(place: Path) -> None:
    """Who may write in a folder above could put another one in its place. Raises StorageError."""
    for folder in place.parents:
        inode = folder.stat()
        sticky = bool(inode.st_mode & stat.S_ISVTX)
        if inode.st_uid != 0 or (inode.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky):
            raise StorageError(
                f"Others than root may move what is in {folder}.",
                next_step="Choose a folder (--folder) below folders of root alone, such as /srv or /var/lib.",
            )


def _make_folder(settings: Settings, place: Path, owner: os.stat_result) -> None:
    for inner in (place, place / "log", place / KEYS):
        inner.mkdir(mode=0o755, exist_ok=True)
    if not (settings.home / KEYS / PUBLIC).is_file():
        _as_owner(owner, lambda: own_home_key(settings))
    if not (place / KEYS / PUBLIC).exists():  # from now on what the home signs is checked by this key, whatever it says
        write_whole(place / KEYS / PUBLIC, home_key(settings).encode())
    if not (place / CONFIG).exists():
        caps = settings.custody
        text = (
            "# What the custodian allows; the home's own config.toml has no say in it.\n[custody]\n"
            f'delete_bytes_per_day = {caps.delete_bytes_per_day}\ndelete_usd_per_day = "{caps.delete_usd_per_day}"\n'
        )
        write_whole(place / CONFIG, text.encode())
    write_whole(place / CHARGE, msgspec.json.encode(Charge(str(settings.home), (owner.st_uid,))))
    write_whole(place / "VERSION", f"{HOME_VERSION}\n".encode())


def _as_owner(owner: os.stat_result, act: Callable[[], object]) -> None:
    """Do something with the rights of the home's owner, and no more. Raises HomeError."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
            act()
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        raise HomeError("(its owner cannot make its signing key)", next_step="See that its owner may write there.")


def _name_custodian(config: Path, place: Path, owner: os.stat_result) -> None:
    line = f'custodian = "{place}"'
    lines = _read_owned(config, owner).splitlines()
    if line in lines:
        return
    if "[custody]" in lines:
        lines.insert(lines.index("[custody]") + 1, line)
    else:
        lines += ["", "[custody]", line]
    write_whole(config, "\n".join([*lines, ""]).encode())
    descriptor = os.open(config, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o644)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)


def _read_owned(path: Path, owner: os.stat_result) -> str:
    """What a file of the home's owner says; "" where there is none. A link is not followed. Raises HomeError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    with open(descriptor, encoding="utf-8") as file:
        if os.fstat(descriptor).st_uid not in (0, owner.st_uid):
            raise HomeError(f"({path} belongs to neither root nor the home's owner)", next_step="Put that right first.")
        return file.read()


def _move_objects(old: Path, new: Path) -> None:
    """A rename, so that at any moment all of them are in one place; or nothing, where it was done before."""
    if old.is_dir() and not new.exists():
        os.rename(old, new)
        sync_folder(new.parent)
        sync_folder(old.parent)
    new.mkdir(exist_ok=True)
    if old.is_dir() and any(old.rglob("blake3-*")):
        raise HomeError(
            f"({old} has objects, and {new} is there already)", next_step=f"Move what is in {old} there by hand."
        )


def _give(place: Path, user: pwd.struct_passwd) -> None:
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(folder) / name
            if path.is_file() and path.lstat().st_nlink > 1:
                raise HomeError(
                    f"({path} has a second name, by which it could be changed)", next_step="Copy it in its place."
                )
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    os.chown(place, user.pw_uid, user.pw_gid)


def _write_unit(place: Path, user: str) -> None:
    program = shutil.which("stillhouse") or "stillhouse"
    text = (
        f"[Unit]\nDescription=Custodian of a Stillhouse vault\n\n[Service]\nUser={user}\n"
        f"ExecStart={program} vault custodian {place}\nRestart=always\n\n[Install]\nWantedBy=multi-user.target\n"
    )
    write_whole(place / "stillhouse-custodian.service", text.encode())


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _make_user(user: str) -> None:
    _run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", user])


def _why_no_snapshot(root: Path) -> str:
    if shutil.which(_BTRFS) is None:
        return "there is no btrfs program (the package is btrfs-progs)"
    shown = subprocess.run([_BTRFS, "subvolume", "show", str(root)], capture_output=True, text=True, check=False)
    return "" if shown.returncode == 0 else f"{root} is no btrfs subvolume that this user may look at"


def _run(words: list[str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
    except FileNotFoundError as failure:
        raise StorageError(
            f"There is no program {words[0]}.", next_step=f"Run `{' '.join(words)}` in your own way."
        ) from failure
    if done.returncode:
        raise StorageError(
            f"`{' '.join(words)}` failed: {done.stderr.strip()}.", next_step="Correct that, then run it again."
        )
