"""Restore drills: try whether what is kept comes back, time it, and sign the result."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from stillhouse.clock import now, seconds_since
from stillhouse.custody.copies.copy_records import kept_since
from stillhouse.custody.copies.home_snapshots import SNAPSHOT, find
from stillhouse.custody.copies.places import find_copy, open_place
from stillhouse.errors import CorruptObject, NothingToDrill, StillhouseError
from stillhouse.home import facts
from stillhouse.home.current_permission import own_signatory
from stillhouse.home.erasable_sources import key_of
from stillhouse.home.ledger import custody_queries
from stillhouse.home.open_home import Home
from stillhouse.vault.erasable import open_snapshot
from stillhouse.vault.manifests import EntryKind
from stillhouse.vault.reading import Reader
from stillhouse.vault.restoring import Restored, restore

# A sample is to be had every day: a few files show that objects, manifests and the way back work.
_FILES = 16


def drill_sample(home: Home, start: str, copy: str) -> facts.Drilled:
    """Restore some random files of a snapshot (a random one where none is named). Raises NothingToDrill, UnknownName."""
    return _drill(home, start, copy, _some_files)


def drill_whole(home: Home, start: str, copy: str) -> facts.Drilled:
    """Restore all of a snapshot. Raises NothingToDrill, UnknownName."""
    return _drill(home, start, copy, restore)


def _drill(home: Home, start: str, copy: str, way: Callable[[Reader, str, Path], Restored]) -> facts.Drilled:
    """Restore to a scratch folder, where every file is compared. A failure is a result, and written down like any other."""
    chosen = find(home, start).snapshot if start else _any_snapshot(home)
    objects = open_place(find_copy(home.settings, copy)).objects if copy else home.objects
    scratch = home.cache / "drill"
    shutil.rmtree(scratch, ignore_errors=True)
    began, done, problem = time.monotonic(), Restored(0, 0, 0), ""
    try:
        reader, root = open_snapshot(objects, chosen, lambda name: key_of(home, name))
        done = way(reader, root, scratch)
    except StillhouseError as failure:
        problem = str(failure)
    seconds = round(time.monotonic() - began, 3)
    shutil.rmtree(scratch, ignore_errors=True)
    backups, whole = custody_queries.copies(home.ledger), way is restore
    behind = round(seconds_since(backups[copy].at), 1) if copy in backups else 0.0
    receipt = [copy, chosen, whole, done.files, done.bytes, seconds, behind, problem]
    entry = facts.Drilled(
        at=now(), by=home.recorder.by, copy=copy, subject=f"{SNAPSHOT}{chosen}", whole=whole, files=done.files,
        bytes=done.bytes, seconds=seconds, behind=behind, problem=problem,
        signature=own_signatory(home.ledger, home.settings).sign("drill", receipt),
    )  # fmt: skip
    home.recorder.record(entry)
    home.recorder.refresh()
    return entry


def _any_snapshot(home: Home) -> str:
    kept = [node.removeprefix(SNAPSHOT) for node in kept_since(home) if node.startswith(SNAPSHOT)]
    if not kept:
        raise NothingToDrill
    return random.SystemRandom().choice(kept)


def _some_files(reader: Reader, snapshot: str, scratch: Path) -> Restored:
    """Restore random files of a random page that has any."""
    draw = random.SystemRandom()
    refs = list(reader.root(snapshot).pages)
    draw.shuffle(refs)
    pages = ([entry for entry in reader.page(ref).entries if entry.kind is EntryKind.FILE] for ref in refs)
    entries = next((found for found in pages if found), [])
    done = Restored(0, 0, 0)
    for number, entry in enumerate(draw.sample(entries, min(_FILES, len(entries)))):
        one = restore(reader, snapshot, scratch / str(number), entry.path)
        if one.bytes != entry.size:
            raise CorruptObject(f"{entry.path} came back with {one.bytes} bytes, and should have {entry.size}.")
        done = Restored(done.files + one.files, done.bytes + one.bytes, 0)
    return done
