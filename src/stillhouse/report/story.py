"""A story as one page: what happened step by step, and a picture of what it was about."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import msgspec

from stillhouse.report.plots import lineage_svg
from stillhouse.report.value import Edge
from stillhouse.vault.files import write_whole

PICTURE = "lineage.svg"


class StoryStep(msgspec.Struct, frozen=True):
    """Something that happened, in words, and what was seen of it."""

    title: str
    text: str
    lines: tuple[str, ...]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Steps in order, the lineage of what was made, the nodes that it was about; ``made_up`` says what is not real."""

    title: str
    made: str
    made_up: str
    steps: tuple[StoryStep, ...]
    edges: tuple[tuple[str, str, str], ...]
    touched: tuple[str, ...]
    quarantine: int = 0


def write_story(story: Story, folder: Path) -> Path:
    """Write the page, its picture alone, and the value as JSON; returns the page's path. Raises StorageError."""
    picture = lineage_svg([Edge(*edge) for edge in story.edges], story.touched)
    write_whole(folder / PICTURE, picture.encode())
    write_whole(folder / "story.json", msgspec.json.format(msgspec.json.encode(story), indent=2))
    page = folder / "story.html"
    write_whole(page, _page(story, picture).encode())
    return page


def _page(story: Story, picture: str) -> str:
    steps = "".join(
        f"<section><h2>{number}. {escape(step.title)}</h2><p>{escape(step.text)}</p>{_lines(step.lines)}</section>"
        for number, step in enumerate(story.steps, start=1)
    )
    held = f" · {story.quarantine} records in quarantine" if story.quarantine else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(story.title)}</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;color:#1f2328;background:#faf8f5;margin:0}"
        "main{max-width:62rem;margin:0 auto;padding:2rem 1.5rem 4rem}h1{font-size:1.7rem;margin:0}"
        "h2{font-size:1.1rem;margin:1.6rem 0 .2rem;color:#8a5a2b}p{margin:.2rem 0}li{overflow-wrap:anywhere}"
        "svg{max-width:100%;height:auto;background:#fff;border:1px solid #e5ddd0;border-radius:6px;padding:.8rem}"
        ".small{color:#6b6257;font-size:.85rem}</style><main>"
        f'<h1>{escape(story.title)}</h1><p class="small">{escape(story.made)}{held}</p>'
        f"<p>{escape(story.made_up)} Red is what it was about.</p>{picture}{steps}</main></html>"
    )


def _lines(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""
