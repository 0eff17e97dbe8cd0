"""Change the view of a log behind the program's back, as somebody with an SQL shell does."""

import re
import sqlite3
from pathlib import Path

from stillhouse.home.ledger.projection import tables

_TABLE = re.compile(r"(?i)\b(update|from)\s+(\w+)")


def edit(home: Path, *statements: str) -> None:
    """Run statements on the ledger of a home. Tables are called by their names; in the database each has a suffix."""
    with sqlite3.connect(home / "ledger.db") as database:
        for statement in statements:
            named = _TABLE.sub(lambda found: f"{found[1]} {tables.by_name[found[2]].name}", statement)
            assert database.execute(named).rowcount > 0, statement
    database.close()
