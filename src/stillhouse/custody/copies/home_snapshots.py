"""Snapshots of a home: take, find, restore, verify."""

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stillhouse.canon import digest_bytes
from stillhouse.clock import now
from stillhouse.custody.named_objects import out_of_the_trash
from stillhouse.errors import CorruptObject, UnknownName, UsageError
from stillhouse.home import facts
from stillhouse.home.erasable_sources import cache_of, key_for, key_of
from stillhouse.home.ledger import custody_queries, dataset_queries, training_queries
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.home.settings import Settings
from stillhouse.vault.erasable import KEY_BYTES, ErasableObjects, enclose_snapshot, key_digest, open_snapshot
from stillhouse.vault.files import identity, storage_errors
from stillhouse.vault.manifests import FileEntry, escape
from stillhouse.vault.reading import Reader, is_below
from stillhouse.vault.restoring import Restored, Way, restore
from stillhouse.vault.seen import Seen
from stillhouse.vault.snapshots import Taken, known_packs, take
from stillhouse.vault.walking import Walk

if TYPE_CHECKING:
    from stillhouse.vault.index import ChunkIndex

DATASET, MODEL, SNAPSHOT = "dataset:", "model:", "snapshot:"
_SHORTEST = 6
_LARGEST_KEY = 16_384


class SnapshotSource(NamedTuple):
    """What is to be snapshot: a place, and the node of lineage that it is."""

    place: Path
    subject: str = ""


def snapshot(
    home: Home, source: str, name: str, progress: Progress, erasable: str = "", *, skip_unreadable: bool = False
) -> Taken:
    """Put a file, a folder or a model into the vault; encrypted with the key of a source, where it is to be erasable as that.

    Keys are never taken: a copy of one would read what was erased. Raises StorageError, SourceChanging, UnknownName,
    SourceErased, UsageError where there is nothing but keys.
    """
    found = _source(home, source)
    place = found.place.absolute()
    keys = keys_of(home.settings)
    own_id = identity(home.folder)
    own = set() if found.subject or own_id is None else {own_id}
    if place.exists() and keys & {identity(place), *map(identity, place.parents)}:
        raise UsageError(
            f"{place} is a key store, and keys are kept in no snapshot.", next_step="Copy it to another key store."
        )
    if place.exists() and not (place.is_file() or place.is_dir()):
        raise UsageError(f"{place} is neither a file nor a folder.")
    if found.subject == "" and own_id is not None and identity(place) == own_id:
        raise UsageError(
            f"{place} is the home itself, which is in no snapshot of its own.",
            next_step="`stillhouse vault backup` copies it to the places under [copies] in config.toml.",
        )
    walk = Walk(place, frozenset(own | keys))
    walk.is_secret = _secrets(home)
    walk.skip_unreadable = skip_unreadable
    progress.start(f"snapshot of {source}", 0)
    key = key_for(home, erasable) if erasable else b""
    objects = ErasableObjects(home.objects, key) if key else home.objects
    cache = cache_of(home, key_digest(key)) if key else home.cache
    seen = Seen(cache / "seen", place, time.time_ns())
    try:
        taken = take(
            objects,
            (lambda: _index_of(cache)) if key else (lambda: open_index(home)),
            seen,
            walk,
            lambda files, count: progress.update(files, f"{count:,} bytes"),
            frozenset(
                digest for digest in custody_queries.bad_objects(home.ledger) if not home.objects.is_whole(digest)
            ),
        )
    finally:
        seen.close()
    called = name or found.subject.partition(":")[2] or place.name
    if key:
        taken = taken._replace(snapshot=enclose_snapshot(home.objects, key, taken.snapshot))
    keep(home, taken, escape(os.fsencode(called)), escape(os.fsencode(place)), found.subject, erasable)
    progress.finish(f"{taken.files} files, {taken.bytes:,} bytes, {taken.bytes_added:,} added")
    return taken


def keys_of(settings: Settings) -> set[tuple[int, int]]:
    """The folders and files of keys, by device and inode: the stores of erasure keys, private keys, and every name of a key."""
    folders = [*settings.key_stores, *([settings.keys] if settings.keys else [])]
    files = [file for folder in folders if folder.is_dir() for file in folder.glob("*") if file.is_file()]
    return {one for path in (*folders, *files) if (one := identity(path))}


def _secrets(home: Home) -> Callable[[bytes, os.stat_result], bool]:
    """Is a file a copy of a key: of a source that can be erased, whatever store it once lay in, or of somebody who signs?"""
    known = set(custody_queries.erasure_keys(home.ledger))
    folders = [home.folder / "keys", *([home.settings.keys] if home.settings.keys else [])]
    files = [file for folder in folders if folder.is_dir() for file in folder.rglob("*") if file.is_file()]
    private = {data for file in files if b"PRIVATE KEY" in (data := _small(os.fsencode(file)))}
    sizes = {2 * KEY_BYTES, 2 * KEY_BYTES + 1, *map(len, private)}

    def is_secret(place: bytes, inode: os.stat_result) -> bool:
        if inode.st_size not in sizes:
            return False
        data = _small(place)
        if data in private:
            return True
        with contextlib.suppress(ValueError):
            return key_digest(bytes.fromhex(data.decode("ascii"))) in known
        return False

    return is_secret


def _small(path: bytes) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read(_LARGEST_KEY)
    except OSError:  # whoever takes it says so
        return b""


