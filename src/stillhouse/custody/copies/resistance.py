"""Find out what a copy of the vault resists: by trying, on an object made for that, and by reading what keeps the real ones.

Covers: what this process can do to this copy now, with its own rights. What others can do is concluded from owners, modes,
flags and locks that were read, and each line says which. Does not cover: what nobody can try harmlessly (closing an account,
burning a machine); those stand under what is not resisted, always.
"""

import contextlib
import os
import random
import secrets
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec

from stillhouse.canon import digest_bytes
from stillhouse.clock import utc_now
from stillhouse.errors import StorageError
from stillhouse.vault.files import storage_errors
from stillhouse.vault.s3 import S3Backend
from stillhouse.vault.sealing import APPEND, IMMUTABLE, flags_of, lifted, sealed_like

_SAMPLE = 32
_WORKED, _REFUSED, _UNKNOWN = "worked", "refused", "unknown"
_ACTS = ("delete", "overwrite", "truncate", "move", "change owner or mode")
PROGRAM, OWNER, OTHER, ROOT = "this program", "owner", "other user", "root"
THIEF, CLOUD = "thief of this credential", "cloud admin"


class Resistance(msgspec.Struct, frozen=True):
    """One copy and one attacker. ``basis``: tried (on a canary, now), or concluded (from what was read)."""

    where: str
    attacker: str
    mechanisms: tuple[str, ...]
    resists: tuple[str, ...]
    does_not_resist: tuple[str, ...]
    basis: str


class _Kept(msgspec.Struct, frozen=True):
    """What was read of real objects in a folder: the weakest of what any of them has."""

    sampled: int
    owners: frozenset[int]
    others_may_write: bool
    immutable: bool
    fixed: bool
    file_modes: frozenset[int]


def probe_folder(where: str, root: Path) -> list[Resistance]:
    """Probe a copy in a folder. Raises StorageError where it cannot even be looked at."""
    if not root.is_dir():
        return [
            Resistance(
                where, "anybody", ("NONE: there is no such folder",), (), ("there is nothing here to lose",), "tried"
            )
        ]
    kept = _read_folder(root)
    mechanisms, always = _mechanisms(kept), ("loss of this machine or disk",)
    tried, basis = _try_folder(root)
    stood = tuple(act for act in _ACTS if tried[act] == _REFUSED)
    fell = tuple(act for act in _ACTS if tried[act] == _WORKED)
    unknown = tuple(f"{act} (could not be tried)" for act in _ACTS if tried[act] == _UNKNOWN)
    by_flags = tuple(act for act in _ACTS if kept.immutable and act != "move") + (("move",) if kept.fixed else ())
    without = tuple(act for act in _ACTS if act not in by_flags)
    above, whole = _movable(root), ("moving all of it away, by way of a folder above; removing the log beside it",)
    rooted = ("taking the flags off (chattr -i), then everything",) if kept.immutable else ()
    others = () if kept.others_may_write else _ACTS
    return [
        Resistance(where, PROGRAM, mechanisms, stood, (*fell, *unknown, *above, *always), basis),
        Resistance(where, OWNER, mechanisms, by_flags, (*without, *whole, *always), "concluded: an owner may change modes"),
        Resistance(
            where, OTHER, mechanisms, others, (*(_ACTS if kept.others_may_write else ()), *always),
            "concluded from owners and modes, of the folders above too",
        ),
        Resistance(
            where, ROOT, mechanisms, by_flags, (*without, *rooted, *whole, *always),
            "concluded: root is bound by flags alone",
        ),
    ]  # fmt: skip


