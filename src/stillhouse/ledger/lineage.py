"""The lineage graph: what was made from what.

Nodes are text: ``teacher:NAME``, ``prompts:NAME``, ``run:ID``, ``dataset:NAME@N``. Records hang below their run and above
the datasets that kept them; they are found through the placements and not repeated as edges.
"""

from typing import NamedTuple

from sqlalchemy import func, literal, select

from stillhouse.ledger import schema
from stillhouse.ledger.store import Ledger, database_errors


class Edge(NamedTuple):
    """One step of lineage."""

    parent: str
    child: str
    kind: str


class Impact(NamedTuple):
    """Everything below some nodes: the nodes themselves left out, records counted."""

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]
    records: int


def impact(ledger: Ledger, *roots: str) -> Impact:
    """Everything that was made, at any distance, from any of these nodes."""
    edges = schema.edges
    below = select(edges.c.child.label("node")).where(edges.c.parent.in_(roots)).cte("below", recursive=True)
    below = below.union(select(edges.c.child).where(edges.c.parent == below.c.node))
    with database_errors(), ledger.engine.connect() as connection:
        nodes = sorted(row.node for row in connection.execute(select(below.c.node)))
        reached = {*nodes, *roots}
        found = sorted({Edge(row.parent, row.child, row.kind) for row in connection.execute(select(edges))})
        runs = [node.removeprefix("run:") for node in reached if node.startswith("run:")]
        teachers = [root.removeprefix("teacher:") for root in roots if root.startswith("teacher:")]
        answers = schema.answers
        records = connection.execute(
            select(func.count(func.distinct(answers.c.key))).where(
                answers.c.teacher.in_(teachers) if teachers else answers.c.run.in_(runs) if runs else literal(False)
            )
        ).scalar_one()
    return Impact(tuple(nodes), tuple(edge for edge in found if edge.parent in reached), int(records))


def ancestry(ledger: Ledger, node: str) -> tuple[Edge, ...]:
    """Every edge above a node, at any distance."""
    edges = schema.edges
    above = (
        select(edges.c.parent, edges.c.child, edges.c.kind).where(edges.c.child == node).cte("above", recursive=True)
    )
    above = above.union(select(edges.c.parent, edges.c.child, edges.c.kind).where(edges.c.child == above.c.parent))
    with database_errors(), ledger.engine.connect() as connection:
        return tuple(sorted({Edge(*row) for row in connection.execute(select(above))}))
