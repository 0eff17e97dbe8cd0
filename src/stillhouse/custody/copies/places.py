"""Copies of the vault in other places: find them, bring them up to date, keep their locks."""

import itertools
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from stillhouse.clock import now, utc_now
from stillhouse.custody.named_objects import held_nodes, named_objects, surely_named_objects
from stillhouse.errors import CorruptObject, StorageError, UnknownName
from stillhouse.home import facts
from stillhouse.home.current_permission import HEAD, KEYS
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.home.settings import CONFIG, Copy, Settings
from stillhouse.vault.backend import Backend
from stillhouse.vault.copying import Copied, Headed, LogEnd, copy_objects, newest_head, newest_name, write_head
from stillhouse.vault.files import identity, storage_errors
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects, digest_of, key_of
from stillhouse.vault.writer import segments

S3 = "s3://"
# Of a copy's objects so many are compared with the vault's own: those of a folder that was linked are all the same files.
_LOOKED_AT = 16
# What says who decides here, but no secrets: private keys are in no copy.
FILES = (CONFIG, "policy.toml", "prices.toml", HEAD)
_BACK_UP = "Run `stillhouse vault backup`, which brings what is missing."


class CopyPlace(NamedTuple):
    """An opened copy."""

    objects: Objects
    heads: Backend
    store: Backend


def open_place(copy: Copy) -> CopyPlace:
    """A copy's stores. Raises StorageError, MissingExtra."""
    if copy.place.startswith(S3):
        from stillhouse.vault.s3 import S3Backend

        bucket, _, prefix = copy.place.removeprefix(S3).partition("/")
        store = S3Backend(bucket, f"{prefix}/objects", copy.endpoint)
        return CopyPlace(Objects(store), S3Backend(bucket, f"{prefix}/heads", copy.endpoint), store)
    local = LocalBackend(Path(copy.place) / "objects")
    return CopyPlace(Objects(local), LocalBackend(Path(copy.place) / "heads"), local)


def root_of(copy: Copy) -> object:
    """What two names of one place have in common: device and inode of a folder, or the bucket."""
    if copy.place.startswith(S3):
        return copy.endpoint.rstrip("/").lower(), copy.place.removeprefix(S3).partition("/")[0]
    return identity(Path(copy.place)) or str(Path(copy.place).absolute())


def device_of(place: str) -> int | None:
    """The device that the objects of a folder are on; None for a bucket, or what is not there."""
    found = None if place.startswith(S3) else identity(Path(place) / "objects") or identity(Path(place))
    return found[0] if found else None


def overlap(settings: Settings, copy: Copy) -> str:
    """Why a place cannot hold a copy: it is this home, its vault, or another copy, or lies in one, or one lies in it, by whatever
    links; or its objects are the vault's own files by other names; else "".
    """
    if copy.place.startswith(S3):
        return ""
    own = [settings.home, settings.objects, *([settings.custodian] if settings.custodian else [])]
    others = dict(zip(("this home", "its vault", "its custodian's folder"), own, strict=False))
    others |= {f"the copy {one.name}": Path(one.place) for one in settings.copies if one.name != copy.name
               and not one.place.startswith(S3) and identity(Path(one.place)) != identity(Path(copy.place))}  # fmt: skip
    place = Path(copy.place)
    for name, other in others.items():
        for mine in _stores(place):
            for theirs in _stores(other):
                if identity(theirs) in _above(mine):
                    return f"is {name}, or lies in it"
                if identity(mine) in _above(theirs):
                    return f"holds {name}"
    some = itertools.islice((place / "objects").glob("??/*"), _LOOKED_AT)
    if any(identity(path) == identity(settings.objects / path.parent.name / path.name) for path in some):
        return "has the vault's own files by other names (hard links)"
    return ""


def _stores(folder: Path) -> list[Path]:
    """A folder of objects and heads, and those: each can be a link to somewhere else."""
    places = (folder.absolute(), folder / "objects", folder / "heads")
    return [place.resolve() for place in places if identity(place) is not None] or [folder.absolute()]


def _above(place: Path) -> set[tuple[int, int]]:
    return {found for folder in (place, *place.parents) if (found := identity(folder))}


def find_copy(settings: Settings, name: str) -> Copy:
    """A copy by its name in config.toml; the only one where none is named. Raises UnknownName."""
    found = [copy for copy in settings.copies if copy.name == name or not name]
    if len(found) != 1:
        known = ", ".join(copy.name for copy in settings.copies) or "none"
        raise UnknownName(
            f"No one copy is called {name!r} (there are: {known}).", next_step="Add [copies.NAME] to config.toml."
        )
    return found[0]


