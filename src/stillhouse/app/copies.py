"""Copies of the vault in other places: make them, rebuild a home from one, follow a home from another machine."""

import contextlib
import fcntl
import os
import random
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from stillhouse import facts
from stillhouse.app.home import HOME_VERSION, App
from stillhouse.app.permission import HEAD, KEYS
from stillhouse.app.progress import Progress
from stillhouse.app.references import named_objects, surely_named_objects
from stillhouse.app.trash import discard
from stillhouse.custody.probe import Line, probe_bucket, probe_folder
from stillhouse.errors import CorruptLog, CorruptObject, HomeBusy, HomeError, StorageError, UnknownName
from stillhouse.ledger.store import Ledger
from stillhouse.recorder import now
from stillhouse.settings.home import CONFIG, Copy, Settings
from stillhouse.vault.backend import Backend
from stillhouse.vault.copying import Copied, End, Headed, copy_objects, newest_head, write_head
from stillhouse.vault.files import storage_errors, write_whole
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects
from stillhouse.vault.writer import segments

S3 = "s3://"
# What says who decides here, but no secrets: private keys are in no copy.
_FILES = (CONFIG, "policy.toml", "prices.toml", HEAD)
_MORE_FILES = re.compile(r"(keys|keys/roster|terms)/[A-Za-z0-9_][A-Za-z0-9_.@-]*\.(pub|toml)")
_SEGMENT = re.compile(r"w[0-9]{4}/[0-9]{12}\.segment")
_BACK_UP = "Run `stillhouse vault backup`, which brings what is missing."


class Place(NamedTuple):
    """An opened copy."""

    objects: Objects
    heads: Backend
    store: Backend


class Scrub(NamedTuple):
    """What a scrub found. ``at_most`` is the share of bad objects that it rules out with 99 % confidence, where it read a
    sample.
    """

    objects: int
    read: int
    bad: tuple[tuple[str, str, tuple[str, ...]], ...]
    repaired: tuple[str, ...]
    at_most: float


def open_place(copy: Copy) -> Place:
    """A copy's stores. Raises StorageError, MissingExtra."""
    if copy.place.startswith(S3):
        from stillhouse.vault.s3 import S3Backend

        bucket, _, prefix = copy.place.removeprefix(S3).partition("/")
        store = S3Backend(bucket, f"{prefix}/objects", copy.endpoint)
        return Place(Objects(store), S3Backend(bucket, f"{prefix}/heads", copy.endpoint), store)
    local = LocalBackend(Path(copy.place) / "objects")
    return Place(Objects(local), LocalBackend(Path(copy.place) / "heads"), local)


def find_copy(settings: Settings, name: str) -> Copy:
    """A copy by its name in config.toml; the only one where none is named. Raises UnknownName."""
    found = [copy for copy in settings.copies if copy.name == name or not name]
    if len(found) != 1:
        known = ", ".join(copy.name for copy in settings.copies) or "none"
        raise UnknownName(
            f"No one copy is called {name!r} (there are: {known}).", next_step="Add [copies.NAME] to config.toml."
        )
    return found[0]


def backup(app: App, copy: Copy, progress: Progress) -> Copied:
    """Bring a copy up to date. Raises CorruptObject, StorageError.

    Where the log stands is read first and written last: whatever it names was there before the objects were listed.
    """
    began, place = now(), open_place(copy)
    app.recorder.refresh()
    progress.start(f"backup to {copy.name}", 0)
    entries = sum(head.count for head in app.log.heads())
    ends = tuple(_ends(app.log, place.objects))
    copied = copy_objects(app.objects, place.objects, lambda done, size: progress.update(done, f"{size:,} bytes"))
    files = {name: data for name in _settings_files(app.settings.home) if (data := _text(app.settings.home / name))}
    write_head(place.heads, Headed(began, entries, ends, files))
    copied.check()
    lacking = [digest for digest in named_objects(app).objects if not place.objects.exists(digest)]
    if lacking:
        raise CorruptObject(
            f"{len(lacking)} objects that are needed are neither here nor there, {lacking[0]} among them.",
            next_step="`stillhouse vault verify` says what that hits. The rest was copied.",
        )
    app.recorder.record(
        facts.CopyMade(
            at=began, by=app.recorder.by, copy=copy.name, place=copy.place, domain=copy.domain, objects=copied.objects,
            added=copied.added, bytes=copied.bytes, entries=entries,
        )
    )  # fmt: skip
    app.recorder.refresh()
    renew_locks(app, copy)
    progress.finish(f"{copied.added} objects, {copied.bytes:,} bytes, each read back there")
    return copied


