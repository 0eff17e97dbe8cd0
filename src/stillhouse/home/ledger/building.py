"""Build a view of the log beside the one that is in use, and swap them.

For another version's view, for a view that is to be rebuilt, and for a long log that has none yet. Where a kill can fall, and
what is then true:

``begun``      new tables are there, without indexes
``filling``    some of the log is in them: whoever builds next resumes there
``filled``     they have every entry that the log had; nobody reads them yet
``indexed``    they have their indexes
``swapped``    in one transaction the last entries were applied, the tables took the place of the old ones, and those are gone

Until then the old view is in use, and complete: nothing is bought twice and no cap is forgotten, as both are views of one log.
"""

import secrets
from collections.abc import Callable

from sqlalchemy import Connection, Engine, Table, select, text

from stillhouse.home.ledger import in_use
from stillhouse.home.ledger.applying import Batch, apply_one_by_one, batches, move_cursor, rows_by_table
from stillhouse.home.ledger.databases import (
    building_alone,
    create_index,
    create_table,
    indexed_columns,
    insert_many,
    is_refusal,
    table_names,
    writing,
)
from stillhouse.home.ledger.in_use import InUse
from stillhouse.home.ledger.projection import new_tables, tables
from stillhouse.vault.log import Log

# Called at each point above with how many entries of how many are in; so tests can kill the process exactly there.
Reached = Callable[[str, int, int], None]


def nobody(point: str, done: int, total: int) -> None:
    """Nobody watches."""


def make_empty(engine: Engine) -> InUse:
    """An empty view in a database that has none, in one transaction. Raises HomeNewer."""
    with building_alone(engine), writing(engine) as connection:
        in_use.prepare(connection)
        found = in_use.view_in_use(connection)
        if found is None:
            token = secrets.token_hex(4)
            for table in tables.by_name.values():
                create_table(connection, table)
                _index(connection, table, token, [])
            found = in_use.put_in_use(connection, token)
        return found


def build(engine: Engine, log: Log, replaces: str, reached: Reached = nobody) -> tuple[InUse, int]:
    """Build this version's view and put it in use, unless somebody else has by then replaced the one with that token.

    Returns what is in use, and how many entries were applied. Raises HomeNewer, CorruptLog, and what the driver raises.
    """
    with building_alone(engine, lambda: reached("waiting", 0, 0)):
        with writing(engine) as connection:
            in_use.prepare(connection)
            found = in_use.view_in_use(connection)
            if found is not None and found.is_ours and found.token != replaces:
                return found, 0
            _begin(connection, log)
        reached("begun", 0, 0)
        applied = _fill(engine, log, reached)
        reached("filled", applied, applied)
        token = secrets.token_hex(4)
        with engine.connect() as connection:
            there = indexed_columns(connection)  # a killed process may have made some
        for table in new_tables.by_name.values():
            with writing(engine) as connection:  # each on its own: those of ten million rows take a while
                _index(connection, table, token, there.get(table.name, []))
        reached("indexed", applied, applied)
        with writing(engine) as connection:
            in_use.hold_still(connection)
            applied += sum(_insert(connection, batch) for batch in batches(log, _cursors(connection)))
            _swap(connection)
            found = in_use.put_in_use(connection, token)
        reached("swapped", applied, applied)
        return found, applied


def _begin(connection: Connection, log: Log) -> None:
    """New tables, or those that a killed process left, where they are of this log."""
    wanted = {table.name for table in new_tables.by_name.values()}
    left = wanted & set(table_names(connection))
    if left == wanted:
        ends = connection.execute(select(new_tables.cursors)).all()
        if all(log.holds(end.writer, end.number, end.chain) for end in ends):
            return
    for name in sorted(left):
        connection.execute(text(f"DROP TABLE {name}"))
    for table in new_tables.by_name.values():
        create_table(connection, table)


def _fill(engine: Engine, log: Log, reached: Reached) -> int:
    applied = 0
    total = log.count()
    with engine.connect() as connection:
        starts = _cursors(connection)
    for batch in batches(log, starts):
        try:
            with writing(engine) as connection:
                applied += _insert(connection, batch)
        except Exception as failure:
            if not is_refusal(failure):
                raise
            with writing(engine) as connection:
                apply_one_by_one(connection, batch, _new_table)
                move_cursor(connection, new_tables.cursors, batch)
            applied += len(batch)
        reached("filling", sum(starts.values()) + applied, total)
    return applied


def _insert(connection: Connection, batch: Batch) -> int:
    for table, rows in rows_by_table(batch).items():
        insert_many(connection, _new_table(table), rows)
    move_cursor(connection, new_tables.cursors, batch)
    return len(batch)


def _cursors(connection: Connection) -> dict[str, int]:
    return {row.writer: row.number for row in connection.execute(select(new_tables.cursors))}


def _new_table(table: Table) -> Table:
    return new_tables.by_name[str(table.info["name"])]


def _index(connection: Connection, table: Table, token: str, there: list[list[str | None]]) -> None:
    """Make the indexes of a table that are not there. The token keeps their names apart from those of other views."""
    for index in sorted(table.indexes, key=lambda one: str(one.name)):
        columns = [column.name for column in index.columns]
        if columns not in there:
            create_index(connection, f"{index.name}_{token}", table, columns)


def _swap(connection: Connection) -> None:
    there = set(table_names(connection))
    for name in sorted(in_use.tables_of_other_views(connection)):
        connection.execute(text(f"DROP TABLE {name}"))
    for table in tables.by_name.values():
        if table.name in there:
            connection.execute(text(f"DROP TABLE {table.name}"))
    for (
        name,
        table,
    ) in tables.by_name.items():  # after all are gone: SQLite reads the whole schema at every change of a name
        connection.execute(text(f"ALTER TABLE {new_tables.by_name[name].name} RENAME TO {table.name}"))
