"""lineage show, impact."""

from typing import Annotated

import typer

from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import emit, table

commands = typer.Typer(help="Lineage: what was made from what.", no_args_is_help=True)
Node = Annotated[str, typer.Argument(help="teacher:NAME, run:ID, dataset:NAME@N or model:NAME@N.")]


@commands.command()
def show(node: Node, home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Everything that a node was made from."""
    from stillhouse.home.ledger.lineage_graph import ancestry, check_node

    with opened(home_folder) as home:
        check_node(home.ledger, node)
        edges = ancestry(home.ledger, node)
    emit([edge._asdict() for edge in edges], as_json, table(["from", "to", "how"], edges))


@commands.command()
def impact(node: Node, home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Everything that was made from a node."""
    from stillhouse.home.ledger.lineage_graph import check_node
    from stillhouse.home.ledger.lineage_graph import impact as impact_of

    with opened(home_folder) as home:
        check_node(home.ledger, node)
        found = impact_of(home.ledger, node)
    value = {"records": found.records, "nodes": list(found.nodes), "edges": [edge._asdict() for edge in found.edges]}
    emit(value, as_json, f"{found.records} records\n" + table(["from", "to", "how"], found.edges))
