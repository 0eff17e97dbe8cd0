"""Bad days, played on this machine: each leaves a page that says what happened, step by step."""

from pathlib import Path
from typing import Any, NamedTuple


class Told(NamedTuple):
    """What came of a story: its page, and the figures that programs rely on."""

    page: Path
    value: dict[str, Any]
