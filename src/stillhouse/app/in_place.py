"""Register data where it lies, and find out later whether it still is what it was."""

import contextlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from stillhouse import facts
from stillhouse.app.copies import S3
from stillhouse.app.home import App
from stillhouse.app.progress import Progress
from stillhouse.app.references import dead_nodes
from stillhouse.errors import UnknownName
from stillhouse.ledger import custody
from stillhouse.recorder import now
from stillhouse.vault import in_place
from stillhouse.vault.in_place import Bucket, Examined, Place, Registered, open_folder
from stillhouse.vault.manifests import Entry, escape
from stillhouse.vault.reading import Reader
from stillhouse.vault.seen import Seen

_EXAMPLES = 20


def register(app: App, source: str, name: str, endpoint: str, progress: Progress, *, read: bool) -> Registered:
    """Write down what lies in a folder, or below the prefix of a bucket with versions; nothing is copied.

    ``read``: read the objects of a bucket, too, so that their bytes are known; files always are. Raises SourceChanging,
    StorageError, UsageError.
    """
    progress.start(f"registering {source}", 0)
    with _opened(app, source, endpoint, read=read) as (place, seen):
        done = in_place.register(app.objects, place, lambda files, count: progress.update(files, f"{count:,} bytes"))
        if seen is not None:
            seen.finish()
    called = name or source.rstrip("/").rpartition("/")[2]
    where = source if source.startswith(S3) else escape(os.fsencode(Path(source).absolute()))
    app.recorder.record(
        facts.Registered(
            at=now(), by=app.recorder.by, manifest=done.manifest, name=called, source=where, endpoint=endpoint,
            files=done.files, bytes=done.bytes,
        )
    )  # fmt: skip
    app.recorder.refresh()
    progress.finish(f"{done.files} files, {done.bytes:,} bytes")
    return done


def registered(app: App) -> list[facts.Registered]:
    """What is registered, and was not deleted."""
    dead = dead_nodes(app, custody.mentions(app.ledger))
    return [one for one in custody.registrations(app.ledger) if f"registered:{one.manifest}" not in dead]


def examine(app: App, name: str, sample: int, progress: Progress) -> Examined:
    """Compare a place with what was registered of it: names, sizes and versions of all, the bytes of all or of so many at random.

    What was found is written down. Raises CorruptObject, StorageError, UnknownName.
    """
    known = [one for one in registered(app) if one.name == name]
    if not known:
        names = ", ".join(one.name for one in registered(app)) or "none"
        raise UnknownName(f"Nothing is registered as {name!r} (there are: {names}).")
    found = known[-1]
    progress.start(f"examining {found.source}", found.files)
    chosen = set(random.SystemRandom().sample(range(found.files), min(sample, found.files))) if sample else None
    with _opened(app, found.source, found.endpoint, read=False) as (place, _):
        done = in_place.examine(
            place, _entries(Reader(app.objects), found.manifest), lambda number: chosen is None or number in chosen,
            progress.update,
        )  # fmt: skip
    app.recorder.record(
        facts.Examined(
            at=now(), by=app.recorder.by, manifest=found.manifest, files=done.files, read=done.read,
            changes=len(done.changes), new=len(done.new),
            examples=tuple(f"{one.path} {one.what}" for one in done.changes[:_EXAMPLES]),
        )
    )  # fmt: skip
    app.recorder.refresh()
    progress.finish(f"{len(done.changes)} changes, {len(done.new)} new")
    return done


def _entries(reader: Reader, manifest: str) -> Iterator[Entry]:
    for page in reader.pages(reader.root(manifest)):
        yield from page.entries


@contextlib.contextmanager
def _opened(app: App, source: str, endpoint: str, *, read: bool) -> Iterator[tuple[Place, Seen | None]]:
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
    inode = app.settings.home.stat()
    seen = Seen(app.cache / "in-place", folder, time.time_ns())
    try:
        yield open_folder(folder, seen, frozenset({(inode.st_dev, inode.st_ino)})), seen
    finally:
        seen.close()
