"""Set up what keeps the vault from being changed: seals on its folders, a custodian, a snapshot of the file system.

Decided first, as steps that ``--plan`` prints; done then, in an order in which a kill between any two loses nothing, and the same
command goes on. Run by root, it never opens the home (what root wrote in a ledger, the owner could not write again), follows no
link that the home's owner could have laid, and puts a custodian only where nobody else can move its folder away.
"""

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec
import tomlkit

from stillhouse.clock import now
from stillhouse.custody.protection.home_custodian import CHARGE, Charge
from stillhouse.errors import HomeError, StorageError, UsageError
from stillhouse.home.current_permission import KEYS, home_key, own_home_key
from stillhouse.home.open_home import HOME_VERSION, check_home
from stillhouse.home.settings import CONFIG, Settings
from stillhouse.permission.signing_keys import PUBLIC
from stillhouse.vault.files import storage_errors, sync_folder, write_whole
from stillhouse.vault.locks import locked
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


class SetupStep(NamedTuple):
    """One thing to do, in words, and doing it."""

    says: str
    act: Callable[[], object]


class Available(NamedTuple):
    """A mechanism on this machine: is it up, can this user put it up (or why not), and what it is worth."""

    mechanism: Mechanism
    up: bool
    obstacle: str
    resists: str
    does_not_resist: str


def available(settings: Settings) -> list[Available]:
    """Every mechanism, as it stands here."""
    check_home(settings.home)
    root = settings.objects
    sealed = seal_of(root)
    mine = root.is_dir() and root.stat().st_uid == os.geteuid()
    is_root = os.geteuid() == 0
    frozen = root.parent / FROZEN
    return [
        Available(
            Mechanism.MODES, sealed is Seal.MODES, "" if mine else f"{root} belongs to another user",
            "the owner's rm -rf, move and overwrite of objects", "the owner's chmod; root; removing the log beside them",
        ),
        Available(
            Mechanism.FLAGS, sealed is Seal.FLAGS, "" if is_root else "only root sets flags",
            "rm -rf, move, overwrite and truncate of objects by anybody, root included",
            "root's chattr -i; removing the log beside them",
        ),
        Available(
            Mechanism.CUSTODIAN, settings.custodian is not None, "" if is_root else "only root gives files to another user",
            "removing, changing and moving of objects and of the log's copy by users and programs of this home, and deletions "
            "that lack a signature of the roster",
            "root; one person alone where the roster has no second; what had an object open for writing before",
        ),
        Available(
            Mechanism.SNAPSHOT, frozen.is_dir() and any(frozen.iterdir()), _why_no_snapshot(root),
            "rm -rf, move, overwrite and truncate of what it holds, by anybody", "btrfs subvolume delete; loss of the disk",
        ),
    ]  # fmt: skip


def plan_protection(settings: Settings, mechanism: Mechanism, folder: Path | None, user: str) -> list[SetupStep]:
    """The steps that put a mechanism up. Raises HomeError, StorageError, UsageError where it cannot be."""
    found = next(one for one in available(settings) if one.mechanism is mechanism)
    if found.obstacle:
        raise StorageError(
            f"This cannot be set up here: {found.obstacle}.",
            next_step="`stillhouse vault protect` lists what can.",
        )
    root = settings.objects
    match mechanism:
        case Mechanism.MODES:
            return [SetupStep(f"give every folder of {root} the mode 0555", lambda: seal(root, Seal.MODES))]
        case Mechanism.FLAGS:
            return [
                SetupStep(
                    f"make every object in {root} immutable (+i), and every folder append-only (+a)",
                    lambda: seal(root, Seal.FLAGS),
                )
            ]
        case Mechanism.SNAPSHOT:
            target = root.parent / FROZEN / now().replace(":", "")
            words = [_BTRFS, "subvolume", "snapshot", "-r", str(root), str(target)]
            return [
                SetupStep(f"make the folder {target.parent}", lambda: target.parent.mkdir(exist_ok=True)),
                SetupStep(" ".join(words), lambda: _run(words)),
            ]
        case Mechanism.CUSTODIAN:
            return _custodian_steps(settings, folder, user)


def plan_lifting(settings: Settings, mechanism: Mechanism) -> list[SetupStep]:
    """The step that takes a seal off again. Raises UsageError for what is no seal."""
    if mechanism not in (Mechanism.MODES, Mechanism.FLAGS):
        raise UsageError(
            f"{mechanism} is no seal that can be lifted.", next_step="docs/custody.md says how to undo it."
        )
    return [SetupStep(f"take every seal off {settings.objects}", lambda: lift(settings.objects))]


