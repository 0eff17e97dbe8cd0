"""Jobs of Slurm, as ``sacct --parsable2`` or ``sacct --json`` writes them. Source: sacct(1) of Slurm 22.05 to 25.11.

Read are allocation rows; of the steps, only how busy the GPUs were. A job counts the GPUs that it was given, not those that
it asked for. Times are local to the cluster unless SLURM_TIME_FORMAT=%s was set, so a time zone is asked for; where clocks
were put back, ElapsedRaw says which of two equal hours is meant.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import polars as pl

from stillhouse.compute.importers.gres import UnreadableCount, gpus_of_tres, nodes_of, usage_of_tres
from stillhouse.compute.importers.times import epoch
from stillhouse.compute.readings import JOBS, PARTS, Ended, Readings
from stillhouse.errors import CorpusUnreadable

# The columns to ask for; free text comes last, because a | may stand in it.
FIELDS = (
    "JobIDRaw", "JobID", "User", "Account", "Partition", "QOS", "State", "Submit", "Eligible", "Start", "End", "ElapsedRaw",
    "TimelimitRaw", "NNodes", "NodeList", "ReqTRES", "AllocTRES", "TRESUsageInAve", "TRESUsageInMax", "ConsumedEnergyRaw",
    "Reservation", "Reason", "WCKey", "Comment",
)  # fmt: skip
COMMAND = f"sacct --parsable2 --allusers --duplicates --format={','.join(FIELDS)}"
# What may hold a |, by whoever submits a job.
_FREE = {"JobName", "Comment", "AdminComment", "SystemComment", "WCKey", "SubmitLine", "WorkDir", "Reason", "Container"}
_NEEDED = ("State", "Start", "End", "AllocTRES")

_ENDED = {
    "COMPLETED": Ended.COMPLETED, "COMPLETING": Ended.RUNNING, "RUNNING": Ended.RUNNING, "SUSPENDED": Ended.RUNNING,
    "STOPPED": Ended.RUNNING, "SIGNALING": Ended.RUNNING, "STAGE_OUT": Ended.RUNNING, "RESIZING": Ended.RUNNING,
    "CONFIGURING": Ended.RUNNING, "PENDING": Ended.PENDING, "REQUEUE_HOLD": Ended.PENDING, "SPECIAL_EXIT": Ended.PENDING,
    "RESV_DEL_HOLD": Ended.PENDING, "REQUEUE_FED": Ended.PENDING, "CANCELLED": Ended.CANCELLED, "REVOKED": Ended.CANCELLED,
    "TIMEOUT": Ended.TIMEOUT, "DEADLINE": Ended.TIMEOUT, "FAILED": Ended.FAILED, "OUT_OF_MEMORY": Ended.FAILED,
    "BOOT_FAIL": Ended.NODE_FAIL, "LAUNCH_FAILED": Ended.NODE_FAIL, "RECONFIG_FAIL": Ended.NODE_FAIL,
    "NODE_FAIL": Ended.NODE_FAIL, "PREEMPTED": Ended.PREEMPTED, "REQUEUED": Ended.PREEMPTED,
}  # fmt: skip
# What has no start because it never began.
_NEVER_STARTED = [str(Ended.PENDING), str(Ended.CANCELLED)]
# So many rows at a time: memory stays the same for any number of them.
_BATCH_ROWS = 200_000
_RAW = pl.Schema(dict.fromkeys(FIELDS, pl.String))


def read_parsable(lines: Iterable[str], pool: str, zone: str = "UTC") -> Readings:
    """Read what ``COMMAND`` printed, with or without its heading. ``pool`` is that of jobs in no partition.

    Raises CorpusUnreadable where the columns that are needed are not there.
    """
    rest = iter(lines)
    first = next(rest, "")
    heading = first.rstrip("\r\n").split("|")
    if len({*FIELDS, "JobName"} & set(heading)) >= 3:  # no row is called so
        names = heading
    else:
        names, rest = list(FIELDS), _with_first(first, rest)
    missing = [name for name in (*_NEEDED,) if name not in names]
    if missing or not {"JobIDRaw", "JobID"} & set(names):
        raise CorpusUnreadable(
            f"The columns {', '.join(missing) or 'JobIDRaw'} are not there.", next_step=f"Export with `{COMMAND}`."
        )
    frames, left_out, usage = [], Counter[str](), []
    for batch in _batches(rest):
        rows, bad = _split(batch, names)
        left_out.update(bad)
        found, steps, reasons = _jobs(rows, pool, zone)
        frames.append(found)
        usage.append(steps)
        left_out.update(reasons)
    return _finished(frames, usage, left_out)


def read_json(data: bytes, pool: str) -> Readings:
    """Read what ``sacct --json`` printed, of any version of its parser. Raises CorpusUnreadable."""
    try:
        listed = msgspec.json.decode(data)["jobs"]
        if not isinstance(listed, list):
            raise TypeError("jobs is no list")
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError) as failure:
        raise CorpusUnreadable(
            f"It is no output of sacct --json ({failure}).", next_step=f"Export with `{COMMAND}`."
        ) from failure
    rows, unreadable = [], 0
    for job in listed:
        try:
            rows.append(_row_of(job))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            unreadable += 1
    table = pl.DataFrame([row for group in rows for row in group], schema=_RAW)
    found, usage, left_out = _jobs(table, pool, "UTC")
    if unreadable:
        left_out["a job that cannot be read"] += unreadable
    return _finished([found], [usage], left_out)


def _finished(frames: list[pl.DataFrame], usage: list[pl.DataFrame], left_out: Counter[str]) -> Readings:
    if not frames:
        return Readings(left_out=dict(left_out))
    jobs = pl.concat(frames)
    steps = pl.concat(usage).group_by("raw").agg(pl.col("sum").max())
    # A step says the sum over its GPUs in percent; a job that was requeued has one word for all its runs, so none is believed.
    runs = pl.len().over("raw")
    jobs = jobs.join(steps, on="raw", how="left").with_columns(
        mean_use=pl.when((runs == 1) & (pl.col("parts") > 0))
        .then((pl.col("sum") / 100 * PARTS / pl.col("parts")).clip(0, 1))
        .otherwise(None)
    )
    return Readings(jobs=jobs.select(list(JOBS)).cast(JOBS), left_out=dict(left_out))


def _with_first(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _batches(lines: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) >= _BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _split(lines: list[str], names: list[str]) -> tuple[pl.DataFrame, Counter[str]]:
    """Lines as columns. What has more fields than columns can be told where one column of free text is left to hold them."""
    wanted, bad = len(names), Counter[str]()
    text = pl.Series("line", lines, dtype=pl.String).str.strip_chars("\r\n")
    text = text.filter(text.str.len_bytes() > 0)
    bars = text.str.count_matches("|", literal=True)
    short = text.filter(bars < wanted - 1)
    if short.len():
        bad["a line with too few fields"] += short.len()
    plain = text.filter(bars == wanted - 1)
    rows = (
        plain.str.split_exact("|", wanted - 1).struct.rename_fields(names).struct.unnest()
        if plain.len()
        else pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    )
    long = text.filter(bars > wanted - 1)
    free = [place for place, name in enumerate(names) if name in _FREE]
    # The columns of free text at the end hold whatever is too much; one that stands alone in the middle does, too.
    trailing = [place for place in free if place >= wanted - len(free)]
    if long.len():
        if free and (len(trailing) == len(free) or len(free) == 1):
            mended = [_mended(line, names, free) for line in long]
            rows = pl.concat([rows, pl.DataFrame(mended, schema=dict.fromkeys(names, pl.String), orient="row")])
        else:
            bad["a line with too many fields: export free text last, or use sacct --json"] += long.len()
    return rows, bad


def _mended(line: str, names: list[str], free: list[int]) -> list[str]:
    fields = line.split("|")
    first, after = free[0], len(names) - free[-1] - 1
    middle = fields[first : len(fields) - after]
    kept = [*middle[: len(free) - 1], "|".join(middle[len(free) - 1 :])]
    return [*fields[:first], *kept, *fields[len(fields) - after :]]


def _jobs(rows: pl.DataFrame, pool: str, zone: str) -> tuple[pl.DataFrame, pl.DataFrame, Counter[str]]:
    """Allocations, what the steps say of use (a sum in percent by job), and what was left out."""
    left_out = Counter[str]()
    for name in FIELDS:
        if name not in rows.columns:
            rows = rows.with_columns(pl.lit("").alias(name))
    rows = rows.with_columns(pl.col(pl.String).fill_null(""))
    id = pl.when(pl.col("JobIDRaw") != "").then(pl.col("JobIDRaw")).otherwise(pl.col("JobID"))
    rows = rows.with_columns(id=id)
    is_step = pl.col("id").str.contains(".", literal=True)
    steps = rows.filter(is_step & pl.col("TRESUsageInAve").str.contains("gpuutil", literal=True))
    usage = steps.select(
        raw=pl.col("id").str.split(".").list.first(),
        sum=pl.col("TRESUsageInAve").map_elements(usage_of_tres, return_dtype=pl.Float64, skip_nulls=True),
    ).drop_nulls()
    rows = rows.filter(~is_step)
    unnamed = rows.filter(pl.col("id") == "").height
    if unnamed:
        left_out["a job without an id"] += unnamed
    rows = rows.filter(pl.col("id") != "")
    counts, unreadable = _gpus(rows["AllocTRES"])
    asked, _ = _gpus(rows["ReqTRES"])
    rows = rows.with_columns(
        parts=counts[0], gpu_type=counts[1], asked=asked[0], asked_type=asked[1], ended=_ended(rows["State"])
    )
    if unreadable:
        left_out["a count of GPUs that cannot be read"] += unreadable
    rows = rows.filter(pl.col("parts").is_not_null())
    rows = rows.with_columns(
        elapsed=pl.col("ElapsedRaw").str.strip_chars().cast(pl.Int64, strict=False),
        limit=pl.col("TimelimitRaw").str.strip_chars().cast(pl.Int64, strict=False) * 60,
        submitted=epoch("Submit", zone),
        eligible=epoch("Eligible", zone),
        **_start_and_end(zone),
    )
    waits = pl.col("start").is_null()
    # A job that waits holds nothing yet; what it asks for is what it waits for.
    rows = rows.with_columns(
        parts=pl.when(waits | (pl.col("ended") == Ended.PENDING)).then(pl.col("asked")).otherwise(pl.col("parts")),
        gpu_type=pl.when(waits).then(pl.col("asked_type")).otherwise(pl.col("gpu_type")),
        start=pl.when(pl.col("ended") == Ended.PENDING).then(None).otherwise(pl.col("start")),
    )
    without = rows.filter(pl.col("parts").fill_null(0) == 0).height
    if without:
        left_out["a job without GPUs"] += without
    rows = rows.filter(pl.col("parts").fill_null(0) > 0)
    waited = pl.col("submitted").is_not_null() & pl.col("ended").is_in(_NEVER_STARTED)
    no_start = pl.col("start").is_null() & ~waited
    negative = (pl.col("end") < pl.col("start")) | (pl.col("elapsed") < 0)
    for reason, wrong in (
        ("a job that ends before it starts", negative.fill_null(False)),
        ("a job that has ended, without the time", pl.col("start").is_not_null() & pl.col("end").is_null()
         & (pl.col("ended") != Ended.RUNNING)),
        ("a job without a time that can be read", no_start),
    ):  # fmt: skip
        count = rows.filter(wrong).height
        if count:
            left_out[reason] += count
        rows = rows.filter(~wrong)
    held = pl.col("end") - pl.col("start") - pl.col("elapsed")
    rows = rows.with_columns(
        raw="id",
        job=pl.col("JobID").replace("", None).fill_null(pl.col("id")),
        pool=pl.col("Partition").str.split(",").list.first().replace("", None).fill_null(pool),
        user="User",
        team="Account",
        project="WCKey",
        nodes=_nodes(rows["NodeList"]),
        submitted=pl.coalesce("eligible", "submitted"),
        suspended=held.clip(lower_bound=0).fill_null(0),
        reason="Reason",
        mean_use=pl.lit(None, pl.Float64),
        seen=pl.lit(None, pl.Int64),
    )
    return (
        rows.select(list(JOBS)).cast(JOBS),
        usage,
        left_out,
    )


def _gpus(column: pl.Series) -> tuple[tuple[pl.Series, pl.Series], int]:
    """Parts and types of a column of TRES; the parts are null where they cannot be read. Few strings differ: each is read
    once.
    """
    known: dict[str, tuple[int | None, str]] = {}
    bad = set()
    for text in column.unique():
        try:
            known[text] = gpus_of_tres(text)
        except UnreadableCount:
            known[text] = (None, "")
            bad.add(text)
    texts = list(known)
    if not texts:
        return (pl.Series([], dtype=pl.Int64), pl.Series([], dtype=pl.String)), 0
    parts = column.replace_strict(texts, [known[text][0] for text in texts], return_dtype=pl.Int64)
    types = column.replace_strict(texts, [known[text][1] for text in texts], return_dtype=pl.String)
    return (parts, types), int(column.is_in(list(bad)).sum()) if bad else 0


def _nodes(column: pl.Series) -> pl.Series:
    texts = column.unique().to_list()
    if not texts:
        return pl.Series("nodes", [], pl.List(pl.String))
    table = pl.DataFrame({"text": texts, "nodes": [list(nodes_of(text)) for text in texts]},
                         schema={"text": pl.String, "nodes": pl.List(pl.String)})  # fmt: skip
    return pl.DataFrame({"text": column}).join(table, on="text", how="left", maintain_order="left")["nodes"]


def _ended(column: pl.Series) -> pl.Series:
    texts = column.unique().to_list()
    # CANCELLED by 1000, CANCELLED+
    known = [_ENDED.get(text.split(" ")[0].rstrip("+").upper(), Ended.UNKNOWN) for text in texts]
    return column.replace_strict(texts, [str(one) for one in known], return_dtype=pl.String) if texts else column


def _start_and_end(zone: str) -> dict[str, pl.Expr]:
    """Start and end; in the hour that the clocks repeat, those between which the job ran as long as it says."""
    start, end = epoch("Start", zone), epoch("End", zone)
    if zone == "UTC":  # which repeats no hour
        return {"start": start, "end": end}
    late_start, late_end = epoch("Start", zone, later=True), epoch("End", zone, later=True)
    elapsed = pl.col("ElapsedRaw").str.strip_chars().cast(pl.Int64, strict=False)
    choice = pl.when(end - start == elapsed)
    return {
        "start": choice.then(start).when(end - late_start == elapsed).then(late_start)
        .when(late_end - late_start == elapsed).then(late_start).otherwise(start),
        "end": choice.then(end).when(late_end - start == elapsed).then(late_end).when(end - late_start == elapsed).then(end)
        .when(late_end - late_start == elapsed).then(late_end)
        # Without any elapsed time that fits, an end that would lie before the start is the later one.
        .when(end < start).then(late_end).otherwise(end),
    }  # fmt: skip


def _row_of(job: dict[str, Any]) -> list[dict[str, str]]:
    """A job of ``sacct --json`` as rows of sacct: one for the allocation, one for each step that says how busy its GPUs were."""
    moment = job.get("time") or {}
    allocated = (job.get("tres") or {}).get("allocated") or []
    asked = (job.get("tres") or {}).get("requested") or []
    state = job.get("state") or {}
    current = state.get("current", "") if isinstance(state, dict) else state
    limit = _number(moment.get("limit"))
    row = {
        "JobIDRaw": str(job.get("job_id", "")),
        "JobID": _shown_id(job),
        "User": str(job.get("user") or (job.get("association") or {}).get("user") or ""),
        "Account": str(job.get("account") or ""),
        "Partition": str(job.get("partition") or ""),
        "QOS": str(job.get("qos") or ""),
        "State": str(current[0] if isinstance(current, list) and current else current or ""),
        "Submit": _moment(moment.get("submission")),
        "Eligible": _moment(moment.get("eligible")),
        "Start": _moment(moment.get("start")),
        "End": _moment(moment.get("end")),
        "ElapsedRaw": str(moment.get("elapsed", "")),
        "TimelimitRaw": "" if limit is None else str(limit),
        "NodeList": str(job.get("nodes") or ""),
        "ReqTRES": _tres(asked),
        "AllocTRES": _tres(allocated),
        "Reason": str((state.get("reason") if isinstance(state, dict) else "") or ""),
        "WCKey": str(
            (job.get("wckey") or {}).get("wckey", "") if isinstance(job.get("wckey"), dict) else job.get("wckey") or ""
        ),
    }
    steps = []
    for step in job.get("steps") or []:
        usage = ((step.get("tres") or {}).get("requested") or {}).get("average") or []
        if usage:
            steps.append({"JobIDRaw": f"{row['JobIDRaw']}.0", "TRESUsageInAve": _tres(usage)})
    return [row, *steps]


def _shown_id(job: dict[str, Any]) -> str:
    """123_4 for a task of an array, 123+1 for a part of a heterogeneous job."""
    array, het = job.get("array") or {}, job.get("het") or {}
    task, parent = _number(array.get("task_id")), _number(array.get("job_id"))
    if parent and task is not None:
        return f"{parent}_{task}"
    whole, offset = _number(het.get("job_id")), _number(het.get("job_offset"))
    return f"{whole}+{offset}" if whole and offset is not None else str(job.get("job_id", ""))


def _number(value: Any) -> int | None:
    """A number as any version writes it: plain, or with whether it is set and whether it is infinite."""
    if isinstance(value, dict):
        return int(value["number"]) if value.get("set") and not value.get("infinite") else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _moment(value: Any) -> str:
    number = _number(value)
    return str(number) if number else ""


def _tres(listed: list[dict[str, Any]]) -> str:
    named = []
    for one in listed:
        name = str(one.get("type", "")) + (f"/{one['name']}" if one.get("name") else "")
        named.append(f"{name}={one.get('count', 0)}")
    return ",".join(named)
