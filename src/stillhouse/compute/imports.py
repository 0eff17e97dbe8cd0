"""Import what schedulers, metrics servers and bills say into a home, and read all of it back.

Each import is one entry of the log that names its tables in the vault; the same file twice is one import. What was left out
is kept with it, by reason.
"""

import contextlib
import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl

from stillhouse.canon import digest_bytes
from stillhouse.clock import now
from stillhouse.compute.accounting.costs import Charge
from stillhouse.compute.importers.delimited import read_delimited
from stillhouse.compute.importers.focus import read_focus
from stillhouse.compute.importers.kubernetes import read_objects
from stillhouse.compute.importers.prometheus import read_answer
from stillhouse.compute.importers.slurm_jobs import read_json, read_parsable
from stillhouse.compute.importers.slurm_nodes import read_nodes
from stillhouse.compute.importers.trace_layouts import pool_named, read_series, read_trace_jobs, table_of
from stillhouse.compute.readings import TABLES, Readings, Span, together
from stillhouse.errors import CorpusUnreadable, UsageError
from stillhouse.home import facts
from stillhouse.home.current_permission import load
from stillhouse.home.fleet import Fleet
from stillhouse.home.ledger.compute_queries import compute_imports
from stillhouse.home.open_home import Home
from stillhouse.home.policy_documents import in_force
from stillhouse.vault.files import storage_errors

_CHARGES = "charges"


class Kind(StrEnum):
    """Of what a file is."""

    SACCT = "sacct"
    NODES = "nodes"
    PROMETHEUS = "prometheus"
    KUBERNETES = "kubernetes"
    BILL = "bill"
    SERIES = "series"
    TABLE = "table"


class Hints(NamedTuple):
    """What a file may not say itself: its pool, its time zone, when it was taken, what an idle GPU draws, and from when to when
    it has every job.
    """

    pool: str = ""
    zone: str = "UTC"
    at: int | None = None
    idle_watts: float = 0.0
    since: int | None = None
    until: int | None = None


class Imported(msgspec.Struct, frozen=True):
    """What came of an import: how many rows of which table, and what was left out, by reason."""

    source: str
    kind: str
    rows: dict[str, int]
    left_out: dict[str, int]
    known: bool = False


def fleet_of(home: Home) -> Fleet:
    """The fleet as it decides now: as it was adopted, or, before any adoption, as the file says. Raises RuleError."""
    return in_force(home.settings, load(home.ledger, home.settings).state, home.objects).fleet


def import_file(home: Home, path: Path, kind: Kind | None, hints: Hints) -> Imported:
    """Read a file into the home. Raises CorpusUnreadable, UsageError, StorageError."""
    if not path.is_file():
        raise CorpusUnreadable(f"{path} is {'a folder' if path.is_dir() else 'not there'}.", next_step="Name a file.")
    with storage_errors(f"{path} could not be read"):
        digest = _digest_of(path)
    found = kind or recognise(path)
    if not hints.idle_watts and hints.pool:
        hints = hints._replace(idle_watts=fleet_of(home).pool(hints.pool).idle_watts)
    if found is Kind.BILL:
        bill = read_focus(table_of(path))
        tables = {_CHARGES: msgspec.json.encode(bill.charges)}
        spans = [(one.start, one.end) for one in bill.charges]
        rows, left_out = {_CHARGES: len(bill.charges)}, bill.left_out
    else:
        readings = read(path, found, hints)
        frames = {name: getattr(readings, name) for name in TABLES}
        tables = {name: _parquet(frame) for name, frame in frames.items() if frame.height}
        rows = {name: frame.height for name, frame in frames.items() if frame.height}
        spans, left_out = _spans(frames), readings.left_out
    if not tables or not sum(rows.values()):
        reasons = "; ".join(f"{count}: {reason}" for reason, count in left_out.items()) or "it is empty"
        raise CorpusUnreadable(
            f"Nothing in {path.name} can be used ({reasons}).", next_step="docs/compute.md lists what is read."
        )
    files = {name: home.objects.put(data) for name, data in tables.items()}
    first = hints.since or min((start for start, _ in spans), default=0)
    last = hints.until or max((end for _, end in spans), default=0)
    before = newest_imports(home)
    known = next((one for one in before if one.digest == digest and one.kind == found), None)
    if known is not None and (known.files, known.first, known.last) == (files, first, last):
        return Imported(path.name, found, {}, known.left_out, known=True)
    home.recorder.record(
        facts.ComputeImported(
            at=now(), by=home.recorder.by, kind=found, source=path.name, digest=digest, files=files, rows=sum(rows.values()),
            left_out=left_out, first=first, last=last,
        )
    )  # fmt: skip
    home.recorder.refresh()
    return Imported(path.name, found, rows, left_out)


