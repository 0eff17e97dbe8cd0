"""Show things: JSON on standard output for programs, tables for people; progress and notes on standard error."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

# Without a terminal, a line now and then shows that work continues.
_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_JSON = 1.0


def emit(value: Any, as_json: bool, text: str = "") -> None:
    """Print a value: as JSON, or the text that says the same to people."""
    if as_json:
        sys.stdout.write(_printable(json.dumps(msgspec.to_builtins(value), ensure_ascii=False)) + "\n")
    elif text:
        sys.stdout.write(_printable(text.rstrip("\n")) + "\n")


def note(text: str) -> None:
    """A line for the user."""
    sys.stderr.write(_printable(text) + "\n")


def _printable(text: str) -> str:
    """Text that can be written: names of files can hold bytes that are no UTF-8. In JSON the escape means what it stands for."""
    return text.encode("utf-8", "backslashreplace").decode()


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as text; empty where there are no rows."""
    if not rows:
        return "(none)"
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        grid.add_column(heading, overflow="fold")
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    with console.capture() as captured:
        console.print(grid)
    return captured.get()


def outline(value: Mapping[str, Any], depth: int = 0) -> list[str]:
    """Named values as indented lines, those within them below; what is empty is left out."""
    lines = []
    for name, given in value.items():
        heading = f"{'  ' * depth}{name.replace('_', ' ')}:"
        if isinstance(given, Mapping):
            below = outline(given, depth + 1)
            lines += [heading, *below] if below else []
        elif isinstance(given, list | tuple) and any(isinstance(one, Mapping) for one in given):
            lines += [heading, *(line for one in given for line in _item(one, depth + 1))]
        elif isinstance(given, list | tuple):
            lines += [f"{heading} {', '.join(map(str, given))}"] if given else []
        elif given not in ("", None):
            lines.append(f"{heading} {'yes' if given is True else 'no' if given is False else given}")
    return lines


def _item(value: Any, depth: int) -> list[str]:
    """One of several: its first line is marked."""
    lines = outline(value, depth + 1) if isinstance(value, Mapping) else [f"{'  ' * (depth + 1)}{value}"]
    mark = "  " * depth
    return [f"{mark}- {line[len(mark) + 2 :]}" if place == 0 else line for place, line in enumerate(lines)]


class LineProgress:
    """Progress as lines of text: for logs, pipes and machines."""

    def __init__(self) -> None:
        self._stage, self._total, self._done = "", 0, 0
        self._started = self._said = 0.0

    def start(self, stage: str, total: int) -> None:
        """Say what begins."""
        self._stage, self._total, self._done = stage, total, 0
        self._started = self._said = time.monotonic()
        note(f"{stage} ({total})" if total else stage)

    def update(self, done: int, message: str = "", state: dict[str, Any] | None = None) -> None:
        """Say how far it is, but not too often; ``done`` below 0 means as before."""
        self._done = done if done >= 0 else self._done
        moment = time.monotonic()
        if moment - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = moment
            of = f"{self._done}/{self._total}" if self._total else str(self._done)
            note(f"  {self._stage}: {of} after {moment - self._started:.0f} s{'; ' + message if message else ''}")

    def say(self, message: str) -> None:
        """Report at once what takes long."""
        note(f"  {self._stage}: {message}")

    def finish(self, message: str = "") -> None:
        """Report the result."""
        note(f"  {self._stage}: {message or 'done'} ({time.monotonic() - self._started:.1f} s)")


class BarProgress(LineProgress):
    """Progress as a bar, where a person watches a terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar: Any = None

    def start(self, stage: str, total: int) -> None:
        """A new bar."""
        self._stage, self._total, self._done = stage, total, 0
        self._started = time.monotonic()
        self._bars.start()
        self._bar = self._bars.add_task(stage, total=total or None, note="")

    def update(self, done: int, message: str = "", state: dict[str, Any] | None = None) -> None:
        """Move the bar."""
        self._done = done if done >= 0 else self._done
        self._bars.update(self._bar, completed=self._done, note=message)

    def say(self, message: str) -> None:
        """Beside the bar."""
        self._bars.update(self._bar, note=message)

    def finish(self, message: str = "") -> None:
        """Take the bar away and leave a line."""
        self._bars.remove_task(self._bar)
        self._bars.stop()
        super().finish(message)


class JsonProgress:
    """Progress as JSON lines, for programs that watch."""

    def __init__(self) -> None:
        self._stage, self._total, self._done, self._said = "", 0, 0, 0.0
        self._started = time.monotonic()

    def start(self, stage: str, total: int) -> None:
        """A stage begins."""
        self._stage, self._total, self._done, self._started = stage, total, 0, time.monotonic()
        self._line("start", {})

    def update(self, done: int, message: str = "", state: dict[str, Any] | None = None) -> None:
        """At most once a second."""
        self._done = done if done >= 0 else self._done
        last = bool(self._total) and self._done >= self._total
        if time.monotonic() - self._said >= _SECONDS_BETWEEN_JSON or last:
            self._line("update", state or {})

    def say(self, message: str) -> None:
        """Something takes long."""
        self._line("note", {"message": message})

    def finish(self, message: str = "") -> None:
        """A stage is over."""
        self._line("finish", {"message": message})

    def _line(self, event: str, more: dict[str, Any]) -> None:
        self._said = time.monotonic()
        known = {"event": event, "stage": self._stage, "done": self._done, "total": self._total}
        note(json.dumps({**known, "seconds": round(self._said - self._started, 2), **more}, ensure_ascii=False))


class Watch(StrEnum):
    """How progress is shown."""

    AUTO = "auto"
    LINES = "lines"
    JSON = "json"


def progress(watch: Watch = Watch.AUTO) -> LineProgress | JsonProgress:
    """A bar on a terminal, lines elsewhere, or JSON lines."""
    if watch is Watch.JSON:
        return JsonProgress()
    return BarProgress() if sys.stderr.isatty() and watch is Watch.AUTO else LineProgress()
