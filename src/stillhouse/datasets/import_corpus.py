"""Import what others collected, and take stock of any corpus: a folder, a file, a dataset, or everything in the home.

An import is one entry of the log that names two kinds of objects: an index with a line for each row and none of its words, and
the rows in the files of a dataset. Files are read once, in bounded memory; the objects are stored as they fill, and the entry
comes last. Rows that policy does not let be stored stop it before they are.
"""

import resource
import shutil
import time
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from stillhouse.canon import digest_plain, digest_value, tagged_digest
from stillhouse.clock import now
from stillhouse.conversations.redaction import Secrets
from stillhouse.datasets.corpora.corpus_reading import LeftOutRows, Reading, corpus_digest
from stillhouse.datasets.corpora.inventory import Inventory, take_inventory
from stillhouse.datasets.corpora.origins import Declared
from stillhouse.datasets.corpora.row_files import RowFile, files_of
from stillhouse.datasets.import_pass import ImportRequest as ImportRequest
from stillhouse.datasets.import_pass import KeepDecisions, Pass, look_through, store
from stillhouse.datasets.import_staging import Counts, Staging
from stillhouse.datasets.recognition import Recogniser
from stillhouse.datasets.row_reader import RowReader
from stillhouse.datasets.versions import VersionOf, form_version
from stillhouse.errors import (
    CorpusUnreadable,
    CorruptObject,
    OutOfMemory,
    PlanRefused,
    StorageError,
    TeacherContradiction,
)
from stillhouse.home import facts
from stillhouse.home.erasable_sources import check_source, key_for, objects_of
from stillhouse.home.ledger import answer_queries, dataset_queries, imported_rows, origin_queries
from stillhouse.home.open_home import Home
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.home.progress import Progress
from stillhouse.home.row_index import read_index
from stillhouse.nouns import DatasetVersion, Plan, Use
from stillhouse.permission.decide import Door
from stillhouse.permission.known_origins import closed_as_open
from stillhouse.vault.files import readable, storage_errors
from stillhouse.vault.locks import wait_for
from stillhouse.vault.objects import Objects

# What stays of an import is 0.5 of JSON lines of English, and somewhat more than packed files (`benchmarks/bench_data.py`).
_STAYS = 1.2
# A process takes less at any number of rows (measured there). Storing rows takes longer than looking at them: an estimate.
_MEMORY, _TIMES_A_LOOK = 500_000_000, 1.7
# Libraries map far more than they use, and some of them end the process where that is not granted.
_ADDRESS_SPACE = 1200 << 20


class Import(NamedTuple):
    """A plan to import, what was seen while it was made, and the digest of the files that it is of."""

    plan: Plan
    inventory: Inventory
    corpus: str
    left_out: LeftOutRows


class Imported(NamedTuple):
    """What came of an import."""

    dataset: DatasetVersion
    seen: Import


def inventory_of_files(
    home: Home, files: Sequence[RowFile], declared: Declared, progress: Progress, left_out: LeftOutRows
) -> Inventory:
    """Take stock of a corpus that is not in the home; nothing is written. ``left_out`` gets what is not read."""
    found = look_through(home, files, RowReader(Reading(declared)), progress, left_out, Recogniser(home))
    return take_inventory(found.counts.read, found.sets, home.policy, left_out.rows)


def inventory_of_home(home: Home, label: str) -> Inventory:
    """Take stock of a dataset, or of every answer in the home where no dataset is named."""
    sets = origin_queries.stamp_sets(home.ledger)
    if label:
        counts = {int(id): rows for id, rows in dataset_queries.dataset(home.ledger, label).stamp_sets.items()}
    else:
        counts = answer_queries.answers_by_stamps(home.ledger)
    return take_inventory(counts, sets, home.policy, {})


def plan_import(home: Home, request: ImportRequest, progress: Progress) -> Import:
    """What an import would bring; nothing is written. Raises CorpusUnreadable, TeacherContradiction, PolicyRefusal."""
    _check_request(home, request)
    files = files_of(request.path)
    needed = _check_room(home, request, files)
    corpus = _corpus(request, files)
    started = time.perf_counter()
    found = look_through(home, files, request.reader, progress, LeftOutRows(), Recogniser(home))
    seconds = round(_TIMES_A_LOOK * (time.perf_counter() - started), 1)
    for stamps in found.sets.values():
        home.doors.check(Door.USE, f"import {request.name}", stamps.stamps, Use.STORE)
    seen = _planned(home, request, corpus, found)
    needs = {"disk_bytes": needed, "memory_bytes": _MEMORY, "seconds": seconds}
    return seen._replace(plan=msgspec.structs.replace(seen.plan, does={**seen.plan.does, "needs about": needs}))


