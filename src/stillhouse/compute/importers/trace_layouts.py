"""Series of idle GPUs as published traces lay them out: ours (time, idle), Helios, Philly; and jobs of Philly, Alibaba, Acme.

Sources: S-Lab Helios and HeliosArtifact; Microsoft Philly traces; Alibaba clusterdata (``job_info_df.csv``); AcmeTrace
(``trace_seren.csv``, ``trace_kalos.csv``).
"""

import contextlib
import gzip
import io
import json
import zlib
from pathlib import Path
from typing import NamedTuple

import polars as pl

from stillhouse.compute.importers.times import epoch
from stillhouse.compute.readings import JOBS, LEVELS, MOST_GPUS, PARTS, Ended, Readings
from stillhouse.errors import CorpusUnreadable

_HELIOS = {"total_gpu_num", "running_gpu_num", "idle_gpu_num"}
_PHILLY_NODES = {"active", "total"}
_ENDINGS = (".gz", ".csv", ".parquet", ".jsonl")


class SeriesFile(NamedTuple):
    """A series as one file has it: of which pool, its levels, and how many rows were left out, by reason."""

    pool: str
    levels: pl.DataFrame
    left_out: dict[str, int]


def pool_named(path: Path) -> str:
    """The pool that a file is of, by its name: ``vc6YE.csv.gz`` is of vc6YE."""
    name = path.name
    while name.endswith(_ENDINGS):
        name = name.rpartition(".")[0]
    return name or path.name


def read_series(path: Path, zone: str = "UTC", pool: str = "") -> list[SeriesFile]:
    """Read a series: one pool (as named, else by the file's name), or as many as a column ``pool`` names.

    Raises CorpusUnreadable, OSError.
    """
    table = table_of(path)
    columns = set(table.columns)
    if "time" not in columns:
        raise CorpusUnreadable(f"{path.name} has no column time.", next_step="It takes the columns time and idle.")
    if columns >= _HELIOS:
        named = {"idle": "idle_gpu_num", "capacity": "total_gpu_num", "waiting": "pending_gpu_num",
                 "waiting_large": "pending_gpu_num_noless_8"}  # fmt: skip
        table = table.with_columns(**{new: pl.col(old) for new, old in named.items() if old in columns})
    elif "idle" in columns:
        pass
    elif columns >= _PHILLY_NODES:
        idle = pl.col("total").cast(pl.Float64, strict=False) - pl.col("active").cast(pl.Float64, strict=False)
        table = table.with_columns(idle=idle.cast(pl.String), capacity=pl.col("total"))
    else:
        raise CorpusUnreadable(
            f"{path.name} has no column idle.", next_step="It takes the columns time and idle, or a known trace layout."
        )
    for name in ("capacity", "waiting", "waiting_large", "pool"):
        if name not in table.columns:
            table = table.with_columns(pl.lit(None, pl.String).alias(name))
    levels = table.select(
        time=epoch("time", zone),
        pool=pl.col("pool").fill_null(pool or pool_named(path)),
        **{name: pl.col(name).str.strip_chars().cast(pl.Float64, strict=False).floor().cast(pl.Int64, strict=False)
           for name in ("capacity", "idle", "waiting", "waiting_large")},
    ).cast(LEVELS).select(list(LEVELS))  # fmt: skip
    left_out = {
        "a row without a time": levels["time"].null_count(),
        "a row without a number of idle GPUs": levels.filter(pl.col("time").is_not_null())["idle"].null_count(),
        "a row with fewer than no GPU idle": levels.filter(pl.col("idle") < 0).height,
        "a row with a number of GPUs that cannot be": levels.filter(_impossible()).height,
    }
    kept = levels.filter(pl.col("time").is_not_null() & (pl.col("idle") >= 0) & ~_impossible())
    counted = {reason: count for reason, count in left_out.items() if count}
    if not kept.height:
        return [SeriesFile(pool_named(path), kept, counted)]
    pools = kept["pool"].unique(maintain_order=True).to_list()
    # What was left out of a file with several pools is told once.
    return [
        SeriesFile(pool, kept.filter(pl.col("pool") == pool), counted if place == 0 else {})
        for place, pool in enumerate(pools)
    ]


def _impossible() -> pl.Expr:
    most = pl.max_horizontal("capacity", "idle", "waiting", "waiting_large") > MOST_GPUS
    return most.fill_null(value=False) | (pl.min_horizontal("capacity", "waiting", "waiting_large") < 0).fill_null(
        value=False
    )


