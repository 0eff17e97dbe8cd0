"""Restore drills: try whether what is kept comes back, time it, sign what came of it; and what stands below its minimum."""

import random
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from stillhouse import facts
from stillhouse.app.copies import find_copy, open_place
from stillhouse.app.home import App
from stillhouse.app.permission import own_signatory
from stillhouse.app.reach import DATASET, SNAPSHOT, replaceability_of
from stillhouse.app.references import named_objects
from stillhouse.app.vault import find
from stillhouse.custody.minimums import Short, Standing, below
from stillhouse.errors import CorruptObject, NothingToDrill, StillhouseError
from stillhouse.ledger import custody, queries
from stillhouse.ledger.custody import StoredScrub
from stillhouse.recorder import now
from stillhouse.vault.manifests import Kind
from stillhouse.vault.objects import Objects
from stillhouse.vault.reading import Reader
from stillhouse.vault.restoring import restore

# A sample is to be had every day: a few files show that objects, index and way back work.
_FILES = 16
_EVERY = {"drill": 1.0, "scrub": 7.0}
SCRUB_SAMPLE = 100


def drill(app: App, start: str, copy: str, *, whole: bool) -> facts.Drilled:
    """Restore to a scratch folder and compare: one snapshot, or some random files of a random one. The receipt is signed.

    A failure is a result, and written down like any other. Raises NothingToDrill, UnknownName.
    """
    chosen = find(app, start).snapshot if start else _any_snapshot(app)
    objects = open_place(find_copy(app.settings, copy)).objects if copy else app.objects
    scratch = app.cache / "drill"
    shutil.rmtree(scratch, ignore_errors=True)
    began, files, size, problem = time.monotonic(), 0, 0, ""
    try:
        if whole:
            done = restore(Reader(objects), chosen, scratch)
            files, size = done.files, done.bytes
        else:
            files, size = _some_files(objects, chosen, scratch)
    except StillhouseError as failure:
        problem = str(failure)
    seconds = time.monotonic() - began
    shutil.rmtree(scratch, ignore_errors=True)
    backups = custody.copies(app.ledger)
    behind = _seconds_since(backups[copy].at) if copy in backups else 0.0
    receipt = [copy, chosen, whole, files, size, round(seconds, 3), round(behind, 1), problem]
    entry = facts.Drilled(
        at=now(), by=app.recorder.by, copy=copy, subject=f"{SNAPSHOT}{chosen}", whole=whole, files=files, bytes=size,
        seconds=round(seconds, 3), behind=round(behind, 1), problem=problem,
        signature=own_signatory(app.ledger, app.settings).sign("drill", receipt),
    )  # fmt: skip
    app.recorder.record(entry)
    app.recorder.refresh()
    return entry


def due(app: App) -> list[str]:
    """What `tick` would do now besides marking the day: drills of the vault and of each copy, a scrub of a sample."""
    if not _alive(app):
        return []
    drilled = {one.copy: one.at for one in custody.drills(app.ledger) if not one.problem}
    scrubbed = {one.copy: one.at for one in custody.scrubs(app.ledger) if _is_whole(one)}
    names = ["", *custody.copies(app.ledger)]
    found = [f"drill {name}" for name in names if _days(drilled.get(name)) >= _EVERY["drill"]]
    return found + [f"scrub {name}" for name in names if _days(scrubbed.get(name)) >= _EVERY["scrub"]]


def standings(app: App) -> list[Standing]:
    """How every dataset version and every snapshot stands, by what was last seen of the copies.

    Two names of one place are one copy, and one whose newest scrub found damage is none until it is mended.
    """
    scrubbed = {one.copy: one for one in custody.scrubs(app.ledger)}
    places = {one.place: one for one in custody.copies(app.ledger).values() if _is_whole(scrubbed.get(one.copy))}
    drilled = {one.subject: one.at for one in custody.drills(app.ledger) if not one.problem}
    for one in custody.snapshots(app.ledger):  # what was tried with a copy of a thing was tried with the thing
        node = f"{SNAPSHOT}{one.snapshot}"
        if one.subject and node in drilled:
            drilled[one.subject] = drilled[node]
    found = []
    for node, at in _alive(app).items():
        holding = [copy for copy in places.values() if copy.at > at]
        domains = {copy.domain for copy in holding if copy.domain}
        last = drilled.get(node)
        kind = replaceability_of(app, (node,)).kind
        found.append(Standing(node, kind, 1 + len(holding), len(domains), _days(last) if last else None))
    return found


def _is_whole(scrub: StoredScrub | None) -> bool:
    return scrub is None or not set(scrub.bad) - set(scrub.repaired)


def short(app: App) -> list[Short]:
    """What is below its minimum, worst first."""
    return below(standings(app))


def _alive(app: App) -> dict[str, str]:
    """Everything that is kept, and since when."""
    dead = named_objects(app).dead
    kept = {f"{DATASET}{one.label}": one.made for one in queries.datasets(app.ledger)}
    kept |= {f"{SNAPSHOT}{one.snapshot}": one.at for one in custody.snapshots(app.ledger)}
    return {node: at for node, at in kept.items() if node not in dead}


def _any_snapshot(app: App) -> str:
    kept = [node.removeprefix(SNAPSHOT) for node in _alive(app) if node.startswith(SNAPSHOT)]
    if not kept:
        raise NothingToDrill
    return random.SystemRandom().choice(kept)


def _some_files(objects: Objects, snapshot: str, scratch: Path) -> tuple[int, int]:
    """Restore random files of a random page; returns how many, and their bytes."""
    reader, draw = Reader(objects), random.SystemRandom()
    root = reader.root(snapshot)
    pages = [page for page in reader.pages(root) if any(entry.kind is Kind.FILE for entry in page.entries)]
    if not pages:
        return 0, 0
    entries = [entry for entry in draw.choice(pages).entries if entry.kind is Kind.FILE]
    files = size = 0
    for number, entry in enumerate(draw.sample(entries, min(_FILES, len(entries)))):
        done = restore(reader, snapshot, scratch / str(number), entry.path)
        if done.bytes != entry.size:
            raise CorruptObject(f"{entry.path} came back with {done.bytes} bytes, and should have {entry.size}.")
        files, size = files + done.files, size + done.bytes
    return files, size


def _days(at: str | None) -> float:
    return _seconds_since(at) / 86400 if at else float("inf")


def _seconds_since(at: str) -> float:
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())
