"""What the commands of compute share: reading times, lengths and amounts of money, and showing values."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillhouse.cli.output import note
from stillhouse.errors import UsageError

if TYPE_CHECKING:
    from stillhouse.compute.forecasts.idle_series import IdleSeries
    from stillhouse.home.open_home import Home

PoolName = Annotated[str, typer.Option("--pool", help="The pool.")]
HOUR = 3600
_DAY = 86_400


def seconds(text: str) -> int:
    """A time, in seconds since 1970; without an offset it is UTC. Raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time.", next_step="Write it like 2026-11-01 or 2026-11-01T18:00:00Z."
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def check_zone(zone: str) -> None:
    """Raises UsageError for a zone that times cannot be read in."""
    from zoneinfo import available_timezones

    if zone not in available_timezones() or zone in ("Factory", "localtime") or "posix" in zone or "right/" in zone:
        raise UsageError(f"{zone!r} is no time zone.", next_step="Write it like Europe/Berlin or UTC.")


def hours(text: str) -> float:
    """``90s``, ``10m``, ``6h``, ``2d``, ``0``: in hours. Raises UsageError."""
    units = {"s": 1 / 3600, "m": 1 / 60, "h": 1.0, "d": 24.0, "w": 168.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "h")
    try:
        found = float(number) * units[unit]
    except ValueError:
        found = -1.0
    if not 0 <= found < 10_000:
        raise UsageError(f"{text!r} is no length of time.", next_step="Write it like 30m, 6h or 1d.")
    return found


def money(text: str, what: str) -> Decimal:
    """An amount of at least 0. Raises UsageError, which names ``what``."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount < 10**12:
        raise UsageError(f"{what} is {text!r}, which is no amount.", next_step="Write it like 2.10.")
    return amount


def plain(value: Any) -> Any:
    """Money as text, as in every other value: floating point would round it."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Decimal) else value


def dated(value: Any, name: str = "") -> Any:
    """The same for people: moments as dates."""
    if isinstance(value, dict):
        return {key: dated(one, key) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [dated(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and value > 10**8 and not name.startswith("gpu"):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return plain(value)


def all_series(home: "Home") -> "list[IdleSeries]":
    """What stood idle in each pool that the home knows of."""
    from stillhouse.compute.imports import fleet_of
    from stillhouse.compute.levels import series_in

    return series_in(home, fleet_of(home))


def note_if_old(moments: list[int]) -> None:
    """Say so where what a forecast begins with is more than a day old."""
    old = [moment for moment in moments if datetime.now(UTC).timestamp() - moment > _DAY]
    if old:
        note(f"what was imported ends on {dated(min(old))}: import newer data for an answer of today")