def read_trace_jobs(path: Path, pool: str = "", zone: str = "UTC") -> Readings | None:
    """The jobs of a published trace; None for a layout that is not known. Raises CorpusUnreadable, OSError."""
    table = table_of(path)
    columns = set(table.columns)
    name = pool or pool_named(path)
    if columns >= {"timestamp", "duration", "num_gpus"}:  # Philly through HeliosArtifact
        start = epoch("timestamp", zone)
        jobs = _jobs(table, name, start, start, _seconds("duration"), pl.col("num_gpus"), "cluster")
    elif columns >= {"organization", "gpu_model", "submit_time", "duration"}:  # Alibaba, spot and high priority
        count = next((one for one in ("gpu_num", "gpu_request", "num_gpus") if one in columns), "")
        if not count:
            raise CorpusUnreadable(
                f"{path.name} does not say how many GPUs a job has.", next_step="docs/compute.md lists what is read."
            )
        moment = epoch("submit_time", zone)
        jobs = _jobs(table, name, moment, moment, _seconds("duration"), pl.col(count), "organization", "gpu_model")
    elif columns >= {"job_id", "user", "gpu_num", "start_time", "end_time"}:  # Acme
        start, end = epoch("start_time", zone), epoch("end_time", zone)
        jobs = _jobs(
            table,
            name,
            epoch("submit_time", zone) if "submit_time" in columns else start,
            start,
            end - start,
            pl.col("gpu_num"),
            "user",
        )
        states = {"COMPLETED": Ended.COMPLETED, "FAILED": Ended.FAILED, "CANCELLED": Ended.CANCELLED,
                  "TIMEOUT": Ended.TIMEOUT, "NODE_FAIL": Ended.NODE_FAIL}  # fmt: skip
        if "state" in columns:
            said = table["state"].str.to_uppercase()
            known = said.replace_strict(list(states), [str(one) for one in states.values()], default=str(Ended.UNKNOWN))
            jobs = jobs.with_columns(ended=known.fill_null(str(Ended.UNKNOWN)), job=table["job_id"])
    else:
        return None
    negative = jobs.filter(pl.col("end") < pl.col("start")).height
    without = jobs.filter(pl.col("parts").fill_null(0) <= 0).height
    many = jobs.filter(pl.col("parts") > MOST_GPUS * PARTS).height
    left_out = {"a job that ends before it starts": negative, "a job without GPUs": without,
                "a job without a time": jobs.filter(pl.col("start").is_null() | pl.col("end").is_null()).height}  # fmt: skip
    left_out["a job with more GPUs than anybody has"] = many
    kept = jobs.filter((pl.col("end") >= pl.col("start")) & pl.col("parts").is_between(1, MOST_GPUS * PARTS))
    return Readings(jobs=kept, left_out={reason: count for reason, count in left_out.items() if count})


def _seconds(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Float64, strict=False).round().cast(pl.Int64, strict=False)


def _jobs(
    table: pl.DataFrame, pool: str, submitted: pl.Expr, start: pl.Expr, seconds: pl.Expr, gpus: pl.Expr, team: str,
    type: str = "",
) -> pl.DataFrame:  # fmt: skip
    made = table.with_row_index("row").select(
        job=pl.format("{}-{}", pl.lit(pool), "row"),
        pool=pl.lit(pool),
        user=pl.lit(""),
        team=pl.col(team).fill_null("") if team in table.columns else pl.lit(""),
        project=pl.lit(""),
        gpu_type=pl.col(type).fill_null("") if type else pl.lit(""),
        parts=(gpus.cast(pl.Float64, strict=False) * PARTS).round().cast(pl.Int64, strict=False),
        nodes=pl.lit([], pl.List(pl.String)),
        submitted=submitted,
        start=start,
        end=start + seconds,
        suspended=pl.lit(0),
        limit=pl.lit(None),
        ended=pl.lit(str(Ended.UNKNOWN)),
        mean_use=pl.lit(None),
        reason=pl.lit(""),
        raw=pl.lit(""),
        seen=pl.lit(None, pl.Int64),
    )
    return made.select(list(JOBS)).cast(JOBS)


def table_of(path: Path) -> pl.DataFrame:
    """A file of comma-separated values, compressed or not, or a Parquet file, as columns of text. Raises CorpusUnreadable."""
    try:
        if path.suffix == ".parquet":
            return _as_text(pl.read_parquet(path))
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return _rows_of(data)
    except (pl.exceptions.PolarsError, gzip.BadGzipFile, EOFError, zlib.error) as failure:
        raise CorpusUnreadable(
            f"{path.name}: {str(failure).splitlines()[0]}", next_step="docs/compute.md lists what is read."
        ) from failure


def _rows_of(data: bytes) -> pl.DataFrame:
    """Rows of text. A quote that nobody closes would take the rows after it along: then quotes are taken off by hand."""
    lines = sum(1 for line in data.split(b"\n") if line.strip())
    with contextlib.suppress(pl.exceptions.PolarsError):
        table = _read(data, '"')
        if table.height + 1 >= lines:
            return table
    return _read(data, None).with_columns(pl.col(pl.String).str.strip_chars('"'))


def _read(data: bytes, quote: str | None) -> pl.DataFrame:
    table = pl.read_csv(
        io.BytesIO(data),
        infer_schema=False,
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
        null_values=[""],
        quote_char=quote,
    )
    return table.rename({name: name.strip('"\r ') for name in table.columns}) if quote is None else table


def _as_text(table: pl.DataFrame) -> pl.DataFrame:
    """Columns of text; what is a list or a struct in Parquet is JSON, as in CSV."""
    nested = [name for name, kind in table.schema.items() if kind.is_nested()]
    as_json = [
        pl.Series(
            name, [None if one is None else json.dumps(one, default=str) for one in table[name].to_list()], pl.String
        )
        for name in nested
    ]
    return table.with_columns(as_json).cast(pl.String)