def carry_out(steps: list[SetupStep], tell: Callable[[str], None]) -> None:
    """Do the steps in order. Raises StorageError."""
    for step in steps:
        tell(step.says)
        with storage_errors(f"Could not {step.says}"):
            step.act()


def _custodian_steps(settings: Settings, folder: Path | None, user: str) -> list[SetupStep]:
    home, owner = settings.home, settings.home.lstat()
    if folder is None:  # never from config.toml, which the home's owner writes
        raise UsageError("A custodian needs a folder of its own (--folder), on the file system of the home.")
    place = folder.resolve()
    if settings.custodian is not None and place != settings.custodian:
        raise UsageError(f"{home} has a custodian already: {settings.custodian}.")
    if place.is_relative_to(home.resolve()):
        raise UsageError(f"{place} is in the home, whose users could move it.", next_step="Choose a folder elsewhere.")
    above = place.parent
    if not above.is_dir() or above.stat().st_dev != owner.st_dev:
        raise StorageError(f"{above} must be there, on the file system of {home}, so that objects need not be copied.")
    check_above(place)
    _check_user(user, owner)
    _check_place(place, home, user)
    _check_objects(home / "objects")
    program = Path(shutil.which("stillhouse") or sys.executable).absolute()
    try:
        check_above(program.resolve())
        warning = ""
    except StorageError as failure:
        warning = f" (WARNING: {program} is what it starts. {failure.detail} They could become the custodian)"
    steps = [] if _exists(user) else [SetupStep(f"make the system user {user}", lambda: _make_user(user))]
    return [
        *steps,
        SetupStep(
            f"see that {user} can read the log of {home}, and that nothing writes it now",
            lambda: _check_log(home, user),
        ),
        SetupStep(f"make the custodian's folder {place}", lambda: _make_place(settings, place, owner)),
        SetupStep(
            f"let {home / CONFIG} name it: from now on only the custodian writes objects",
            lambda: _as(owner.st_uid, owner.st_gid, lambda: _name_custodian(home / CONFIG, place)),
        ),
        SetupStep(
            f"move the objects to {place / 'objects'}, which everybody may read",
            lambda: _move_objects(home, owner, place / "objects"),
        ),
        SetupStep(f"give {place} and all that is in it to {user}", lambda: _give(place, pwd.getpwnam(user))),
        SetupStep(
            f"write {place / 'stillhouse-custodian.service'}, for systemd{warning}",
            lambda: _write_unit(place, user, program),
        ),
    ]


def check_above(place: Path) -> None:
    """Who may write in a folder above could put another thing in its place. Raises StorageError."""
    for folder in place.parents:
        inode = folder.stat()
        sticky = bool(inode.st_mode & stat.S_ISVTX)
        if inode.st_uid != 0 or (inode.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky):
            raise StorageError(
                f"Others than root may move what is in {folder}.",
                next_step="Choose a folder (--folder) below folders of root alone, such as /srv or /var/lib.",
            )


def _check_user(user: str, owner: os.stat_result) -> None:
    if _exists(user) and pwd.getpwnam(user).pw_uid in (0, owner.st_uid):
        raise UsageError(
            f"{user} is root, or who works in the home: the custodian must be neither.",
            next_step="Choose another --user.",
        )


def _check_place(place: Path, home: Path, user: str) -> None:
    """What is there already must be root's and empty, or what an earlier try made for this home. Raises StorageError."""
    if not place.exists() and not place.is_symlink():
        return
    inode = place.lstat()
    ours = {0, *((pwd.getpwnam(user).pw_uid,) if _exists(user) else ())}
    if stat.S_ISDIR(inode.st_mode) and inode.st_uid in ours and not inode.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        if not any(place.iterdir()):
            return
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            if msgspec.json.decode((place / CHARGE).read_bytes(), type=Charge).home == str(home):
                return
    raise StorageError(
        f"{place} is there already, and not for this.", next_step="Choose a folder that does not exist yet."
    )


def _check_objects(objects: Path) -> None:
    """What is to be kept must be plain files and folders, of one name each. Raises StorageError."""
    if objects.is_symlink():
        raise StorageError(
            f"{objects} is a link.", next_step="Move what it leads to there, or put the home on that disk."
        )
    for folder, folders, files in os.walk(objects):
        for name in (*folders, *files):
            path = Path(folder) / name
            inode = path.lstat()
            if not stat.S_ISDIR(inode.st_mode) and not stat.S_ISREG(inode.st_mode):
                raise StorageError(
                    f"{path} is neither a plain file nor a folder.", next_step="Put the thing itself there."
                )
            if stat.S_ISREG(inode.st_mode) and inode.st_nlink > 1:
                raise StorageError(
                    f"{path} has a second name, by which it could be changed.", next_step="Copy it in its place."
                )


