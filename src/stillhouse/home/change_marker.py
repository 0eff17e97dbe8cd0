"""A file that changes whenever processes at work must load keys, teachers and policy again."""

import secrets
from pathlib import Path
from typing import NamedTuple


class ChangeMarker(NamedTuple):
    """Whoever changes something marks it; whoever works compares ``state`` with the one of when it loaded."""

    path: Path

    def mark(self) -> None:
        """Tell every process that what it knows is out of date."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(secrets.token_hex(8))

    def state(self) -> tuple[int, int]:
        """Differs after every ``mark``; the same as long as nobody marks."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_ino
