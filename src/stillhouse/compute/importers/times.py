"""Times as schedulers and exports write them, as whole seconds since 1970. Expressions over columns. Pure."""

import polars as pl

# Times before 1990 and after 2200 are no times of a GPU: unset fields, mostly.
_EARLIEST, _LATEST = 631_152_000, 7_258_118_400


def epoch(column: str, zone: str = "UTC", *, later: bool = False) -> pl.Expr:
    """A column of texts: seconds since 1970, ISO 8601 with an offset, or local time in a zone; null where it is none of these.

    ``later`` takes the second of two equal hours, where clocks were put back. A time in the hour that they leave out is null.
    """
    text = pl.col(column).str.strip_chars()
    number = text.cast(pl.Float64, strict=False)
    number = pl.when(number > _LATEST).then(number / 1000).otherwise(number)  # milliseconds
    with_offset = text.str.contains(r"\d(Z|[+-]\d\d:?\d\d)$") & text.str.contains(r"\d[T ]\d")
    clean = text.str.replace(" ", "T", literal=True).str.replace(r"Z$", "+00:00")
    offset = clean.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    plain = pl.when(~with_offset).then(clean.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00"))
    local = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    if zone != "UTC":
        local = local.dt.replace_time_zone(
            zone, ambiguous="latest" if later else "earliest", non_existent="null"
        ).dt.convert_time_zone("UTC")
    else:
        local = local.dt.replace_time_zone("UTC")
    found = pl.coalesce(
        number.floor().cast(pl.Int64, strict=False),
        offset.dt.epoch("s"),
        local.dt.epoch("s"),
    )
    return pl.when(found.is_between(_EARLIEST, _LATEST)).then(found)
