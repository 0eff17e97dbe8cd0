"""What the workers count, in memory that the process which watches them reads: one row per worker, one writer per row."""

import mmap
import os
import struct

COUNTERS = (
    "calls_total",
    "answered_total",
    "refused_by_teacher_total",
    "refused_by_gateway_total",
    "upstream_died_total",
    "cancelled_total",
    "cut_total",
    "bad_keys_total",
    "request_bytes_total",
    "answer_bytes_total",
    "redacted_total",
    "replayed_total",
)
GAUGES = ("in_flight", "ready")
# Upper bounds in seconds; the time that the gateway itself adds to a call.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
_NAMES = (*COUNTERS, *GAUGES, *(f"added_{bound}" for bound in BUCKETS), "added_sum", "added_count")
_SLOT = {name: place for place, name in enumerate(_NAMES)}
_ROW = 8 * len(_NAMES)


def create(rows: int) -> int:
    """A descriptor of memory for so many workers, all zero."""
    descriptor = os.memfd_create("stillhouse-gateway")
    os.ftruncate(descriptor, max(1, rows) * _ROW)
    return descriptor


class Counters:
    """One worker's row, or all of them for who only reads."""

    def __init__(self, descriptor: int, row: int = 0) -> None:
        self._memory = mmap.mmap(descriptor, 0)
        self._start = row * _ROW
        self._rows = len(self._memory) // _ROW

    def add(self, name: str, amount: float = 1.0) -> None:
        """Count."""
        at = self._start + 8 * _SLOT[name]
        struct.pack_into("d", self._memory, at, struct.unpack_from("d", self._memory, at)[0] + amount)

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        struct.pack_into("d", self._memory, self._start + 8 * _SLOT[name], value)

    def added(self, seconds: float) -> None:
        """A call took so much longer for passing through here."""
        for bound in BUCKETS:
            if seconds <= bound:
                self.add(f"added_{bound}")
        self.add("added_sum", seconds)
        self.add("added_count")

    def total(self, name: str) -> float:
        """The sum over all workers."""
        places = (row * _ROW + 8 * _SLOT[name] for row in range(self._rows))
        return float(sum(struct.unpack_from("d", self._memory, place)[0] for place in places))

    def prometheus(self) -> str:
        """Everything in Prometheus' text format (version 0.0.4)."""
        lines = []
        for name in COUNTERS:
            lines += [f"# TYPE stillhouse_gateway_{name} counter", f"stillhouse_gateway_{name} {self.total(name):.0f}"]
        for name in GAUGES:
            shown = "workers_ready" if name == "ready" else name
            lines += [f"# TYPE stillhouse_gateway_{shown} gauge", f"stillhouse_gateway_{shown} {self.total(name):.0f}"]
        lines.append("# TYPE stillhouse_gateway_added_seconds histogram")
        for bound in BUCKETS:
            lines.append(f'stillhouse_gateway_added_seconds_bucket{{le="{bound}"}} {self.total(f"added_{bound}"):.0f}')
        lines.append(f'stillhouse_gateway_added_seconds_bucket{{le="+Inf"}} {self.total("added_count"):.0f}')
        lines.append(f"stillhouse_gateway_added_seconds_sum {self.total('added_sum'):.6f}")
        lines.append(f"stillhouse_gateway_added_seconds_count {self.total('added_count'):.0f}")
        return "\n".join(lines) + "\n"
