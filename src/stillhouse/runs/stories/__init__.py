"""Bad days, played on this machine: each leaves a page that says what happened, step by step."""

from pathlib import Path
from typing import Any, NamedTuple

from stillhouse.runs.report.story_page import Story


class Told(NamedTuple):
    """What came of a story: its page, the figures that programs rely on, and what the page says."""

    page: Path
    value: dict[str, Any]
    story: Story
