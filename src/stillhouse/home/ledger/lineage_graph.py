"""The lineage graph: what was made from what.

Nodes are text: ``teacher:NAME``, ``prompts:NAME``, ``corpus:NAME``, ``run:ID``, ``dataset:NAME@N``, ``model:NAME@N``,
``export:DIGEST``. Records hang below their run and above the datasets that kept them; they are found by their run and their
stamp set, and not repeated as edges.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, case, func, or_, select, union

from stillhouse.errors import UnknownName
from stillhouse.home.ledger import imported_rows
from stillhouse.home.ledger.databases import database_errors
from stillhouse.home.ledger.dataset_queries import datasets
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.origin_queries import teachers
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows
from stillhouse.home.ledger.training_queries import models

# Few enough parameters for any database, enough to make a query worth its while.
_AT_ONCE = 1000


class Edge(NamedTuple):
    """One step of lineage."""

    parent: str
    child: str
    kind: str


class Descendants(NamedTuple):
    """Everything below some nodes: the nodes themselves left out, records counted."""

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]
    records: int


class Tally(NamedTuple):
    """Records of one stamp set in one run, and the tokens that were counted for them."""

    stamps: int
    run: str
    records: int
    tokens: int


def impact(ledger: Ledger, *roots: str) -> Descendants:
    """Everything that was made, at any distance, from any of these nodes. A cycle, should there be one, ends nothing."""
    edges = _edges_below(ledger, roots)
    found = {edge.child for edge in edges}
    reached = found | set(roots)
    runs = [node.removeprefix("run:") for node in reached if node.startswith("run:")]
    teachers = [root.removeprefix("teacher:") for root in roots if root.startswith("teacher:")]
    return Descendants(tuple(sorted(found)), tuple(sorted(edges)), _count_records(ledger, runs, teachers))


def descendants(ledger: Ledger, node: str) -> tuple[str, ...]:
    """The nodes that were made, at any distance, from one."""
    return tuple(sorted({edge.child for edge in _edges_below(ledger, (node,))} - {node}))


def parents_of(ledger: Ledger, node: str) -> list[Edge]:
    """The edges that lead to a node."""
    edges = tables.edges
    query = select(edges.c.parent, edges.c.child, edges.c.kind).where(edges.c.child == node)
    return [Edge(row.parent, row.child, row.kind) for row in _rows(ledger, query)]


def ancestry(ledger: Ledger, node: str) -> tuple[Edge, ...]:
    """Every edge above a node, at any distance."""
    edges = tables.edges
    above = (
        select(edges.c.parent, edges.c.child, edges.c.kind).where(edges.c.child == node).cte("above", recursive=True)
    )
    above = above.union(select(edges.c.parent, edges.c.child, edges.c.kind).where(edges.c.child == above.c.parent))
    with database_errors(), ledger.engine.connect() as connection:
        return tuple(sorted({Edge(*row) for row in connection.execute(select(above))}))


def records_by_stamps(ledger: Ledger, ids: Collection[int]) -> list[Tally]:
    """Records that carry one of these stamp sets, each counted once, by stamp set and run."""
    answers = tables.answers.c
    ids = frozenset(ids)
    tokens = _counted(answers.prompt_tokens) + _counted(answers.completion_tokens)
    found = []
    for chunk in _chunks(sorted(ids)):
        query = (
            select(
                answers.stamps,
                answers.run,
                func.count(func.distinct(answers.key)).label("records"),
                func.count().label("rows"),
                func.sum(tokens).label("tokens"),
            )
            .where(answers.stamps.in_(chunk))
            .group_by(answers.stamps, answers.run)
        )
        for row in _rows(ledger, query):
            counted = int(row.tokens)
            if row.rows != row.records:  # two processes wrote the same record down: it counts once
                counted = _tokens_once(ledger, int(row.stamps), row.run)
            found.append(Tally(int(row.stamps), row.run, int(row.records), counted))
    for (stamps, run), (records, tokens) in imported_rows.rows_by_stamps(ledger).items():
        if stamps in ids and records:
            found.append(Tally(stamps, run, records, tokens))
    return found


def _tokens_once(ledger: Ledger, stamps: int, run: str) -> int:
    answers = tables.answers.c
    once = (
        select(
            func.max(_counted(answers.prompt_tokens)).label("asked"),
            func.max(_counted(answers.completion_tokens)).label("said"),
        )
        .where(answers.stamps == stamps, answers.run == run)
        .group_by(answers.key)
        .subquery()
    )
    return int(next(iter(_rows(ledger, select(func.sum(once.c.asked + once.c.said)))))[0])


def _edges_below(ledger: Ledger, roots: Iterable[str]) -> set[Edge]:
    edges = tables.edges
    found: set[Edge] = set()
    seen = set(roots)
    frontier = sorted(seen)
    with database_errors(), ledger.engine.connect() as connection:
        while frontier:
            level: set[str] = set()
            for chunk in _chunks(frontier):
                query = select(edges.c.parent, edges.c.child, edges.c.kind).where(edges.c.parent.in_(chunk))
                rows = connection.execute(query).all()
                found.update(map(Edge._make, rows))
                level.update([row[1] for row in rows])
            frontier = sorted(level - seen)
            seen |= level
    return found


def _counted(column: Any) -> Any:
    """A count of tokens; 0 where the teacher did not count."""
    return case((column > 0, column), else_=0)


def _count_records(ledger: Ledger, runs: Collection[str], teachers: Collection[str]) -> int:
    answers = tables.answers
    once: list[Select[Any]] = []
    for chunk in _chunks(sorted(runs)):
        query = select(answers.c.key).where(answers.c.run.in_(chunk))
        once.append(query.where(answers.c.teacher.in_(sorted(teachers))) if teachers else query)
    if not once:
        return 0
    imported = imported_rows.rows_by_stamps(ledger) if not teachers else {}
    brought = sum(records for (_, run), (records, _) in imported.items() if run in set(runs))
    keys = (union(*once) if len(once) > 1 else once[0].distinct()).subquery()
    return brought + int(next(iter(_rows(ledger, select(func.count()).select_from(keys))))[0])


def _chunks(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


def _rows(ledger: Ledger, query: Select[Any]) -> Iterator[Row[Any]]:
    with database_errors(), ledger.engine.connect() as connection:
        yield from connection.execute(query)


def check_node(ledger: Ledger, node: str) -> None:
    """Does the log know a node of lineage? Raises UnknownName: of one that nobody knows, "none" would be no answer."""
    edges = tables.edges
    kind, _, name = node.partition(":")
    names = {
        "teacher": {known.name for known in teachers(ledger)},
        "dataset": {known.label for known in datasets(ledger)},
        "model": {known.label for known in models(ledger)},
    }.get(kind, set())
    known = name in names or any(
        True
        for _ in all_rows(
            ledger, select(edges.c.child).where(or_(edges.c.parent == node, edges.c.child == node)).limit(1)
        )
    )
    runs = [select(table.c.run).where(table.c.run == name).limit(1) for table in (tables.answers, tables.row_imports)]
    if not known and not (kind == "run" and any(True for query in runs for _ in all_rows(ledger, query))):
        raise UnknownName(
            f"Nothing here is called {node!r}.",
            next_step="Name teacher:NAME, run:ID, dataset:NAME@N, model:NAME@N, snapshot:DIGEST or corpus:FILE.",
        )
