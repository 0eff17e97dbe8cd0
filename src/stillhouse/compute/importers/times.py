"""Times as schedulers and exports write them, as whole seconds since 1970. Pure."""

from typing import Literal

import polars as pl

# Times before 1990 and after 2200 are no times of a GPU: unset fields, mostly.
EARLIEST, LATEST = 631_152_000, 7_258_118_400
_UNSET = ("", "Unknown", "None", "N/A")


def epoch(column: str, zone: str = "UTC", *, later: bool = False) -> pl.Expr:
    """A column of texts: seconds since 1970, ISO 8601 with an offset, or local time in a zone; null where it is none of these.

    ``later`` takes the second of two equal hours, where clocks were put back. A time in the hour that they leave out is null.
    """

    def read(texts: pl.Series) -> pl.Series:
        # Nearly all are written in one way; what is not is looked at again.
        usual = _in_zone(texts.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False), zone, later=later)
        odd = usual.is_null() & texts.is_not_null() & ~texts.is_in(_UNSET)
        if odd.any():
            usual = usual.scatter(odd.arg_true(), _odd(texts.filter(odd), zone, later=later))
        return pl.select(pl.when(usual.is_between(EARLIEST, LATEST)).then(usual)).to_series()

    return pl.col(column).map_batches(read, return_dtype=pl.Int64)


def _odd(texts: pl.Series, zone: str, *, later: bool) -> pl.Series:
    """Numbers, times with an offset or fractions, dates alone."""
    text = pl.col("text").str.strip_chars()
    number = text.cast(pl.Float64, strict=False)
    number = pl.when(number > LATEST).then(number / 1000).otherwise(number)  # milliseconds
    number = pl.when(number.is_between(EARLIEST, LATEST)).then(number)
    with_offset = text.str.contains(r"\d(Z|[+-]\d\d:?\d\d)$") & text.str.contains(r"\d[T ]\d")
    clean = text.str.replace(" ", "T", literal=True).str.replace(r"Z$", "+00:00")
    offset = clean.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    plain = pl.when(~with_offset).then(clean.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00"))
    local = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    found = pl.DataFrame({"text": texts}).select(
        number=number.floor().cast(pl.Int64, strict=False), offset=offset.dt.epoch("s"), local=local
    )
    local_seconds = _in_zone(found["local"], zone, later=later)
    return found.select(pl.coalesce("number", "offset", local_seconds)).to_series()


def _in_zone(local: pl.Series, zone: str, *, later: bool) -> pl.Series:
    """Local times as seconds."""
    if zone == "UTC":
        return local.dt.epoch("s")
    ambiguous: Literal["earliest", "latest"] = "latest" if later else "earliest"
    return local.dt.replace_time_zone(zone, ambiguous=ambiguous, non_existent="null").dt.epoch("s")
