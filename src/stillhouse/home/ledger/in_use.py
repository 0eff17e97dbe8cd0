"""Which view of the log is in use in a database: its revision, its fingerprint, and a token that changes with every swap.

Whoever applies an entry looks here in the same transaction. So a process of an older version finds out before it does anything
with what it has read, and a swap waits for whoever is applying.
"""

import re
from typing import NamedTuple

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, delete, insert, select, text

from stillhouse.errors import HomeNewer
from stillhouse.home.ledger.databases import is_sqlite, key_of_table, table_names
from stillhouse.home.ledger.projection import FINGERPRINT, REVISION

_metadata = MetaData()
_view = Table(
    "stillhouse_view",
    _metadata,
    Column("revision", Integer, nullable=False),
    Column("fingerprint", String(16), nullable=False),
    Column("token", String(32), nullable=False),
)
# Versions up to revision 7 look here whether the database is newer than they are.
_before_8 = Table("alembic_version", _metadata, Column("version_num", String(32), nullable=False))
_VERSIONED = re.compile(r"_[0-9a-f]{8}(_new)?$")
_OURS = (FINGERPRINT, f"{FINGERPRINT}_new")


class InUse(NamedTuple):
    """The view that is in use. ``token`` is another one after every swap."""

    revision: int
    fingerprint: str
    token: str

    @property
    def is_ours(self) -> bool:
        """Is it one that this version of the program reads?"""
        return (self.revision, self.fingerprint) == (REVISION, FINGERPRINT)


def view_in_use(connection: Connection) -> InUse | None:
    """The view that is in use; None where there is none yet, or only one of a version before revision 8.

    Raises HomeNewer for a newer one.
    """
    row = connection.execute(select(_view)).first()
    if row is None:
        return None
    found = InUse(*row)
    if found.revision > REVISION:
        raise HomeNewer(f"(its ledger has revision {found.revision}, this version knows {REVISION})")
    return found


def is_prepared(connection: Connection) -> bool:
    """Can it be said here which view is in use?"""
    return _view.name in table_names(connection)


def prepare(connection: Connection) -> None:
    """Make the table that says it."""
    _metadata.create_all(connection)


def hold_still(connection: Connection) -> None:
    """Until the end of the transaction nobody applies anything to the view in use: each looks first which one it is."""
    if not is_sqlite(connection):
        connection.execute(text(f"LOCK TABLE {_view.name} IN ACCESS EXCLUSIVE MODE"))


def put_in_use(connection: Connection, token: str) -> InUse:
    """Say that this version's view is the one in use, from the end of the transaction on; older versions can tell, too."""
    connection.execute(delete(_view))
    connection.execute(insert(_view).values(revision=REVISION, fingerprint=FINGERPRINT, token=token))
    connection.execute(delete(_before_8))
    connection.execute(insert(_before_8).values(version_num=f"{REVISION:04}"))
    return InUse(REVISION, FINGERPRINT, token)


def tables_of_other_views(connection: Connection) -> list[str]:
    """The tables of views that other versions left here: by their keys and, from revision 8 on, by their names; others may share
    the schema.
    """
    names = table_names(connection)
    before_8 = _before_8.name in names
    others = [name for name in names if not name.endswith(_OURS) and (before_8 or _VERSIONED.search(name))]
    return [name for name in others if key_of_table(connection, name) == _key(name)]


def _key(name: str) -> list[str]:
    """The key of a table of a view: of the entry that a row is from, but for that of the cursors."""
    return ["writer"] if _VERSIONED.sub("", name) == "cursors" else ["writer", "number", "place"]
