"""Restore drills: try whether what is kept comes back, time it, and sign what came of it."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from stillhouse import facts
from stillhouse.app.copies import find_copy, open_place
from stillhouse.app.erasure import key_of
from stillhouse.app.home import App
from stillhouse.app.permission import own_signatory
from stillhouse.app.protection import kept_since, seconds_since
from stillhouse.app.vault import SNAPSHOT, find
from stillhouse.errors import CorruptObject, NothingToDrill, StillhouseError
from stillhouse.ledger import custody
from stillhouse.recorder import now
from stillhouse.vault.erasable import open_snapshot
from stillhouse.vault.manifests import Kind
from stillhouse.vault.reading import Reader
from stillhouse.vault.restoring import Restored, restore

# A sample is to be had every day: a few files show that objects, manifests and the way back work.
_FILES = 16


def drill_sample(app: App, start: str, copy: str) -> facts.Drilled:
    """Restore some random files of a snapshot (a random one where none is named). Raises NothingToDrill, UnknownName."""
    return _drill(app, start, copy, _some_files)


def drill_whole(app: App, start: str, copy: str) -> facts.Drilled:
    """Restore all of a snapshot. Raises NothingToDrill, UnknownName."""
    return _drill(app, start, copy, restore)


def _drill(app: App, start: str, copy: str, way: Callable[[Reader, str, Path], Restored]) -> facts.Drilled:
    """Restore to a scratch folder, where every file is compared. A failure is a result, and written down like any other."""
    chosen = find(app, start).snapshot if start else _any_snapshot(app)
    objects = open_place(find_copy(app.settings, copy)).objects if copy else app.objects
    scratch = app.cache / "drill"
    shutil.rmtree(scratch, ignore_errors=True)
    began, done, problem = time.monotonic(), Restored(0, 0, 0), ""
    try:
        reader, root = open_snapshot(objects, chosen, lambda name: key_of(app, name))
        done = way(reader, root, scratch)
    except StillhouseError as failure:
        problem = str(failure)
    seconds = round(time.monotonic() - began, 3)
    shutil.rmtree(scratch, ignore_errors=True)
    backups, whole = custody.copies(app.ledger), way is restore
    behind = round(seconds_since(backups[copy].at), 1) if copy in backups else 0.0
    receipt = [copy, chosen, whole, done.files, done.bytes, seconds, behind, problem]
    entry = facts.Drilled(
        at=now(), by=app.recorder.by, copy=copy, subject=f"{SNAPSHOT}{chosen}", whole=whole, files=done.files,
        bytes=done.bytes, seconds=seconds, behind=behind, problem=problem,
        signature=own_signatory(app.ledger, app.settings).sign("drill", receipt),
    )  # fmt: skip
    app.recorder.record(entry)
    app.recorder.refresh()
    return entry


def _any_snapshot(app: App) -> str:
    kept = [node.removeprefix(SNAPSHOT) for node in kept_since(app) if node.startswith(SNAPSHOT)]
    if not kept:
        raise NothingToDrill
    return random.SystemRandom().choice(kept)


def _some_files(reader: Reader, snapshot: str, scratch: Path) -> Restored:
    """Restore random files of a random page that has any."""
    draw = random.SystemRandom()
    refs = list(reader.root(snapshot).pages)
    draw.shuffle(refs)
    pages = ([entry for entry in reader.page(ref).entries if entry.kind is Kind.FILE] for ref in refs)
    entries = next((found for found in pages if found), [])
    done = Restored(0, 0, 0)
    for number, entry in enumerate(draw.sample(entries, min(_FILES, len(entries)))):
        one = restore(reader, snapshot, scratch / str(number), entry.path)
        if one.bytes != entry.size:
            raise CorruptObject(f"{entry.path} came back with {one.bytes} bytes, and should have {entry.size}.")
        done = Restored(done.files + one.files, done.bytes + one.bytes, 0)
    return done