def execute_import(home: Home, request: ImportRequest, progress: Progress, planned: Import | None = None) -> Imported:
    """Store the rows with what is declared of them, and form a dataset of them. Resumes where an earlier process was stopped.

    Raises PlanRefused where the files are not those that were ``planned``, or change while they are read; CorpusUnreadable,
    TeacherContradiction, PolicyRefusal; and, for what is to be erasable, what its key can be missing for.
    """
    _check_request(home, request)
    if request.erasable:
        key_for(home, request.erasable)
    objects = objects_of(home, request.erasable)
    files = files_of(request.path)
    _check_room(home, request, files)
    corpus = _corpus(request, files)
    if planned is not None and planned.corpus != corpus:
        raise PlanRefused(f"{request.path} has changed since it was looked at.")
    run = _run_of(request, objects.alias(corpus))
    know, before = imported_rows.knows(home.ledger, run), imported_rows.runs(home.ledger)
    known = _known(home, request, run, know)
    if known is not None:
        return Imported(known, _planned(home, request, corpus, _as_written(home, run, files)))
    decisions = KeepDecisions(home, request)

    def still_holds(counts: Counts) -> bool:
        """Nothing is taken from an earlier process that would come out otherwise today."""
        decisions.check(counts.sets)
        told = decisions.told()
        same = all(told.get(id) == reason for id, reason in counts.decided.items())
        return counts.know == know and same

    note = home.cache / "imports" / run.partition(":")[2]
    staging = Staging(objects, home.objects, note, still_holds, erasable=bool(request.erasable))
    staging.counts.know = know
    try:
        found = store(home, request, run, files, staging, decisions, progress)
        if _corpus(request, files) != corpus:
            raise PlanRefused(
                f"{request.path} has changed while it was read.", next_step="Import it again when nobody writes to it."
            )
        seen = _planned(home, request, corpus, found)
        with executing(home.recorder, seen.plan, seen.plan.facts) as result:
            with wait_for(home.locks / "imports"):  # what is new in the log, one import after the other says
                home.recorder.refresh()
                _count_again(home, run, staging, before)
                dataset = _written(home, request, run, objects, staging, found, decisions, objects.alias(corpus))
            result.update({"dataset": dataset.label, "rows": dataset.rows, "content_digest": dataset.content_digest})
    finally:
        staging.close()
    note.unlink(missing_ok=True)
    return Imported(dataset, seen)


def _check_request(home: Home, request: ImportRequest) -> None:
    declared = request.declared
    wrong = closed_as_open(declared.model, declared.lab, declared.channel, declared.terms)
    if wrong:
        raise TeacherContradiction(
            f"{wrong}.", next_step="Declare the lab, the channel and the terms that it really has."
        )
    if request.erasable:
        check_source(home, request.erasable)