def probe_bucket(where: str, store: S3Backend) -> list[Resistance]:
    """Probe a copy in a bucket."""
    tried, until = _try_bucket(store)
    keys = list(store.list())
    sample = random.SystemRandom().sample(keys, min(_SAMPLE, len(keys)))
    locks = [store.lock(key) for key in sample]
    locked = bool(locks) and all(lock.mode == "COMPLIANCE" and lock.until > _now() for lock in locks)
    first = min((lock.until for lock in locks if lock.until), default="")
    try:
        rules = store.lifecycle_rules()
    except StorageError:
        rules = ("unknown: this credential may not read them",)
    unlocked = sum(not lock.until for lock in locks)
    covered = [key for key in store.covered() if not key.startswith("canary-")]
    mechanisms = (
        "versions: what is deleted is hidden, and comes back",
        *((f"COMPLIANCE lock on each of {len(sample)} sampled objects, the first ends {first}",) if locked else ()),
        *((f"legal hold on {sum(lock.held for lock in locks)} of {len(sample)} sampled objects",) if locks else ()),
        *((f"NONE: {unlocked} of {len(sample)} sampled objects are not locked",) if not locked else ()),
        *((f"WARNING: {len(covered)} objects have other versions above or below theirs",) if covered else ()),
        *((f"WARNING: the bucket itself removes objects (lifecycle rules {', '.join(rules)})",) if rules else ()),
    )
    stood = tuple(act for act, came in tried.items() if came == _REFUSED)
    fell = tuple(
        f"{act}{' (could not be tried)' if came == _UNKNOWN else ''}" for act, came in tried.items() if came != _REFUSED
    )
    canary = f"tried on a canary locked until {until}" if until else "tried on a canary without a lock"
    later = ("locks that are not renewed",) if locked else ()
    kept = (f"removal of the sampled objects' versions before {first}", "shortening their locks") if locked else ()
    lost = () if locked else ("removal of versions",)
    hidden = ("hiding objects behind delete markers (undone by recovering)",)
    return [
        Resistance(where, PROGRAM, mechanisms, stood, (*fell, *hidden, *later), canary),
        Resistance(
            where, THIEF, mechanisms, kept, (*lost, *hidden, *later, "reading everything"), "concluded from locks"
        ),
        Resistance(
            where,
            CLOUD,
            mechanisms,
            kept,
            (*lost, *later, "closing the account", "deleting the key that the bucket encrypts with", "an unpaid bill"),
            "concluded from locks",
        ),
    ]


def _now() -> str:
    return utc_now().isoformat(timespec="seconds").replace("+00:00", "Z")


def _try_folder(root: Path) -> tuple[dict[str, str], str]:
    """Do to canaries what would be a loss for real objects. Nothing is left behind if it can be helped.

    Where no canary can be made, a real object is asked whether this process could write to it, and its folder too: what can do
    neither is refused everything, and of all else nothing is known.
    """
    attempts: dict[str, Callable[[Path], object]] = {
        "delete": os.unlink,
        "overwrite": lambda path: _write(path, os.O_WRONLY),
        "truncate": lambda path: _write(path, os.O_WRONLY | os.O_TRUNC),
        "move": lambda path: os.rename(path, path.with_name(path.name + ".moved")),
        "change owner or mode": lambda path: os.chmod(path, 0o600),
    }
    found = {}
    for act, attempt in attempts.items():
        path = _canary(root)
        if path is None:
            return _without_canary(root), f"concluded from every folder and {_SAMPLE} objects: no canary can be made"
        try:
            attempt(path)
            found[act] = _WORKED
        except OSError:
            found[act] = _REFUSED
        for left in (path, path.with_name(path.name + ".moved")):
            with contextlib.suppress(OSError, StorageError), lifted(root, (left.parent,), (left,)):
                left.unlink()
    if found["change owner or mode"] == _WORKED:
        # Two steps that one program can take are one step.
        found["overwrite"] = found["truncate"] = _WORKED
    return found, "tried"


def _without_canary(root: Path) -> dict[str, str]:
    """What is known where nothing can be made in some folder: each folder, and real objects, are asked and not touched."""
    folders = [
        root,
        *(half / name for half in (root, root / "trash") for name in (half.iterdir() if half.is_dir() else ())),
    ]
    folders = [folder for folder in folders if folder.is_dir()]
    objects = [path for path in root.glob("??/*") if path.name.startswith("blake3-")]
    sample = random.SystemRandom().sample(objects, min(_SAMPLE, len(objects)))
    if not sample:
        return dict.fromkeys(_ACTS, _UNKNOWN)
    own = os.geteuid()
    owned = any(path.stat().st_uid == own for path in (*folders, *sample))
    fixed = all(flags_of(path) & IMMUTABLE for path in sample)
    may_write = any(os.access(path, os.W_OK) for path in (*folders, *sample))
    if fixed or not (owned or may_write or own == 0):
        return dict.fromkeys(_ACTS, _REFUSED)
    return dict.fromkeys(_ACTS, _UNKNOWN)