def _check_log(home: Path, user: str) -> None:
    """Raises HomeError, HomeBusy."""
    who = pwd.getpwnam(user)
    _as(
        who.pw_uid,
        who.pw_gid,
        lambda: [list(folder.iterdir()) for folder in (home / "log").iterdir() if folder.is_dir()],
    )
    for folder in sorted((home / "log").iterdir()):
        lock = folder / "lock"
        if lock.exists():
            with locked(lock, f"a command or a gateway that works in {home}: stop it first"):
                pass


def _make_place(settings: Settings, place: Path, owner: os.stat_result) -> None:
    for inner in (place, place / "log", place / KEYS):
        inner.mkdir(mode=0o755, exist_ok=True)
    if not (settings.home / KEYS / PUBLIC).is_file():
        _as(owner.st_uid, owner.st_gid, lambda: own_home_key(settings))
    if not (place / KEYS / PUBLIC).exists():  # from now on what the home signs is checked by this key, whatever it says
        write_whole(place / KEYS / PUBLIC, home_key(settings).encode())
    if not (place / CONFIG).exists():
        text = (
            "# What the custodian allows; the home's own config.toml has no say in it.\n[custody]\n"
            f"delete_bytes_per_day = {settings.custody.delete_bytes_per_day}\n"
        )
        write_whole(place / CONFIG, text.encode())
    write_whole(place / CHARGE, msgspec.json.encode(Charge(str(settings.home), (owner.st_uid,))))
    write_whole(place / "VERSION", f"{HOME_VERSION}\n".encode())


def _as(user: int, group: int, act: Callable[[], object]) -> None:
    """Do something with the rights of a user, and no more. Raises HomeError."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            act()
            code = 0
        except Exception as failure:
            os.write(write, str(failure).encode()[:1000])
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as told:
        why = told.read().decode()
    if os.waitpid(child, 0)[1] != 0:
        raise HomeError(f"(as user {user}: {why})", next_step="Put that right, then run the same command again.")


def _name_custodian(config: Path, place: Path) -> None:
    settings = tomlkit.parse(config.read_text(encoding="utf-8") if config.exists() else "")
    settings.setdefault("custody", tomlkit.table())["custodian"] = str(place)
    write_whole(config, tomlkit.dumps(settings).encode())
    config.chmod(0o644)


def _move_objects(home: Path, owner: os.stat_result, new: Path) -> None:
    """A rename, so that at any moment all of them are in one place; or nothing, where it was done before.

    Done within the folder that the home was when this was planned, and no other that was put in its place since. What stays there
    is a file, in which nobody can store anything by mistake.
    """
    within = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(within)
        if (found.st_dev, found.st_ino) != (owner.st_dev, owner.st_ino):
            raise HomeError(f"({home} is another folder than it was)", next_step="Run the command again.")
        with contextlib.suppress(FileNotFoundError):
            inode = os.stat("objects", dir_fd=within, follow_symlinks=False)
            if stat.S_ISDIR(inode.st_mode) and not new.exists():
                os.rename("objects", new, src_dir_fd=within)
                sync_folder(new.parent)
                os.fsync(within)
            elif stat.S_ISDIR(inode.st_mode):
                raise HomeError(
                    f"({home / 'objects'} has come back)", next_step=f"Move what is in it to {new} by hand."
                )
        new.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            left = os.open("objects", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444, dir_fd=within)
            os.write(left, f"The objects are in {new}.\n".encode())
            os.close(left)
    finally:
        os.close(within)


def _give(place: Path, user: pwd.struct_passwd) -> None:
    """Nothing of what is given may be writable by others, or have a name elsewhere. Raises StorageError."""
    _check_objects(place / "objects")
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(folder) / name
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
            _bare(path)
            path.chmod(0o755 if path.is_dir() else 0o444 if (place / "objects") in path.parents else 0o644)
    os.chown(place, user.pw_uid, user.pw_gid)
    _bare(place)


def _bare(path: Path) -> None:
    """Take its access lists off: they say who may write besides the mode."""
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        with contextlib.suppress(OSError):
            os.removexattr(path, name, follow_symlinks=False)


def _write_unit(place: Path, user: str, program: Path) -> None:
    start = f"{program} -m stillhouse" if program == Path(sys.executable).absolute() else str(program)
    text = (
        f"[Unit]\nDescription=Custodian of a Stillhouse vault\n\n[Service]\nUser={user}\n"
        f"ExecStart={start} vault custodian {place}\nRestart=always\n\n[Install]\nWantedBy=multi-user.target\n"
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
