"""Options that many commands share, and opening the home that they name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stillhouse.app import App

Home = Annotated[
    Path | None,
    typer.Option("--home", help="The home folder; else STILLHOUSE_HOME, else ./.stillhouse.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Print what would be done, and do nothing.")]
RecipeFile = Annotated[Path, typer.Argument(help="A recipe; docs/recipes.md lists its keys.", metavar="RECIPE.toml")]


@contextlib.contextmanager
def opened(home: Path | None) -> Iterator["App"]:
    """The home, opened for one command."""
    from stillhouse.app import open_app
    from stillhouse.settings.home import read_settings

    with open_app(read_settings(home)) as app:
        yield app