def open_index(home: Home) -> "ChunkIndex":
    """Which chunks are where, as far as this machine knows; read back from the packs where the cache is lost."""
    from stillhouse.vault.index import ChunkIndex

    index = ChunkIndex(home.cache / "chunks")
    if not index.packs:
        known_packs(home.objects, index)
    return index


def _index_of(cache: Path) -> "ChunkIndex":
    """The same for a source that can be erased: its chunks are found among its own alone."""
    from stillhouse.vault.index import ChunkIndex

    return ChunkIndex(cache / "chunks")


def keep(home: Home, taken: Taken, name: str, source: str, subject: str, erasable: str = "") -> None:
    """Write a snapshot down: from now on it is one, and what it holds is kept.

    Between storing and this, a collector could have taken for garbage what nothing named. Whoever comes second sees the other: it
    looks again at what is named after discarding, and here what is discarded is looked for after naming.
    """
    at = now()
    home.recorder.record(
        facts.SnapshotTaken(
            at=at, by=home.recorder.by, snapshot=taken.snapshot, name=name, source=source, subject=subject,
            files=taken.files, bytes=taken.bytes, added=taken.bytes_added, erasable=erasable,
        ),
        *([facts.Derived(at=at, by=home.recorder.by, parent=subject, child=f"snapshot:{taken.snapshot}", kind="kept in")]
          if subject else []),
    )  # fmt: skip
    home.recorder.refresh()
    for digest in out_of_the_trash(home, Reader(home.objects), taken.snapshot, set()):
        if not home.objects.exists(digest):
            raise CorruptObject(f"{digest} went while the snapshot was taken.", next_step="Run the command again.")


def find(home: Home, start: str) -> facts.SnapshotTaken:
    """A snapshot by its digest, the first characters of it, or its name (then the newest). Raises UnknownName."""
    known = custody_queries.snapshots(home.ledger)
    named = [one for one in known if one.name in (start, escape(os.fsencode(start)))]
    if named:
        return named[-1]
    wanted = start if start.startswith("blake3:") else f"blake3:{start}"
    found = {one.snapshot: one for one in known if one.snapshot.startswith(wanted)}
    if len(found) != 1 or len(wanted) < len("blake3:") + _SHORTEST:
        raise UnknownName(f"{'Several snapshots begin' if found else 'No snapshot begins'} with {start!r}.")
    return next(iter(found.values()))


def restore_to(home: Home, start: str, target: Path, below: str, progress: Progress, way: Way = restore) -> Restored:
    """Restore a snapshot, or what it has below a path; ``way`` is ``restore``, or ``restore_over`` where files may be replaced.

    Raises CorruptObject, TargetExists, UnknownName, StorageError.
    """
    known = find(home, start)
    progress.start(f"restore of {known.name}", known.files)
    # What a kill left in the trash, between naming it again and getting it back.
    if next(home.objects.discarded(), None) is not None:
        deque(out_of_the_trash(home, Reader(home.objects), known.snapshot, set()), maxlen=0)
    reader, root = open_snapshot(home.objects, known.snapshot, lambda name: key_of(home, name))
    done = way(
        reader,
        root,
        target.absolute(),
        path_within(below),
        lambda files, count: progress.update(files, f"{count:,} bytes"),
    )
    progress.finish(f"{done.files} files, {done.bytes:,} bytes, every one compared with its digest")
    return done


def listed(home: Home, start: str, below: str) -> Iterator[FileEntry]:
    """What a snapshot holds at a path and below, in order. Raises CorruptObject, UnknownName."""
    reader, root = open_snapshot(home.objects, find(home, start).snapshot, lambda name: key_of(home, name))
    wanted = path_within(below)
    for page in reader.pages(reader.root(root), wanted):
        yield from (entry for entry in page.entries if is_below(entry.path, wanted))


def path_within(typed: str) -> str:
    """A path of a snapshot as somebody types it: its bytes, or as a listing shows them."""
    text = typed.strip("/")
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8
        return escape(os.fsencode(text))
    # A backslash as a listing shows it is one of two characters and two digits; any other is one that was typed.
    return re.sub(r"\\(?!x[0-9a-f]{2})", r"\\x5c", text)


def _source(home: Home, source: str) -> SnapshotSource:
    if source.startswith(MODEL):
        model = training_queries.model(home.ledger, source.removeprefix(MODEL))
        return SnapshotSource(home.folder / model.folder, f"{MODEL}{model.label}")
    if source.startswith(DATASET):
        dataset = dataset_queries.dataset(home.ledger, source.removeprefix(DATASET))
        if dataset.erasable:
            raise UsageError(
                f"{source} can be erased as {dataset.erasable}, and a second copy of its rows would not be.",
                next_step="It is in the vault, encrypted, and goes with it into every copy.",
            )
        return SnapshotSource(_laid_out(home, dataset.files, dataset.manifest_digest), f"{DATASET}{dataset.label}")
    return SnapshotSource(Path(source))


def _laid_out(home: Home, files: dict[str, str], name: str) -> Path:
    """The files of a dataset version in a folder, so that they can be walked."""
    folder = home.cache / "laid-out" / name.replace(":", "-")
    with storage_errors(f"{folder} could not be written"):
        folder.mkdir(parents=True, exist_ok=True)
        for file, digest in files.items():
            place = folder / file
            if not place.is_file() or digest_bytes(place.read_bytes()) != digest:
                place.write_bytes(home.objects.get(digest))
    return folder
