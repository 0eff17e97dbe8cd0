"""From samples of GPUs to how long each job used what it held: as fine as the samples are, with a bound on the error. Pure.

A sample holds until the next one of its GPU, and for one interval at most: beyond that nothing is known. Where two neighbours
differ, the change was somewhere between them, so each change adds an interval to the bound; so does each end of what was
sampled. The bound supposes that nothing changes twice between two samples. Of several measures of one GPU the best counts:
SM_ACTIVE, then GR_ENGINE, then GPU_UTIL, then power.
"""

from collections.abc import Iterator

import polars as pl

from stillhouse.compute.readings import LADDER

# Below this share of the time a GPU does nothing that anybody asked for: a monitoring agent alone makes a percent.
ACTIVE_ABOVE = 0.02
# A sample that is this many intervals late is a gap.
_GAP = 1.5
_ONE_ALONE = 60
# A measure that is switched on later counts from then on.
_HOUR = 3600
# So many samples are looked at together.
_ROWS_AT_ONCE = 2_000_000

ACTIVITY = pl.Schema({"run": pl.UInt32, "active": pl.Int64, "inactive": pl.Int64, "bound": pl.Int64, "rung": pl.String})


def activity_of(samples: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Active and inactive part-seconds of each run in ``held`` (pool, job, begins, ends, parts, nodes), by its row, with
    their bounds.

    A sample belongs to the job it names, else to the only job on its node. Where several jobs share a node and samples name
    none, nothing is said of them.
    """
    if not samples.height or not held.height:
        return pl.DataFrame(schema=ACTIVITY)
    runs = held.select("pool", "job", "raw", "begins", "ends", "parts", "nodes").with_row_index("run")
    runs = runs.with_columns(pl.col("pool", "job", "raw").cast(pl.Categorical))
    per_run = pl.concat([_summed(part, runs) for part in _by_nodes(samples)])
    if not per_run.height:
        return pl.DataFrame(schema=ACTIVITY)
    per_run = per_run.group_by("run").agg(pl.col("active", "inactive", "bound").sum(), pl.col("rung").max())
    found = runs.join(per_run, on="run").with_columns(
        most=(pl.col("ends") - pl.col("begins")) * pl.col("parts"), rung=_name("rung")
    )
    # More GPUs can be sampled on a node than a job holds: no job is more active than it is large.
    found = found.with_columns(active=pl.min_horizontal("active", "most"))
    found = found.with_columns(inactive=pl.min_horizontal("inactive", pl.col("most") - pl.col("active")))
    return found.select(list(ACTIVITY)).cast(ACTIVITY)


def _by_nodes(samples: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Samples in parts of some nodes each, so that what is computed of them needs little memory."""
    nodes = samples["node"].unique().to_list()
    size = max(1, len(nodes) * _ROWS_AT_ONCE // max(samples.height, 1))
    for first in range(0, len(nodes), size):
        some = nodes[first : first + size]
        yield samples if len(some) == len(nodes) else samples.filter(pl.col("node").is_in(some))


def _summed(samples: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Active and inactive part-seconds and the bound of each run, as far as these samples say."""
    spans = _spans(_best_rung(samples))
    of_runs = pl.concat([_named(spans, runs), _only_on_node(spans, runs)])
    spans_of = of_runs.with_columns(
        begin=pl.max_horizontal("time", "begins"), finish=pl.min_horizontal("until", "ends")
    ).filter(pl.col("begin") < pl.col("finish"))
    # Rows are in the order of GPU and time, so what came before one of a run is above it.
    follows = (pl.col("series") == pl.col("series").shift(1)) & (pl.col("run") == pl.col("run").shift(1))
    spans_of = spans_of.with_columns(follows=follows.fill_null(value=False))
    # The first sample of a job that is late by less than an interval speaks for what came before it, too.
    late = pl.col("begin") - pl.col("begins")
    spans_of = spans_of.with_columns(
        changed=~pl.col("follows") | (pl.col("active") != pl.col("active").shift(1)),
        begin=pl.when(~pl.col("follows") & late.is_between(1, pl.col("step"))).then("begins").otherwise("begin"),
    )
    seconds = pl.col("finish") - pl.col("begin")
    parts = pl.col("gpu_parts")
    per_node = spans_of.group_by("run", "node").agg(
        active=(seconds * parts).filter(pl.col("active")).sum(),
        inactive=(seconds * parts).filter(~pl.col("active")).sum(),
        # One interval for each change, and one for the end of what was sampled of each GPU.
        bound=(pl.col("step") * parts).filter(pl.col("changed")).sum(),
        rung=pl.col("rung").max(),
    )
    # Of a job on several nodes, no node has more than its share: GPUs that are sampled beside it are not its own.
    long = pl.col("ends") - pl.col("begins")
    sizes = runs.select("run", shares=pl.col("nodes").list.len().clip(1), whole=pl.col("parts"), long=long)
    shares = pl.when(pl.col("node") == "").then(1).otherwise(pl.col("shares"))
    most = pl.col("long") * -(-pl.col("whole") // shares)
    per_node = per_node.join(sizes, on="run").with_columns(active=pl.min_horizontal("active", most))
    per_node = per_node.with_columns(inactive=pl.min_horizontal("inactive", most - pl.col("active")))
    return per_node.group_by("run").agg(pl.col("active", "inactive", "bound").sum(), pl.col("rung").max())


def _best_rung(samples: pl.DataFrame) -> pl.DataFrame:
    """The samples of each GPU by the best measure that it has; the rung as its number."""
    ranked = samples.filter(pl.col("use").is_not_null() & pl.col("use").is_not_nan()).with_columns(
        rung=pl.col("rung")
        .cast(pl.String)
        .replace_strict(list(map(str, LADDER)), list(range(len(LADDER))), return_dtype=pl.UInt8)
    )
    if ranked["rung"].n_unique() > 1:
        ranked = ranked.filter(
            pl.col("rung") == pl.col("rung").min().over("pool", "node", "gpu", pl.col("time") // _HOUR)
        )
    return ranked


def _spans(samples: pl.DataFrame) -> pl.DataFrame:
    """From when to when each sample holds, and whether its GPU was active; in the order of GPU (``series``) and time."""
    node, gpu = (pl.col(name).to_physical().cast(pl.UInt64) for name in ("node", "gpu"))
    ordered = samples.with_columns(series=node * 2**32 + gpu)
    same = pl.col("series") == pl.col("series").shift(1)
    blocks, back = ordered.select(
        blocks=(~same).sum() + 1, back=(same & (pl.col("time") < pl.col("time").shift(1))).any()
    ).row(0)
    # As exporters write them, or sorted now.
    if back or blocks > ordered["series"].n_unique():
        ordered = ordered.sort("series", "time")
    again = pl.col("series") == pl.col("series").shift(-1)
    ordered = ordered.with_columns(gap=pl.when(again).then(pl.col("time").shift(-1) - pl.col("time")))
    # How often each GPU is sampled; one sample alone holds for a minute.
    usual = ordered.group_by("series").agg(step=pl.col("gap").median().fill_null(_ONE_ALONE).cast(pl.Int64).clip(1))
    ordered = ordered.join(usual, on="series", maintain_order="left")
    return ordered.select(
        "pool", "node", "series", "job", "time", "rung", "step",
        gpu_parts=pl.col("parts"),
        until=pl.col("time") + pl.when(pl.col("gap") <= pl.col("step") * _GAP).then("gap").otherwise("step"),
        active=pl.col("use") > ACTIVE_ABOVE,
    )  # fmt: skip


def _named(spans: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Samples that name their job. Of a job with several runs, the one that was running then."""
    named = spans.filter(pl.col("job") != "")
    if not named.height:
        return _joined(named, runs.head(0))
    # By its id, or by the raw one, which tasks of arrays have beside it.
    other = runs.filter((pl.col("raw") != "") & (pl.col("raw") != pl.col("job"))).with_columns(job="raw")
    found = _joined(named, pl.concat([runs, other]))
    return found.sort("series", "time") if other.height else found


def _joined(named: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    columns = runs.select("run", "pool", "job", "begins", "ends")
    joined = named.join(columns, on=["pool", "job"], how="inner", maintain_order="left")
    return joined.filter((pl.col("time") < pl.col("ends")) & (pl.col("until") > pl.col("begins"))).select(_SPAN)


_SPAN = ["run", "node", "series", "time", "until", "active", "step", "rung", "gpu_parts", "begins", "ends"]


def _only_on_node(spans: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Samples that name no job, where one job alone was on their node."""
    unnamed = spans.filter(pl.col("job") == "")
    on_nodes = runs.explode("nodes", empty_as_null=False).rename({"nodes": "node"}).filter(pl.col("node").is_not_null())
    on_nodes = on_nodes.with_columns(pl.col("node").cast(pl.Categorical)).filter(
        pl.col("node").is_in(spans["node"].unique().implode())
    )
    if not unnamed.height or not on_nodes.height:
        return _joined(spans.head(0), runs.head(0))
    on_nodes = on_nodes.sort("pool", "node", "begins")
    latest = pl.col("ends").cum_max().shift(1).over("pool", "node")
    following = pl.col("begins").shift(-1).over("pool", "node")
    alone = (latest.is_null() | (latest <= pl.col("begins"))) & (following.is_null() | (following >= pl.col("ends")))
    on_nodes = on_nodes.filter(alone).select("run", "pool", "node", "begins", "ends").sort("begins")
    # Of spans that reach over the change from one job to the next, each has its part.
    late = unnamed.sort("until").join_asof(
        on_nodes, left_on="until", right_on="begins", by=["pool", "node"], strategy="backward", check_sortedness=False
    )
    early = unnamed.sort("time").join_asof(
        on_nodes, left_on="time", right_on="begins", by=["pool", "node"], strategy="backward", check_sortedness=False
    )
    both = pl.concat([late, early]).filter(
        pl.col("run").is_not_null() & (pl.col("time") < pl.col("ends")) & (pl.col("until") > pl.col("begins"))
    )
    return both.select(_SPAN).unique(["run", "series", "time"]).sort("series", "time")


def _name(column: str) -> pl.Expr:
    return pl.col(column).replace_strict(list(range(len(LADDER))), list(map(str, LADDER)), return_dtype=pl.String)