def read(path: Path, kind: Kind, hints: Hints) -> Readings:
    """Read a file of a kind. Raises CorpusUnreadable, StorageError."""
    # Samples are of the pool that has their node or their job.
    pool = hints.pool or ("" if kind is Kind.PROMETHEUS else pool_named(path))
    with storage_errors(f"{path} could not be read"):
        if kind is Kind.SACCT:
            with _opened(path) as file:
                if file.peek(64).lstrip()[:1] == b"{":
                    return read_json(file.read(), pool)
                lines = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="\n")
                return read_parsable(lines, pool, hints.zone)
        if kind is Kind.SERIES:
            parts = read_series(path, hints.zone, hints.pool)
            return together(Readings(levels=part.levels, left_out=part.left_out) for part in parts)
        if kind is Kind.TABLE:
            return read_trace_jobs(path, hints.pool, hints.zone) or read_delimited(table_of(path), pool, hints.zone)
        whole: dict[Kind, Callable[[bytes], Readings]] = {
            Kind.NODES: lambda data: read_nodes(data, hints.at),
            Kind.PROMETHEUS: lambda data: read_answer(data, pool, hints.idle_watts),
            Kind.KUBERNETES: lambda data: read_objects(data, pool, hints.at),
        }
        with _opened(path) as file:
            return whole[kind](file.read())


def recognise(path: Path) -> Kind:
    """Of what a file is, by how it begins. Raises UsageError where nobody can tell."""
    with _opened(path) as file:
        begins = file.read(1 << 20)
    if begins.lstrip()[:1] == b"{":
        marks = ((b'"resultType"', Kind.PROMETHEUS), (b'"errorType"', Kind.PROMETHEUS),
                 (b'"apiVersion"', Kind.KUBERNETES), (b'"jobs"', Kind.SACCT),
                 (b'"nodes"', Kind.NODES))  # fmt: skip
        for mark, kind in marks:
            if mark in begins:
                return kind
    elif begins.split(b"\n")[0].count(b"|") >= 10:
        return Kind.SACCT
    else:
        columns = set(table_of(path).columns)
        if {"BilledCost", "EffectiveCost"} & columns:
            return Kind.BILL
        if "time" in columns and ({"idle", "idle_gpu_num"} & columns or {"active", "total"} <= columns):
            return Kind.SERIES
        if columns:
            return Kind.TABLE
    raise UsageError(f"{path.name} is of no known kind.", next_step=f"Say it with --kind: {', '.join(Kind)}.")


def newest_imports(home: Home) -> list[facts.ComputeImported]:
    """Every import that counts: of a file that was imported again, with another pool or time zone, the newest."""
    return list({(one.digest, one.kind): one for one in compute_imports(home.ledger)}.values())


def readings_of(home: Home, *names: str) -> Readings:
    """All that was imported, as tables; ``names`` are those that are wanted, else every one. Raises CorruptObject."""
    found = []
    for one in newest_imports(home):
        frames: dict[str, Any] = {
            name: pl.read_parquet(io.BytesIO(home.objects.get(digest)))
            for name, digest in one.files.items()
            if name in (names or TABLES)
        }
        covered: dict[str, tuple[Span, ...]] = {}
        if "jobs" in frames:
            pools = frames["jobs"]["pool"].unique().to_list()
            covered = dict.fromkeys(pools, ((one.first, one.last),))
            seen = pl.when(pl.col("end").is_null()).then(pl.lit(one.last, pl.Int64))
            frames["jobs"] = frames["jobs"].with_columns(seen=seen)
        found.append(Readings(**frames, covered=covered))
    return together(found)


def charges_of(home: Home) -> list[Charge]:
    """The charges of every bill that was imported. What two bills have in common is charged once: as often as in either."""
    found: Counter[Charge] = Counter()
    for one in newest_imports(home):
        if _CHARGES in one.files:
            found |= Counter(msgspec.json.decode(home.objects.get(one.files[_CHARGES]), type=list[Charge]))
    return list(found.elements())


def _parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)  # with zstd
    return out.getvalue()


def _spans(frames: dict[str, pl.DataFrame]) -> list[tuple[int, int]]:
    """The first and last time of each table."""
    found = []
    for name, frame in frames.items():
        times = [column for column in ("time", "submitted", "start", "end") if column in frame.columns]
        values = [
            value for column in times for value in (frame[column].min(), frame[column].max()) if isinstance(value, int)
        ]
        if values and name in TABLES:
            found.append((min(values), max(values)))
    return found


def _digest_of(path: Path) -> str:
    if path.stat().st_size < 1 << 24:
        return digest_bytes(path.read_bytes())
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@contextlib.contextmanager
def _opened(path: Path) -> "Iterator[io.BufferedReader[Any]]":
    """A file, or what is compressed in it. Raises StorageError, CorpusUnreadable where it is torn."""
    with storage_errors(f"{path} could not be read"):
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        try:
            with io.BufferedReader(gzip.GzipFile(path)) if compressed else path.open("rb") as opened:
                yield opened
        except (EOFError, zlib.error) as failure:
            raise CorpusUnreadable(f"{path.name} is torn: {failure}", next_step="Copy it again.") from failure