def renew_locks(app: App, copy: Copy) -> str:
    """Let the store keep what is named for its whole time again; returns the earliest day on which a lock ends, "" without locks.

    What is no longer named is not renewed: that is how it is deleted there, and why every mistake has that long to be noticed.
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
    until = datetime.now(UTC) + timedelta(days=copy.lock_days)
    newest = newest_head(heads)
    kept = {*surely_named_objects(app).objects, *(end.object for end in (newest.ends if newest else ()))}
    keys = [(store, digest.replace(":", "-", 1)) for digest in sorted(kept)] + [(heads, name) for name in heads.list()][
        -1:
    ]
    ends = []
    for where, key in keys:
        try:
            where.lock_until(key, until)
            ends.append(where.lock(key).until)
        except KeyError:
            raise CorruptObject(f"{key} is not in {copy.name}, so nothing locks it.", next_step=_BACK_UP) from None
    return min(ends, default="")[:10]


def pull(settings: Settings, source: str, endpoint: str, progress: Progress) -> Copied:
    """Make a home follow another home, or rebuild it from a copy. The source needs no right here, and gets none.

    What is here already is never replaced by something else: a log that does not continue this one is refused. Raises CorruptLog,
    CorruptObject, HomeError, StorageError.
    """
    local = Objects(LocalBackend(settings.home / "objects"))
    progress.start(f"pull from {source}", 0)
    origin = _origin(source, endpoint)
    bytes_of = {end.writer: origin.bytes_of(end) for end in origin.ends}  # before the objects that they name
    copied = copy_objects(origin.objects, local, lambda done, size: progress.update(done, f"{size:,} bytes"))
    _check_names(origin)
    with contextlib.ExitStack() as locked:
        for end in origin.ends:
            locked.enter_context(_held(settings.home / "log" / end.writer))
        _check_continues(Log(settings.home / "log", local), bytes_of)
        for name, text in origin.files.items():
            if not (settings.home / name).exists():
                write_whole(settings.home / name, text.encode())
        for end in origin.ends:
            folder = settings.home / "log" / end.writer
            write_whole(folder / end.segment, bytes_of[end.writer])
            (folder / end.segment).chmod(0o644)
            for older in segments(folder)[:-1]:
                (folder / older).unlink()
    write_whole(settings.home / "VERSION", f"{HOME_VERSION}\n".encode())
    ledger = Ledger(settings.ledger_url)
    try:
        ledger.catch_up(Log(settings.home / "log", local))
    finally:
        ledger.close()
    copied.check()
    progress.finish(f"{copied.added} objects, {copied.bytes:,} bytes")
    return copied


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a writer's lock, so that nobody appends to a chain that is being continued. Raises HomeBusy."""
    with storage_errors(f"{folder} could not be used"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise HomeBusy(f"({folder.name} of the log is being written)") from None
    finally:
        os.close(lock)


def _check_names(origin: "_Origin") -> None:
    """A copy is administered by others: what it names is only taken where such a thing belongs. Raises CorruptObject."""
    wrong = [name for name in origin.files if name not in _FILES and not _MORE_FILES.fullmatch(name)]
    wrong += [
        f"{end.writer}/{end.segment}" for end in origin.ends if not _SEGMENT.fullmatch(f"{end.writer}/{end.segment}")
    ]
    if wrong:
        raise CorruptObject(
            f"the source names {wrong[0]!r}, which is no part of a home.", next_step="Trust another copy."
        )


class _Origin(NamedTuple):
    objects: Objects
    ends: tuple[End, ...]
    files: dict[str, str]
    folder: Path | None

    def bytes_of(self, end: End) -> bytes:
        """The bytes of an end, from an object or, in a home, from its folder."""
        if self.folder is None:
            return self.objects.get(end.object)
        path = self.folder / end.writer / end.segment
        with storage_errors(f"{path} could not be read"):
            return path.read_bytes()


def _origin(source: str, endpoint: str) -> _Origin:
    """A home, or a copy of one."""
    home = Path(source)
    if not source.startswith(S3) and (home / "VERSION").is_file():
        objects = Objects(LocalBackend(home / "objects"))
        log = Log(home / "log", objects)
        ends = tuple(End(writer, names[-1], "") for writer in log.writers() if (names := segments(log.root / writer)))
        files = {name: data for name in _settings_files(home) if (data := _text(home / name))}
        return _Origin(objects, ends, files, log.root)
    place = open_place(Copy("", source, endpoint=endpoint))
    newest = newest_head(place.heads)
    if newest is None:
        raise HomeError(f"({source} is neither a home nor a copy of one)", next_step="Name the folder or s3:// of one.")
    return _Origin(place.objects, newest.ends, newest.files, None)


def _check_continues(log: Log, bytes_of: dict[str, bytes]) -> None:
    """Is everything that this log has in the other one, in its place? Raises CorruptLog."""
    for head in log.heads():
        data = bytes_of.get(head.writer)
        if data is None:
            raise CorruptLog(f"the source has no writer {head.writer}, and this home has {head.count} entries of it.")
        if not log.continues(head, data):
            raise CorruptLog(
                f"the source's chain {head.writer} is not the continuation of the {head.count} entries that are here.",
                next_step="Nothing was changed here. One of the two was cut or altered: compare both before anything else.",
            )


def _ends(log: Log, objects: Objects) -> Iterable[End]:
    for writer in log.writers():
        names = segments(log.root / writer)
        if names:
            data = (log.root / writer / names[-1]).read_bytes()
            yield End(writer, names[-1], objects.put(data))


def _settings_files(home: Path) -> list[str]:
    more = [str(path.relative_to(home)) for path in sorted((home / KEYS).rglob("*.pub"))]
    more += [str(path.relative_to(home)) for path in sorted((home / "terms").glob("*.toml"))]
    return [*_FILES, *more]


def _text(path: Path) -> str:
    with storage_errors(f"{path} could not be read"):
        return path.read_text(encoding="utf-8") if path.is_file() else ""


def scrub(app: App, copy: Copy | None, sample: int, mend: str, progress: Progress) -> Scrub:
    """Read a vault or a copy, all of it or so many objects at random; mend from a copy by that name ("": do not).

    Raises StorageError, UnknownName.
    """
    target = open_place(copy).objects if copy else app.objects
    everything = sorted(target.list())
    named = named_objects(app).objects
    missing = sorted(set(named) - set(everything))
    chosen = random.SystemRandom().sample(everything, min(sample, len(everything))) if sample else everything
    progress.start(f"scrub of {copy.name if copy else 'the vault'}", len(chosen))
    bad: list[tuple[str, str]] = [(digest, f"{digest} is missing.") for digest in missing]
    for count, digest in enumerate(chosen, 1):
        try:
            target.get(digest)
        except CorruptObject as failure:
            bad.append((digest, failure.detail))
        progress.update(count)
    healthy = _healthy(app, copy, mend)
    repaired = [digest for digest, _ in bad if healthy is not None and _mend(app, target, healthy, digest, copy)]
    app.recorder.record(
        facts.Scrubbed(
            at=now(), by=app.recorder.by, copy=copy.name if copy else "", objects=len(everything), read=len(chosen),
            bad=tuple(digest for digest, _ in bad), repaired=tuple(repaired),
        )
    )  # fmt: skip
    app.recorder.refresh()
    progress.finish(f"{len(bad)} bad, {len(repaired)} mended")
    found = tuple((digest, problem, tuple(sorted(named.get(digest, ())))) for digest, problem in bad)
    at_most = 0.0 if not sample or len(chosen) == len(everything) else 1 - 0.01 ** (1 / max(1, len(chosen)))
    return Scrub(len(everything), len(chosen), found, tuple(repaired), at_most)


def probe(app: App) -> list[Line]:
    """What the vault here, and each of its copies, resists. A copy that cannot be reached is told as one that resists nothing."""
    lines = probe_folder(str(app.settings.home), app.settings.home / "objects")
    for copy in app.settings.copies:
        where = f"{copy.name}: {copy.place}"
        try:
            store = open_place(copy).store
            if isinstance(store, LocalBackend):
                lines += probe_folder(where, store.root)
            else:
                from stillhouse.vault.s3 import S3Backend

                assert isinstance(store, S3Backend)
                lines += probe_bucket(where, store)
        except StorageError as failure:
            lines.append(Line(where, "anybody", (f"NONE: {failure}",), (), ("it cannot be reached",), "tried"))
    return lines


def _healthy(app: App, copy: Copy | None, mend: str) -> Objects | None:
    if not mend:
        return None
    if copy is not None:
        if mend != "home":
            raise UnknownName("A copy is mended from `home`.", next_step="First mend the home from a whole copy.")
        return app.objects
    return open_place(find_copy(app.settings, mend)).objects


def _mend(app: App, target: Objects, healthy: Objects, digest: str, copy: Copy | None) -> bool:
    """Replace one bad object by whole bytes from elsewhere; the bad ones go to the trash. False where nobody has it whole."""
    try:
        data = healthy.get(digest)
    except (CorruptObject, StorageError):
        return False
    if target.exists(digest):
        if copy is None:
            discard(app, [digest], "damaged")
        else:
            target.discard(digest)
    target.put(data)
    target.get(digest)
    return True
