"""Calls to teachers that are in no record: an egress proxy's log beside the home's.

Covers: Squid's native format and JSON lines; where a line names several hosts, the one that is a teacher's counts (a server
name in a handshake beside an address, a URL beside the sender's name). A connection is accounted for where the home's log has a
call to a teacher at that host within its time, give or take a minute, and where it came from an address that the home calls
from, if those are named. Does not cover: what was said (TLS), an address without a name, a call of somebody else's at the same
host in the same minute from the same address, and whatever goes round the proxy.
"""

import bisect
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from stillhouse.permission.known_hosts import host_of, known_host

# Clocks of proxies and of hosts differ, and a connection may be opened some time before it is used.
_SLACK_SECONDS = 60.0
# Of the year 2242: what is later is in milliseconds, or nonsense.
_LATEST = float(2**33)


# Under which names a line says where a connection leads; `host` is often the sender's own name.
_TARGETS = frozenset(
    """host hostname url uri authority destination requested_server_name server_name sni tls_sni tls_server_name ssl_sni dst
    dst_host dest_host destination_host remote_host server domain""".split()  # noqa: SIM905 - as in text_marks
)


class Connection(NamedTuple):
    """A line of the proxy's log: when it ended (seconds since 1970, UTC), how long it took, from where, to which host (by every
    name that the line may mean).
    """

    ended: float
    seconds: float
    client: str
    hosts: tuple[str, ...]


class Unrecorded(msgspec.Struct, frozen=True):
    """Connections of one client to one host on one UTC day that are in no record."""

    day: str
    client: str
    host: str
    lab: str
    connections: int


class Egress(msgspec.Struct, frozen=True):
    """What a proxy's log shows."""

    lines: int
    unreadable: int
    to_teachers: int
    recorded: int
    unrecorded: tuple[Unrecorded, ...]


def compare(lines: Iterable[str], recorded: Mapping[str, Sequence[str]], own: Collection[str] = ()) -> Egress:
    """``recorded`` are the times (RFC 3339) of the home's calls by host; ``own`` the addresses that the home calls from."""
    times = {host: [_seconds(text) for text in found] for host, found in recorded.items()}
    read = unreadable = teachers = accounted = 0
    missing: Counter[tuple[str, str, str]] = Counter()
    for line in lines:
        if not line.strip():
            continue
        read += 1
        connection = read_line(line)
        if connection is None:
            unreadable += 1
            continue
        host = next((host for host in connection.hosts if host in times or known_host(f"https://{host}")), "")
        if not host:
            continue
        teachers += 1
        if (not own or connection.client in own) and _accounted(connection, times.get(host, ())):
            accounted += 1
        else:
            day = datetime.fromtimestamp(connection.ended, UTC).date().isoformat()
            missing[day, connection.client, host] += 1
    unrecorded = tuple(
        Unrecorded(day, client, host, _lab(host), count) for (day, client, host), count in sorted(missing.items())
    )
    return Egress(read, unreadable, teachers, accounted, unrecorded)


def read_line(line: str) -> Connection | None:
    """A line of Squid's native log, or a JSON object; None where it is neither."""
    try:
        if line.lstrip().startswith("{"):
            found = _from_json(json.loads(line))
        else:
            parts = line.split()
            found = Connection(float(parts[0]), float(parts[1]) / 1000, parts[2], (host_of(parts[6]),))
    except (ValueError, TypeError, AttributeError, OverflowError, IndexError, RecursionError):
        return None
    if found is None or not (0 < found.ended < _LATEST and 0 <= found.seconds < _LATEST):  # not a number is in no range
        return None
    return found


def _from_json(given: Mapping[str, Any]) -> Connection | None:
    def first(*names: str) -> Any:
        return next((given[name] for name in names if given.get(name) not in (None, "")), "")

    at = first("time", "timestamp", "ts", "start_time", "@timestamp")
    hosts = tuple(dict.fromkeys(_hosts(given)))
    if at == "" or not hosts:
        return None
    try:
        ended = float(at)
    except ValueError:
        ended = _seconds(str(at))
    for _ in range(3):  # milli-, micro- or nanoseconds
        ended /= 1000 if ended > _LATEST else 1
    seconds = first("seconds", "duration_seconds")
    took = float(seconds) if seconds != "" else float(first("elapsed_ms", "duration", "duration_ms") or 0) / 1000
    return Connection(ended, took, str(first("client", "user", "src", "source", "downstream_remote_address")), hosts)


def _hosts(given: Mapping[str, Any]) -> Iterator[str]:
    """Every host that a line names, also below other names, as log shippers nest them."""
    for name, value in given.items():
        if isinstance(value, str) and name.casefold() in _TARGETS and (host := host_of(value)):
            yield host
        elif isinstance(value, Mapping):
            yield from _hosts(value)


def _accounted(connection: Connection, times: Sequence[float]) -> bool:
    start = connection.ended - connection.seconds - _SLACK_SECONDS
    place = bisect.bisect_left(times, start)
    return place < len(times) and times[place] <= connection.ended + _SLACK_SECONDS


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _lab(host: str) -> str:
    known = known_host(f"https://{host}")
    return known.lab if known else ""


def read_lines(text: Iterable[bytes]) -> Iterator[str]:
    """Lines of a log, whatever their bytes are."""
    for line in text:
        yield line.decode("utf-8", "replace")
