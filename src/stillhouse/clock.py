"""The clock: the one place that asks what time it is. Moments are text in UTC, as the log has them, and compare as text."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


def now() -> str:
    """The present time, as it stands in the log."""
    return utc_now().isoformat(timespec="milliseconds").replace("+00:00", "Z")


def days_since(at: str | None) -> float:
    """Days since a moment; without end where there was none."""
    return seconds_since(at) / 86400 if at else float("inf")


def seconds_since(at: str) -> float:
    """Seconds since a moment."""
    return max(0.0, (utc_now() - datetime.fromisoformat(at)).total_seconds())
