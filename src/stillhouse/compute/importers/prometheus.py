"""Activity of GPUs from Prometheus: ``query_range`` of its stable API, or what that answered, saved. Source: HTTP API of
Prometheus v1.

A server answers at most 11,000 points for each series, so a long range is asked for in windows. Labels that differ between
servers are found by a list of known ones. Staleness: a point that Prometheus carried forward for up to five minutes counts as
a sample.
"""

import contextlib
import http.client
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import polars as pl

from stillhouse.compute.importers.gpu_metrics import (
    BUSY_POWER,
    GPU_LABELS,
    JOB_LABELS,
    METRICS,
    MIG_ID_LABELS,
    MIG_LABELS,
    NAMESPACE_LABELS,
    NODE_LABELS,
    POD_LABELS,
    Metric,
)
from stillhouse.compute.importers.gres import parts_of
from stillhouse.compute.importers.times import EARLIEST, LATEST
from stillhouse.compute.readings import PARTS, SAMPLES, Readings, Rung
from stillhouse.errors import CorpusUnreadable, StorageError

_MOST_POINTS = 10_000  # of 11,000
_TIMEOUT = 60.0
_TRIES = 3
# Every known measure of every GPU.
QUERY = '{__name__=~"' + "|".join(METRICS) + '"}'


def read_answer(data: bytes, pool: str, idle_watts: float = 0.0) -> Readings:
    """Read what ``query_range`` answered. ``idle_watts`` is what an idle GPU draws; without it power says nothing.

    Raises CorpusUnreadable for another answer, and for one that says that it failed.
    """
    try:
        said = msgspec.json.decode(data)
        if said["status"] != "success":
            raise CorpusUnreadable(
                f"Prometheus answered: {said.get('error', said['status'])}.",
                next_step="Correct the query, and ask again.",
            )
        listed = said["data"]["result"]
        if said["data"]["resultType"] != "matrix" or not isinstance(listed, list):
            raise CorpusUnreadable("It is no answer to query_range.", next_step="Ask for a range, not for a moment.")
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError) as failure:
        raise CorpusUnreadable(
            f"It is no answer of Prometheus ({failure}).", next_step="Save what query_range answers."
        ) from failure
    left_out, frames = Counter[str](), []
    for series in listed:
        labels = series.get("metric") if isinstance(series, dict) else None
        if not isinstance(labels, dict) or not isinstance(series.get("values"), list):
            left_out["a series that cannot be read"] += 1
            continue
        metric = METRICS.get(labels.get("__name__", ""))
        node, gpu = _first(labels, NODE_LABELS), _first(labels, GPU_LABELS)
        if metric is None:
            left_out[f"a series of {labels.get('__name__') or 'no metric'}, which is no known measure"] += 1
        elif not gpu:
            left_out["a series that does not say of which GPU"] += 1
        elif metric.rung is Rung.POWER and not idle_watts:
            left_out["a series of power, where idle_watts is not known"] += 1
        else:
            frame, bad = _samples(series.get("values") or [], metric, idle_watts)
            left_out.update(bad)
            frames.append(frame.with_columns(
                pool=pl.lit(pool),
                node=pl.lit(_without_port(node)),
                gpu=pl.lit(gpu + (f"/{mig}" if (mig := _first(labels, MIG_ID_LABELS)) else "")),
                parts=pl.lit(parts_of(_first(labels, MIG_LABELS)) if _first(labels, MIG_LABELS) else PARTS),
                job=pl.lit(_job(labels)),
                rung=pl.lit(str(metric.rung)),
            ))  # fmt: skip
    samples = pl.concat(frames).select(list(SAMPLES)).cast(SAMPLES) if frames else pl.DataFrame(schema=SAMPLES)
    return Readings(samples=samples, left_out=dict(left_out))


def _samples(values: list[Any], metric: Metric, idle_watts: float) -> tuple[pl.DataFrame, Counter[str]]:
    """Times and shares; values that are no numbers, or lie outside what the measure can be, are left out."""
    bad, times, shares = Counter[str](), [], []
    for point in values:
        try:
            moment, value = int(point[0]), float(point[1])
        except (TypeError, ValueError, IndexError, OverflowError, KeyError):
            moment, value = 0, math.nan
        if math.isnan(value) or not EARLIEST <= moment <= LATEST:
            bad["a sample that is no number, or of no time"] += 1
            continue
        share = value / metric.full
        if metric.rung is Rung.POWER:
            share = 1.0 if share > BUSY_POWER * idle_watts else 0.0
        if not 0 <= share <= 1.01:
            bad[f"a sample outside 0 to {metric.full:g}"] += 1
            continue
        times.append(moment)
        shares.append(min(share, 1.0))
    return pl.DataFrame({"time": times, "use": shares}, schema={"time": pl.Int64, "use": pl.Float32}), bad


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((str(labels[name]) for name in names if labels.get(name)), "")


def _job(labels: Mapping[str, str]) -> str:
    """The job that a sample is of; a pod with its namespace, as its own list names it."""
    job, pod = _first(labels, JOB_LABELS), _first(labels, POD_LABELS)
    namespace = _first(labels, NAMESPACE_LABELS)
    return job or (f"{namespace}/{pod}" if pod and namespace else pod)


def _without_port(node: str) -> str:
    name, _, port = node.rpartition(":")
    return name if port.isdigit() and name else node


def fetch(url: str, query: str, start: int, end: int, step: int, headers: Mapping[str, str]) -> Iterator[bytes]:
    """What a server answers for a range, a window at a time. ``headers`` may hold a token; it is never printed.

    Raises StorageError where the server does not answer.
    """
    span = _MOST_POINTS * step
    for begin in range(start, end, span):
        # The end belongs to the range in Prometheus, so the next window begins a step later.
        finish = min(begin + span - step, end)
        words = urllib.parse.urlencode({"query": query, "start": begin, "end": finish, "step": step})
        yield _get(f"{url.rstrip('/')}/api/v1/query_range?{words}", headers)


def _get(url: str, headers: Mapping[str, str]) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise StorageError(
            f"{url.split('?')[0]} is no address.", next_step="Give one that begins with http:// or https://."
        )
    for tried in range(1, _TRIES + 1):
        try:
            request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310  checked above
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as failure:
            said = failure.read(2000)
            with contextlib.suppress(ValueError, AttributeError):
                said = json.loads(said).get("error", said)
            if failure.code < 500:
                raise StorageError(f"Prometheus refused the query ({failure.code}): {said!r}.") from failure
            cause: Exception = failure
        except (OSError, ValueError, http.client.HTTPException) as failure:
            cause = failure
        if tried < _TRIES:
            time.sleep(tried)
    raise StorageError(
        f"Prometheus at {url.split('/api/')[0]} does not answer: {cause}.",
        next_step="Check the address, and run it again.",
    )
