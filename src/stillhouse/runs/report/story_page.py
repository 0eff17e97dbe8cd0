"""A story as one page: what happened step by step, and a picture of what it was about."""

from pathlib import Path

import msgspec

from stillhouse.runs.report.plots import lineage_svg
from stillhouse.runs.report.render import template
from stillhouse.runs.report.report_value import ReportEdge
from stillhouse.vault.files import write_whole

PICTURE = "lineage.svg"


class StoryStep(msgspec.Struct, frozen=True):
    """Something that happened, in words, and what was seen of it."""

    title: str
    text: str
    lines: tuple[str, ...]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it first, then the steps in order, the lineage of what was made, the nodes that it was about.

    ``made_up`` says what is not real.
    """

    title: str
    made: str
    made_up: str
    conclusion: tuple[str, ...]
    steps: tuple[StoryStep, ...]
    edges: tuple[tuple[str, str, str], ...]
    touched: tuple[str, ...]
    quarantine: int = 0
    # Others than the lineage, as SVG.
    pictures: tuple[str, ...] = ()


def write_story(story: Story, folder: Path) -> Path:
    """Write the page, its lineage alone, and the value as JSON; returns the page's path. Raises StorageError."""
    picture = lineage_svg([ReportEdge(*edge) for edge in story.edges], story.touched) if story.edges else ""
    if picture:
        write_whole(folder / PICTURE, picture.encode())
    write_whole(folder / "story.json", msgspec.json.format(msgspec.json.encode(story), indent=2))
    page = folder / "story.html"
    write_whole(page, template("story.html").render(story=story, picture=picture).encode())
    return page
