"""Jobs, samples and capacity as plain CSV or Parquet, for schedulers that no other importer reads. Pure.

Columns by name: ``job, start, end, gpus`` and, where known, pool, user, team, project, gpu_type, nodes (separated by spaces),
submitted, ended; or ``time, gpu, use`` (0 to 1) with pool, node, job; or ``time, node, gpus`` with pool, up.
"""

from collections import Counter
from typing import Any

import polars as pl

from stillhouse.compute.importers.times import epoch
from stillhouse.compute.readings import CAPACITY, JOBS, MOST_GPUS, PARTS, SAMPLES, Ended, Readings, Rung
from stillhouse.errors import CorpusUnreadable

_GOES_ON = [str(one) for one in (Ended.RUNNING, Ended.PENDING, Ended.UNKNOWN)]


def read_delimited(table: pl.DataFrame, pool: str, zone: str = "UTC") -> Readings:
    """Read a table of text columns. Raises CorpusUnreadable where it has the columns of none of these."""
    columns = set(table.columns)
    if columns >= {"job", "start", "gpus"}:
        return _jobs(table, pool, zone)
    if columns >= {"time", "gpu", "use"}:
        return _samples(table, pool, zone)
    if columns >= {"time", "gpus"}:
        return _capacity(table, pool, zone)
    raise CorpusUnreadable(
        f"It has the columns {', '.join(table.columns) or 'of nothing'}.",
        next_step="docs/compute.md lists the layouts that are read.",
    )


def _text(table: pl.DataFrame, name: str, default: str = "") -> pl.Expr:
    return pl.col(name).fill_null(default) if name in table.columns else pl.lit(default)


def _time(table: pl.DataFrame, name: str, zone: str) -> pl.Expr:
    return epoch(name, zone) if name in table.columns else pl.lit(None, pl.Int64)


def _jobs(table: pl.DataFrame, pool: str, zone: str) -> Readings:
    known = {str(one) for one in Ended}
    said = table["ended"].fill_null("").str.to_lowercase() if "ended" in table.columns else None
    rows = table.select(
        job=pl.col("job").fill_null(""),
        pool=_text(table, "pool", pool),
        user=_text(table, "user"),
        team=_text(table, "team"),
        project=_text(table, "project"),
        gpu_type=_text(table, "gpu_type"),
        parts=(pl.col("gpus").cast(pl.Float64, strict=False) * PARTS).round().cast(pl.Int64, strict=False),
        nodes=_text(table, "nodes").str.split(" ").list.filter(pl.element() != ""),
        submitted=_time(table, "submitted", zone),
        start=epoch("start", zone),
        end=_time(table, "end", zone),
        suspended=pl.lit(0),
        limit=pl.lit(None),
        ended=pl.lit("").alias("ended") if said is None else said,
        mean_use=pl.lit(None),
        reason=pl.lit(""),
        raw=pl.lit(""),
        seen=pl.lit(None, pl.Int64),
    )
    running = pl.when(pl.col("end").is_null()).then(pl.lit(str(Ended.RUNNING))).otherwise(pl.lit(str(Ended.UNKNOWN)))
    rows = rows.with_columns(ended=pl.when(pl.col("ended").is_in(known)).then(pl.col("ended")).otherwise(running))
    waits = pl.col("start").is_null() & pl.col("submitted").is_not_null() & pl.col("end").is_null()
    return _kept(
        rows.select(list(JOBS)).cast(JOBS),
        "jobs",
        {
            "a job without an id": pl.col("job") == "",
            "a job without GPUs": pl.col("parts").fill_null(0) <= 0,
            "a job with more GPUs than anybody has": pl.col("parts") > MOST_GPUS * PARTS,
            "a job without a time that can be read": pl.col("start").is_null() & ~waits,
            "a job that ends before it starts": pl.col("end") < pl.col("start"),
            "a job that has ended, without the time": pl.col("end").is_null() & ~pl.col("ended").is_in(_GOES_ON),
        },
    )


def _samples(table: pl.DataFrame, pool: str, zone: str) -> Readings:
    rows = table.select(
        time=epoch("time", zone),
        pool=_text(table, "pool", pool),
        node=_text(table, "node"),
        gpu=pl.col("gpu").fill_null(""),
        parts=pl.lit(PARTS),
        job=_text(table, "job"),
        use=pl.col("use").cast(pl.Float32, strict=False),
        rung=_text(table, "rung", str(Rung.GPU_UTIL)),
    )
    return _kept(
        rows.cast(SAMPLES),
        "samples",
        {
            "a sample without a time": pl.col("time").is_null(),
            "a sample that does not say of which GPU": pl.col("gpu") == "",
            "a sample that is no number": pl.col("use").is_null() | pl.col("use").is_nan(),
            "a sample outside 0 to 1": ~pl.col("use").is_between(0, 1),
            "a sample of an unknown measure": ~pl.col("rung").is_in([str(one) for one in Rung]),
        },
    )


def _capacity(table: pl.DataFrame, pool: str, zone: str) -> Readings:
    up = _text(table, "up", "true").str.to_lowercase().is_in(["true", "1", "yes", "up"])
    rows = table.select(
        pool=_text(table, "pool", pool),
        node=_text(table, "node"),
        gpu_type=_text(table, "gpu_type"),
        time=epoch("time", zone),
        parts=(pl.col("gpus").cast(pl.Float64, strict=False) * PARTS).round().cast(pl.Int64, strict=False),
        up=up,
        snapshot=pl.lit(value=False),
    )
    return _kept(
        rows.cast(CAPACITY),
        "capacity",
        {
            "a row without a time": pl.col("time").is_null(),
            "a row without a number of GPUs": pl.col("parts").is_null(),
            "a row with fewer than no GPUs": pl.col("parts") < 0,
            "a row with more GPUs than anybody has": pl.col("parts") > MOST_GPUS * PARTS,
        },
    )


def _kept(rows: pl.DataFrame, name: str, wrong: dict[str, pl.Expr]) -> Readings:
    left_out = Counter[str]()
    for reason, expression in wrong.items():
        bad = expression.fill_null(value=False)
        count = rows.filter(bad).height
        if count:
            left_out[reason] += count
            rows = rows.filter(~bad)
    kept: dict[str, Any] = {name: rows}
    return Readings(**kept, left_out=dict(left_out))