def _check_room(home: Home, request: ImportRequest, files: Sequence[RowFile]) -> int:
    """How many bytes an import will take, at most, in the home. Raises StorageError where its disk has not as much left, and
    OutOfMemory where this process may not map what it takes.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < _ADDRESS_SPACE:
        raise OutOfMemory(
            f"An import maps up to {_ADDRESS_SPACE >> 20:,} MiB, and this process has a limit of {limit >> 20:,} MiB.",
            next_step="Raise it (`ulimit -v`): most of that is never used.",
        )
    with storage_errors(f"{request.path} could not be read"):
        given = sum(file.stat().st_size for file, why in files if not why)
        free = shutil.disk_usage(home.folder).free
    needed = int(given * _STAYS) + (1 << 20)
    if needed > free:
        raise StorageError(
            f"This import takes up to {needed:,} bytes, and the disk of {home.folder} has {free:,} left.",
            next_step="Free some space, or import the files one after the other.",
        )
    return needed


def _corpus(request: ImportRequest, files: Sequence[RowFile]) -> str:
    with storage_errors(f"{request.path} could not be read"):
        return corpus_digest(files, request.path)


def _run_of(request: ImportRequest, corpus: str) -> str:
    """The run of an import: the same for the same files, declared to be the same. ``corpus`` is an alias, where it is erasable:
    the log is for ever, and no digest may stand in it by which a guess at the rows could be tried.
    """
    name = [request.name, request.use, request.declared, request.erasable, request.keep, corpus]
    name += [request.secrets] if request.secrets is not Secrets.KEEP else []
    return f"import:{digest_plain(name).partition(':')[2][:12]}"


def _planned(home: Home, request: ImportRequest, corpus: str, found: Pass) -> Import:
    """The plan of an import whose rows were seen. Raises CorpusUnreadable where there is none."""
    counts = found.counts
    inventory = take_inventory(counts.read, found.sets, home.policy, found.left_out.rows)
    if not inventory.rows:
        reasons = "; ".join(found.left_out.told().splitlines()[:9]) or "it is empty"
        raise CorpusUnreadable(
            f"{request.path} holds nothing to import: {reasons}.", next_step="docs/importing.md lists the shapes."
        )
    ordered = sorted(found.sets.values(), key=lambda stamps: stamps.digest)
    decisions = [home.policy.check(Door.USE, stamps.stamps, request.use) for stamps in ordered]
    known_by = [request.erasable, readable(request.path), inventory.rows] if request.erasable else corpus
    digest = digest_value([request.name, request.use, known_by, [stamps.digest for stamps in ordered]])
    does: dict[str, Any] = {
        "dataset": request.name,
        "from": readable(request.path),
        "shapes": dict(counts.shapes),
        "rows": inventory.rows,
        "skipped": inventory.skipped,
        "origins": {share.what: share.rows for share in inventory.by_origin},
        "labs": {share.what: share.rows for share in inventory.by_lab},
        "channels": {share.what: share.rows for share in inventory.by_channel},
        f"may be used to {request.use}": {share.what: share.rows for share in inventory.by_decision[str(request.use)]},
        **counts.recognised,
        **({"shortened": dict(counts.shortened)} if counts.shortened else {}),
        **({"redacted": dict(counts.redacted)} if counts.redacted else {}),
        **({"erasable as": request.erasable} if request.erasable else {}),
    }
    subject = f"import:{digest.partition(':')[2][:12]}"
    plan = make_plan("import", subject, does, list(dict.fromkeys(decisions)), Decimal(0), digest)
    return Import(plan, inventory, corpus, found.left_out)


def _written(
    home: Home,
    request: ImportRequest,
    run: str,
    objects: Objects,
    staging: Staging,
    found: Pass,
    decisions: KeepDecisions,
    corpus: str,
) -> DatasetVersion:
    """The entry, and the dataset's, in one write; all objects are stored."""
    stored, counts = staging.stored(), found.counts
    at, by = now(), home.recorder.by
    home.recorder.intern(found.sets.values(), {})
    denied = decisions.told()
    shares = tuple(
        facts.ImportedShare(id, rows, counts.new.get(id, 0), counts.tokens.get(id, 0), not denied[id])
        for id, rows in sorted(counts.read.items())
    )
    imported = facts.RowsImported(
        at=at, by=by, run=run, source=readable(request.path), digest=corpus, shapes=counts.shapes, rows=counts.rows,
        skipped=dict(found.left_out.rows), recognised=counts.recognised, know=counts.know, shares=shares,
        index=stored.index_objects, contents=tuple(stored.files.values()), erasable=request.erasable,
    )  # fmt: skip
    parent = f"corpus:{readable(request.path.name)}"
    edge = facts.Derived(at=at, by=by, parent=parent, child=f"run:{run}", kind="imported in")
    of = VersionOf(request.name, run, digest_value([run, request.name, request.use]), erasable=request.erasable)
    dataset = form_version(home.recorder, objects, of, staging.counted(), stored, (imported, edge))
    for digest in (*stored.files.values(), *stored.index_objects):
        # Somebody may have collected garbage before these were named.
        if not (home.objects.exists(digest) or home.objects.recover(digest)):
            raise CorruptObject(f"{digest} was stored, and is missing.", next_step="Run the same import again.")
    return dataset


def _count_again(home: Home, run: str, staging: Staging, before: Collection[str]) -> None:
    """Take out of what is new in the log what other imports have brought since this one began."""
    counts, since = staging.counts, imported_rows.runs(home.ledger) - set(before) - {run}
    if not since:
        return
    seen: set[str] = set()
    for table in read_index(home.objects, staging.stored().index_objects, ("key", "stamps", "tokens")):
        columns = [table[name].to_pylist() for name in ("key", "stamps", "tokens")]
        lines = {tagged_digest(key): (stamps, tokens) for key, stamps, tokens in zip(*columns, strict=True)}
        theirs = imported_rows.keys_brought_by(home.ledger, lines, since) - seen
        earlier = answer_queries.answered(home.ledger, theirs) | imported_rows.keys_brought_by(
            home.ledger, theirs, before
        )
        for key in theirs - earlier:
            stamps, tokens = lines[key]
            counts.new[stamps] -= 1
            counts.tokens[stamps] -= max(0, tokens)
        seen |= theirs


def _known(home: Home, request: ImportRequest, run: str, know: str) -> DatasetVersion | None:
    """The version that this very import made, if today it would make the same."""
    written = imported_rows.import_of(home.ledger, run)
    versions = dataset_queries.datasets_of_run(home.ledger, run, request.name) if written else []
    if written is None or not versions or not all(map(home.objects.exists, versions[-1].files.values())):
        return None
    sets = origin_queries.stamp_sets(home.ledger)
    same = all(
        share.allowed == home.policy.check(Door.KEEP, sets[share.stamps].stamps, request.use).allowed
        for share in written.shares
    )
    return versions[-1] if same and written.know == know else None


def _as_written(home: Home, run: str, files: Sequence[RowFile]) -> Pass:
    """What an import found that is in the log already."""
    written = imported_rows.import_of(home.ledger, run)
    assert written is not None
    sets = origin_queries.stamp_sets(home.ledger)
    left_out = LeftOutRows()
    left_out.rows.update(written.skipped)
    left_out.examples.update({reason: [] for reason in written.skipped})
    for file, why in files:
        left_out.file(file, why)
    counts = Counts(
        rows=written.rows, shapes=written.shapes, recognised=written.recognised,
        read={share.stamps: share.rows for share in written.shares},
    )  # fmt: skip
    return Pass(counts, {id: sets[id] for id in counts.read}, left_out)