def backup(home: Home, copy: Copy, progress: Progress) -> Copied:
    """Bring a copy up to date. Raises CorruptObject, StorageError.

    Where the log stands is read first and written last: whatever it names was there before the objects were listed.
    """
    problem = overlap(home.settings, copy)
    if problem:
        raise StorageError(
            f"{copy.place} {problem}, so what is stored there is no copy.",
            next_step="Name a folder elsewhere in config.toml.",
        )
    began, place = now(), open_place(copy)
    home.recorder.refresh()
    progress.start(f"backup to {copy.name}", 0)
    heads = {head.writer: head.count for head in home.log.heads()}
    entries = sum(heads.values())
    ends = tuple(_ends(home.log, place.objects))
    copied = copy_objects(home.objects, place.objects, lambda done, size: progress.update(done, f"{size:,} bytes"))
    files = {name: data for name in settings_files(home.folder) if (data := text_of(home.folder / name))}
    write_head(place.heads, Headed(began, entries, ends, files, newest_name(place.heads)))
    copied.check()
    there = set(place.objects.list())
    lacking = [digest for digest in named_objects(home).objects if digest not in there]
    if lacking:
        raise CorruptObject(
            f"{len(lacking)} objects that are needed are neither here nor there, {lacking[0]} among them.",
            next_step="`stillhouse vault verify` says what that hits. The rest was copied.",
        )
    home.recorder.record(
        facts.CopyMade(
            at=began, by=home.recorder.by, copy=copy.name, place=copy.place, domain=copy.domain, objects=copied.objects,
            added=copied.added, bytes=copied.bytes, entries=entries, sampled=copied.sampled, heads=heads,
        )
    )  # fmt: skip
    home.recorder.refresh()
    renew_locks(home, copy)
    progress.finish(
        f"{copied.added} objects, {copied.bytes:,} bytes, each read back there; {copied.sampled} of the others read again"
    )
    return copied


def renew_locks(home: Home, copy: Copy) -> str:
    """Let the store keep what is named for its whole time again; returns the earliest day on which a lock ends, "" without locks.

    What is no longer named is not renewed: that is how it is deleted there, and why every mistake has that long to be noticed.
    What is held here gets a legal hold there, and loses it when the hold is released.
    """
    if not copy.lock_days:
        return ""
    from stillhouse.vault.s3 import S3Backend

    place = open_place(copy)
    store, heads = place.store, place.heads
    if not isinstance(store, S3Backend) or not isinstance(heads, S3Backend) or not store.has_lock():
        raise StorageError(
            f"{copy.place} has no Object Lock, so it can keep nothing for {copy.lock_days} days.",
            next_step="Make the bucket with Object Lock, or take lock_days out of config.toml: nothing is locked there.",
        )
    until = utc_now() + timedelta(days=copy.lock_days)
    named = surely_named_objects(home).objects
    held = held_nodes(home)
    newest = newest_head(heads)
    log_ends = {end.object for end in (newest.ends if newest else ())}
    last = [(heads, name) for name in heads.list()][-1:]
    ends = []
    for where, key in [*((store, key_of(digest)) for digest in sorted({*named, *log_ends})), *last]:
        try:
            where.lock_until(key, until)
            lock = where.lock(key)
            on = bool(named.get(digest_of(key), set()) & held)
            if lock.held != on:
                where.hold(key, on=on)
        except KeyError:
            raise CorruptObject(f"{key} is not in {copy.name}, so nothing locks it.", next_step=_BACK_UP) from None
        ends.append(lock.until)
    return min(ends, default="")[:10]


def _ends(log: Log, objects: Objects) -> Iterable[LogEnd]:
    for writer in log.writers():
        names = segments(log.root / writer)
        if names:
            data = (log.root / writer / names[-1]).read_bytes()
            yield LogEnd(writer, names[-1], objects.put(data))


def settings_files(folder: Path) -> list[str]:
    """The names of a home's settings and public keys, which a copy has too."""
    more = [str(path.relative_to(folder)) for path in sorted((folder / KEYS).rglob("*.pub"))]
    more += [str(path.relative_to(folder)) for path in sorted((folder / "terms").glob("*.toml"))]
    return [*FILES, *more]


def text_of(path: Path) -> str:
    """What a file says; empty where there is none. Raises StorageError."""
    with storage_errors(f"{path} could not be read"):
        return path.read_text(encoding="utf-8") if path.is_file() else ""
