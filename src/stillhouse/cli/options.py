"""Options that many commands share, and opening the home that they name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stillhouse.cli.output import LineProgress, Watch
from stillhouse.vault.durability import Durability

if TYPE_CHECKING:
    from stillhouse.home.open_home import Home

HomeFolder = Annotated[
    Path | None,
    typer.Option("--home", help="The home folder; else STILLHOUSE_HOME, else ./.stillhouse.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
Safety = Annotated[
    Durability | None,
    typer.Option(
        "--durability",
        help="kill: safe against a process kill, at most 50 ms lost on power loss; power: nothing lost. Default: kill.",
        show_default=False,
    ),
]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Print what would be done, and do nothing.")]
Erasable = Annotated[
    str,
    typer.Option(
        "--erasable",
        help="Encrypt it with the key of this source, which `delete erase` destroys. The name is no secret.",
    ),
]
ProgressAs = Annotated[
    Watch,
    typer.Option(
        "--progress", help="auto: a bar on a terminal, lines elsewhere; json: a JSON line a second on stderr."
    ),
]
RecipeFile = Annotated[Path, typer.Argument(help="A recipe; docs/recipes.md lists its keys.", metavar="RECIPE.toml")]


@contextlib.contextmanager
def opened(home_folder: Path | None, durability: Durability | None = None) -> Iterator["Home"]:
    """The home, opened for one command; ``durability`` where the command line says something of it."""
    from stillhouse.home.open_home import open_home
    from stillhouse.home.settings import read_settings

    settings = read_settings(home_folder)
    if durability is not None:
        settings = msgspec.structs.replace(settings, durability=durability)
    with open_home(settings, LineProgress()) as home:
        yield home
