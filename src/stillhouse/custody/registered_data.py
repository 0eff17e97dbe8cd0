"""Register data where it lies, and find out later whether it still is what it was."""

import contextlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from stillhouse.clock import now
from stillhouse.custody.copies.places import S3
from stillhouse.custody.named_objects import dead_nodes
from stillhouse.errors import UnknownName
from stillhouse.home import facts
from stillhouse.home.ledger import custody_queries
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.vault import in_place
from stillhouse.vault.in_place import Bucket, Comparison, RegisteredPlace, Registration, open_folder
from stillhouse.vault.manifests import FileEntry, escape
from stillhouse.vault.reading import Reader
from stillhouse.vault.seen import Seen

_EXAMPLES = 20


def register(home: Home, source: str, name: str, endpoint: str, progress: Progress, *, read: bool) -> Registration:
    """Write down what lies in a folder, or below the prefix of a bucket with versions; nothing is copied.

    ``read``: read the objects of a bucket, too, so that their bytes are known; files always are. Raises SourceChanging,
    StorageError, UsageError.
    """
    progress.start(f"registering {source}", 0)
    with _opened(home, source, endpoint, read=read) as (place, seen):
        done = in_place.register(home.objects, place, lambda files, count: progress.update(files, f"{count:,} bytes"))
        if seen is not None:
            seen.finish()
    called = name or source.rstrip("/").rpartition("/")[2]
    where = source if source.startswith(S3) else escape(os.fsencode(Path(source).absolute()))
    home.recorder.record(
        facts.Registered(
            at=now(), by=home.recorder.by, manifest=done.manifest, name=called, source=where, endpoint=endpoint,
            files=done.files, bytes=done.bytes,
        )
    )  # fmt: skip
    home.recorder.refresh()
    progress.finish(f"{done.files} files, {done.bytes:,} bytes")
    return done


def registered(home: Home) -> list[facts.Registered]:
    """What is registered, and was not deleted."""
    dead = dead_nodes(home, custody_queries.mentions(home.ledger))
    return [one for one in custody_queries.registrations(home.ledger) if f"registered:{one.manifest}" not in dead]


def examine(home: Home, name: str, sample: int, progress: Progress) -> Comparison:
    """Compare a place with what was registered of it: names, sizes and versions of all, the bytes of all or of so many at random.

    What was found is written down. Raises CorruptObject, StorageError, UnknownName.
    """
    known = [one for one in registered(home) if one.name == name]
    if not known:
        names = ", ".join(one.name for one in registered(home)) or "none"
        raise UnknownName(f"Nothing is registered as {name!r} (there are: {names}).")
    found = known[-1]
    progress.start(f"examining {found.source}", found.files)
    chosen = set(random.SystemRandom().sample(range(found.files), min(sample, found.files))) if sample else None
    with _opened(home, found.source, found.endpoint, read=False) as (place, _):
        done = in_place.examine(
            place, _entries(Reader(home.objects), found.manifest), lambda number: chosen is None or number in chosen,
            progress.update,
        )  # fmt: skip
    home.recorder.record(
        facts.Examined(
            at=now(), by=home.recorder.by, manifest=found.manifest, files=done.files, read=done.read,
            changes=len(done.changes), new=len(done.new),
            examples=tuple(f"{one.path} {one.what}" for one in done.changes[:_EXAMPLES]),
        )
    )  # fmt: skip
    home.recorder.refresh()
    progress.finish(f"{len(done.changes)} changes, {len(done.new)} new")
    return done


def _entries(reader: Reader, manifest: str) -> Iterator[FileEntry]:
    for page in reader.pages(reader.root(manifest)):
        yield from page.entries


@contextlib.contextmanager
def _opened(home: Home, source: str, endpoint: str, *, read: bool) -> Iterator[tuple[RegisteredPlace, Seen | None]]:
    if source.startswith(S3):
        from stillhouse.vault.s3 import S3Backend

        bucket, _, prefix = source.removeprefix(S3).partition("/")
        store = S3Backend(bucket, prefix, endpoint)
        try:
            yield Bucket(store, read=read), None
        finally:
            store.close()
        return
    folder = Path(source).absolute()
    inode = home.folder.stat()
    seen = Seen(home.cache / "in-place", folder, time.time_ns())
    try:
        yield open_folder(folder, seen, frozenset({(inode.st_dev, inode.st_ino)})), seen
    finally:
        seen.close()
