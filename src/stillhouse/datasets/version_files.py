"""The files of a version that is formed: shards of its parent that stay as they are, and new ones for what changed.

A shard of the parent stays where every line of its index is a line of the new version: the same row, in the same place. So a row
more costs that row. Each shard has one object of the index, which names it. Small shards become one when there are many of them.
What can be erased is written anew: its index says nothing by which its rows could be told apart.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from stillhouse.datasets.forming import Formed
from stillhouse.datasets.shards import DROPPED, ROWS, ShardWriter, shard_name, shards_of
from stillhouse.datasets.temporary_database import temporary_errors
from stillhouse.errors import CorruptObject
from stillhouse.home.row_index import IndexLine, encode_table, index_table, read_shard_index
from stillhouse.nouns import DatasetVersion
from stillhouse.vault.objects import Objects

if TYPE_CHECKING:
    import pyarrow

# A reader opens every shard; so many small ones are as quick to write as one.
_SMALL, _MOST_SMALL = 4 << 20, 16
_LINES_AT_ONCE = 5_000


class StoredVersion(NamedTuple):
    """The objects of a version: its files by name, and its index."""

    files: dict[str, str]
    index_objects: tuple[str, ...]


class _Part(NamedTuple):
    """A shard, and the object of the index with its ``lines``."""

    kind: str
    shard: str
    lines: str


@temporary_errors()
def store_version(
    formed: Formed, objects: Objects, vault: Objects, parent: DatasetVersion | None, erasable: str
) -> StoredVersion:
    """Store what the parent does not have. Raises StorageError. The index goes into the ``vault``, the words into ``objects``."""
    formed.database.execute("CREATE TEMP TABLE IF NOT EXISTS stays (id INTEGER PRIMARY KEY)")
    formed.database.execute("DELETE FROM stays")
    parts = list(_that_stay(formed, objects, vault, parent)) if parent is not None and not erasable else []
    written = {ROWS: _Shards(ROWS, objects, vault), DROPPED: _Shards(DROPPED, objects, vault)}
    for placed, candidate in formed.with_texts("id NOT IN (SELECT id FROM stays)"):
        content = objects.alias(placed.content)
        # The particulars of a reason may quote the row, and the index is for ever; the file has them.
        reason = placed.reason.partition(":")[0] if erasable else placed.reason
        line = IndexLine(placed.key, content, placed.stamps, placed.step, reason, tokens=placed.tokens)
        shards = written[DROPPED if placed.step else ROWS]
        shards.lines.append(line, b"" if erasable else placed.row)
        if shards.writer.add(candidate._replace(tokens=placed.tokens), placed.step, placed.reason):
            shards.end()
    parts += [part for shards in written.values() for part in shards.ended()]
    files = dict[str, str]()
    for kind in (ROWS, DROPPED):
        of_kind = [part.shard for part in parts if part.kind == kind]
        files |= {shard_name(kind, number): shard for number, shard in enumerate(of_kind)} or written[kind].writer.end()
    in_order = [part.lines for kind in (ROWS, DROPPED) for part in parts if part.kind == kind]
    return StoredVersion(files, tuple(in_order))


class _Lines:
    """Lines of an index that wait for the end of their shard, as a table: a tenth of what they are as objects."""

    def __init__(self) -> None:
        self._tables: list[pyarrow.Table] = []
        self._lines: list[IndexLine] = []
        self._rows: list[bytes] = []

    def append(self, line: IndexLine, row: bytes) -> None:
        """One line, and what its row is made of; nothing where that is not to be said."""
        self._lines.append(line)
        self._rows += [row] if row else []
        if len(self._lines) >= _LINES_AT_ONCE:
            self._pack()

    def taken(self) -> "pyarrow.Table":
        """All of them; there are none then."""
        import pyarrow

        self._pack()
        tables, self._tables = self._tables, []
        return pyarrow.concat_tables(tables)

    def _pack(self) -> None:
        if self._lines:
            self._tables.append(index_table(self._lines, self._rows))
            self._lines, self._rows = [], []


class _Shards:
    """The new shards of a kind, with the index of each."""

    def __init__(self, kind: str, objects: Objects, vault: Objects) -> None:
        self.writer, self.lines = ShardWriter(objects, kind), _Lines()
        self._kind, self._vault, self._parts = kind, vault, list[_Part]()

    def end(self) -> None:
        """The writer has stored a shard: its lines follow."""
        shard = list(self.writer.stored.values())[-1]
        index = self._vault.put(encode_table(self.lines.taken(), shard))
        self._parts.append(_Part(self._kind, shard, index))

    def ended(self) -> list[_Part]:
        """The parts, the last one, too."""
        before = len(self.writer.stored)
        self.writer.end_shard()
        if len(self.writer.stored) > before:
            self.end()
        return self._parts


def _that_stay(formed: Formed, objects: Objects, vault: Objects, parent: DatasetVersion) -> Iterator[_Part]:
    """The parts of the parent that are parts of this version; their candidates are noted in the table ``stays``."""
    database = formed.database
    database.executescript(
        """
        CREATE INDEX IF NOT EXISTS by_row ON found (row);
        CREATE TEMP TABLE IF NOT EXISTS lines (row BLOB, stamps INTEGER, tokens INTEGER, step TEXT, reason BLOB);
        """
    )
    kinds = {shard: kind for kind in (ROWS, DROPPED) for shard in shards_of(parent, kind)}
    stay: list[tuple[_Part, list[int]]] = []
    for digest in parent.index:
        try:
            found = read_shard_index(vault, digest)
        except CorruptObject:  # `doctor` names it; its rows are written anew
            continue
        if found is None or found[0] not in kinds or "row" not in found[1].column_names:
            continue
        ids = _same_lines(formed, found[1])
        if ids is not None:
            stay.append((_Part(kinds[found[0]], found[0], digest), ids))
    small = [part for part, _ in stay if objects.size(part.shard) < _SMALL]
    merged = set(small) if len(small) >= _MOST_SMALL else set()
    for part, ids in stay:
        if part not in merged:
            database.executemany("INSERT OR IGNORE INTO stays VALUES (?)", ((id,) for id in ids))
            yield part


def _same_lines(formed: Formed, table: "pyarrow.Table") -> list[int] | None:
    """The candidates that some lines are of, where each is placed now as it is in them; None where one is not."""
    database = formed.database
    columns = [table[name].to_pylist() for name in ("row", "stamps", "tokens", "step", "reason")]
    lines = [(*first, reason.encode("utf-8", "surrogatepass")) for *first, reason in zip(*columns, strict=True)]
    database.execute("DELETE FROM lines")
    database.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?)", lines)
    found = database.execute(
        """
        SELECT id, lines.rowid FROM lines JOIN found USING (row) LEFT JOIN drops USING (id)
        WHERE found.stamps = lines.stamps AND found.tokens = lines.tokens
            AND coalesce(drops.step, '') = lines.step AND coalesce(drops.reason, x'') = lines.reason
        """
    ).fetchall()
    ids = {id for id, _ in found}
    # One for each line: a row that is a candidate twice would make up for a line that is of none.
    is_each = len(found) == len(ids) == len({line for _, line in found}) == len(lines)
    return sorted(ids) if is_each else None