def _movable(root: Path) -> tuple[str, ...]:
    """Could this process move the whole folder away, by way of one above it? It would be elsewhere then, and whole."""
    for folder in root.resolve().parents:
        inode, below = folder.stat(), root.stat()
        bound = inode.st_mode & stat.S_ISVTX and os.geteuid() not in (0, inode.st_uid, below.st_uid)
        if os.access(folder, os.W_OK) and not bound and not flags_of(folder) & (IMMUTABLE | APPEND):
            return (f"moving all of it away (this process may write in {folder})",)
    return ()


def _canary(root: Path) -> Path | None:
    """A file like a real object, in a folder of real objects, under a name that no object has."""
    folders = (
        [folder for folder in root.iterdir() if folder.is_dir() and len(folder.name) == 2] if root.is_dir() else []
    )
    folder = random.SystemRandom().choice(folders) if folders else root
    path = folder / f".canary-{secrets.token_hex(8)}"
    if flags_of(folder) & APPEND and os.geteuid() != 0:
        return None  # it could be made, and never removed
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        os.write(descriptor, b"canary")
        os.close(descriptor)
        sealed_like(path, folder)
    except OSError:
        return None
    return path


def _write(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.write(descriptor, b"changed")
    finally:
        os.close(descriptor)


def _read_folder(root: Path) -> _Kept:
    with storage_errors(f"{root} could not be looked at"):
        files = [path for path in root.glob("??/*") if path.name.startswith("blake3-")]
        sample = random.SystemRandom().sample(files, min(_SAMPLE, len(files)))
        inodes = [path.stat() for path in sample]
        folders = [folder.stat() for folder in {*(path.parent for path in sample), root}]
        # Who may rename a folder above may take away what is in it; a sticky one lets only owners.
        above = [folder.stat() for folder in root.resolve().parents]
    writable = [inode for inode in (*inodes, *folders) if inode.st_mode & (stat.S_IWOTH | stat.S_IWGRP)]
    writable += [one for one in above if one.st_mode & (stat.S_IWOTH | stat.S_IWGRP) and not one.st_mode & stat.S_ISVTX]
    owners = {inode.st_uid for inode in (*inodes, *folders)}
    writable += [one for one in above if one.st_uid not in {0, *owners}]
    return _Kept(
        len(sample),
        frozenset(inode.st_uid for inode in (*inodes, *folders)),
        bool(writable),
        bool(sample)
        and all(flags_of(path) & IMMUTABLE and flags_of(path.parent) & (IMMUTABLE | APPEND) for path in sample),
        bool(flags_of(root) & IMMUTABLE),
        frozenset(stat.S_IMODE(inode.st_mode) for inode in inodes),
    )


def _mechanisms(kept: _Kept) -> tuple[str, ...]:
    if not kept.sampled:
        return ("NONE: there is no object to look at yet",)
    modes = ", ".join(f"{mode:04o}" for mode in sorted(kept.file_modes))
    owners = ", ".join(map(str, sorted(kept.owners)))
    own = os.geteuid()
    found = [f"{kept.sampled} sampled objects have mode {modes} and belong to user {owners}"]
    found += ["another user than this one owns them"] if own not in kept.owners and own != 0 else []
    found += ["immutable flag on files and folders"] if kept.immutable else []
    return tuple(found)


def _try_bucket(store: S3Backend) -> tuple[dict[str, str], str]:
    """Lock a canary as real objects are, and try to get rid of it."""
    data = f"canary {secrets.token_hex(16)}".encode()
    key = "canary-" + digest_bytes(data).partition(":")[2]
    until = utc_now() + timedelta(days=1)
    store.put(key, data)
    locked = store.has_lock()
    if locked:
        store.lock_until(key, until)
    # Covering comes last: the two before it act on the newest version, which is then no longer the locked one.
    shortened = _tried(lambda: store.shorten(key)) if locked else _WORKED
    removed = _tried(lambda: store.remove_version(key))
    if removed == _WORKED:
        store.put(key, data)
    covered = _tried(lambda: _covers(store, key, data))
    _tried(lambda: store.remove_version(key))
    store.discard(key)
    return {
        "put a version over it": covered,
        "shorten the lock": shortened,
        "remove a version": removed,
    }, until.isoformat() if locked else ""


def _covers(store: S3Backend, key: str, data: bytes) -> bool:
    """Put another version over an object: is it then lost to whoever reads it by its digest?"""
    store.put_over(key, b"something else")
    return store.get(key) != data


def _tried(act: Callable[[], bool]) -> str:
    try:
        return _WORKED if act() else _REFUSED
    except StorageError:
        return _UNKNOWN
