"""From what a fact declares of itself to tables, and from an entry of the log to rows. Pure.

All rows of all tables are keyed by the place of the log entry they come from (``writer``, ``number``) and their place within it,
so applying an entry twice changes nothing, in any order, by any number of processes; and a rebuilt view equals the old one row
for row. Values stand in rows as the log has them; ``clean`` makes of each what a database can hold.
"""

import enum
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar, get_args

import msgspec
from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text

from stillhouse.canon import digest_value
from stillhouse.home import facts
from stillhouse.home.facts import declarations

# Which view this version makes: raised with every change of FINGERPRINT (a test sees to it), so that of two versions the older
# one can tell that it is the older one.
REVISION = 17
_BY_THE_ENTRY = ("writer", "number", "place", "at")

# PostgreSQL's names have 63 bytes; what is appended to tell tables apart has 20.
_LONGEST_NAME = 43

Getter = Callable[[Any], Any]
AFact = TypeVar("AFact", bound=facts.Fact)


class ViewRow(NamedTuple):
    """A row for a table, in the order of its columns, without the first ones, which say which entry it is from."""

    table: Table
    values: tuple[Any, ...]


class _Source(NamedTuple):
    """A column, and how it is filled from a fact or, where ``item``, from one of its items; in words, too."""

    column: Column[Any]
    value: Getter
    words: str
    item: bool = False


class _Filled(NamedTuple):
    """How a kind of fact fills a table: the value of each column, in order, of the fact or of each of its ``items``."""

    table: Table
    columns: tuple[tuple[Getter, bool], ...]
    items: Getter | None
    words: tuple[str, ...]


def rows_of(fact: facts.Fact) -> list[ViewRow]:
    """The rows that a fact makes, in order. Raises TypeError for what is no fact."""
    if type(fact) not in _FILLED:
        raise TypeError(f"no view of a {type(fact).__name__}")
    found = []
    for filled in _FILLED[type(fact)]:
        for item in filled.items(fact) if filled.items is not None else (None,):
            values = [value(item if of_item else fact) for value, of_item in filled.columns]
            found.append(ViewRow(filled.table, tuple(values)))
    return found


def fact_of(kind: type[AFact], row: Any) -> AFact:
    """The fact that a row is of, as a database holds it. Raises TypeError for a kind of which the view has not all."""
    if kind not in _READERS:
        raise TypeError(f"the log alone has all of a {kind.__name__}")
    return kind(**{name: value(row) for name, value in _READERS[kind]})


def _reader(kind: type[facts.Fact]) -> tuple[tuple[str, Getter], ...] | None:
    """How each field of a fact is read back from the columns of its one row; None where they have not all of it."""
    if len(kind.tables) != 1 or kind.tables[0].each:
        return None
    declared = kind.tables[0]
    if sum(table.name == declared.name for other in facts.KINDS for table in other.tables) > 1:
        return None
    found = []
    for field in msgspec.structs.fields(kind):
        column = next((name for name, source in declared.columns.items() if source == field.name), field.name)
        if field.name in {*declared.without, *declared.flat} or callable(declared.columns.get(column)):
            return None
        found.append((field.name, _reading(column, field.type)))
    return tuple(found)


def _reading(column: str, kind: Any) -> Getter:
    value = attrgetter(column)
    plain = getattr(kind, "__origin__", kind) if kind == declarations.StampSetId else kind
    if plain in (str, int, float):
        return value
    if plain is bool or (isinstance(plain, type) and issubclass(plain, enum.StrEnum)):
        return lambda row: plain(value(row))
    decoder = msgspec.json.Decoder(plain)
    return lambda row: decoder.decode(value(row))


def _table(metadata: MetaData, name: str, *columns: Column[Any]) -> Table:
    return Table(
        name,
        metadata,
        Column("writer", String(8), primary_key=True),
        Column("number", BigInteger, primary_key=True, autoincrement=False),
        Column("place", Integer, primary_key=True, autoincrement=False),
        Column("at", String(32), nullable=False),
        *columns,
    )


def _filled(kind: type[facts.Fact], declared: declarations.Table, metadata: MetaData) -> _Filled:
    """Make the table that a fact declares, where no other has, and say how it is filled. Raises TypeError."""
    sources = list(_sources(kind, declared))
    names = [source.column.name for source in sources]
    wrong = sorted({name for name in names if names.count(name) > 1 or name in _BY_THE_ENTRY})
    if wrong:
        raise TypeError(f"{kind.__name__}: no two columns of {declared.name} can be called {', '.join(wrong)}")
    table = metadata.tables.get(declared.name)
    if table is None:
        table = _table(metadata, declared.name, *(source.column for source in sources))
        for index in declared.indexes:
            columns = (index,) if isinstance(index, str) else index
            Index("_".join((table.name, "by", *columns))[:_LONGEST_NAME], *(table.c[column] for column in columns))
    elif {(column.name, str(column.type)) for column in table.columns} != {
        *((source.column.name, str(source.column.type)) for source in sources),
        *((table.c[name].name, str(table.c[name].type)) for name in _BY_THE_ENTRY),
    }:
        raise TypeError(f"{kind.__name__} declares other columns of {declared.name} than another fact")
    by_name = {source.column.name: (source.value, source.item) for source in sources}
    filled = tuple(by_name[column.name] for column in table.columns if column.name not in _BY_THE_ENTRY)
    words = tuple(sorted(f"{source.column.name}={source.words}" for source in sources))
    return _Filled(table, filled, attrgetter(declared.each) if declared.each else None, words)


def _sources(kind: type[facts.Fact], declared: declarations.Table) -> Iterator[_Source]:
    """The columns of a table as a fact declares it: its own fields, those that are flat, those of its items, the others."""
    renamed = {*declared.columns, *(source for source in declared.columns.values() if isinstance(source, str))}
    left_out = {*declared.without, *declared.flat, declared.each, "at", *(["by"] if declared.each else [])}
    for field in msgspec.structs.fields(kind):
        if field.name not in renamed | left_out:
            yield _source(field.name, field.type, attrgetter(field.name), field.name)
    for flat in declared.flat:
        for field in msgspec.structs.fields(facts.type_of(kind, flat)):
            path = f"{flat}.{field.name}"
            if path not in renamed | left_out:
                yield _source(field.name, field.type, attrgetter(path), path)
    item = get_args(facts.type_of(kind, declared.each))[0] if declared.each else None
    if isinstance(item, type) and issubclass(item, msgspec.Struct):
        for field in msgspec.structs.fields(item):
            yield _source(field.name, field.type, attrgetter(field.name), f"each.{field.name}")._replace(item=True)
    for name, column in declared.columns.items():
        if isinstance(column, declarations.Always):
            yield _source(name, str, _always(column.text), repr(column.text))
        elif not isinstance(column, str):
            yield _source(name, str, column, getattr(column, "__name__", "a function"))
        elif column == declared.each:
            yield _source(name, item, _itself, "each")._replace(item=True)
        else:
            yield _source(name, facts.type_of(kind, column), attrgetter(column), column)


def _source(name: str, kind: Any, value: Getter, words: str) -> _Source:
    """A column of a type: texts, numbers and whole numbers as they are, all else as JSON."""
    plain = getattr(kind, "__origin__", kind) if kind == declarations.StampSetId else kind
    if plain is str:
        return _Source(_column(name, Text), value, words)
    if isinstance(plain, type) and issubclass(plain, enum.StrEnum):
        return _Source(_column(name, Text), lambda fact: str(value(fact)), words)
    if plain is bool:
        return _Source(_column(name, BigInteger), lambda fact: int(value(fact)), words)
    if plain is int:
        return _Source(_column(name, BigInteger, identity=kind is not int), value, words)
    if plain is float:
        return _Source(_column(name, Float(53)), value, words)
    return _Source(_column(name, Text), lambda fact: _json(value(fact)), words)


def _column(name: str, kind: Any, **info: object) -> Column[Any]:
    return Column(name, kind, nullable=False, info=info)


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _itself(item: Any) -> Any:
    return item


def _always(text: str) -> Getter:
    return lambda fact: text


def _own_tables(metadata: MetaData) -> None:
    """The tables that are of no fact: how far the view is, and the entries whose rows the database refused."""
    Table(
        "cursors",
        metadata,
        Column("writer", String(8), primary_key=True),
        Column("number", BigInteger, nullable=False),
        Column("chain", String(64), nullable=False),
    )
    _table(metadata, "unviewed", _column("kind", Text), _column("reason", Text))


def _fingerprint(metadata: MetaData, filled: Iterable[tuple[type[facts.Fact], tuple[_Filled, ...]]]) -> str:
    """What stands for all tables, and for how each kind of fact fills them, as far as that is declared."""
    columns = [
        [str(table.name), [[str(column.name), str(column.type), bool(column.info.get("identity"))] for column in table.columns],
         sorted([str(column.name) for column in index.columns] for index in table.indexes)]
        for table in metadata.sorted_tables
    ]  # fmt: skip
    sources = sorted(
        [str(kind.__struct_config__.tag), str(one.table.name), list(one.words)] for kind, many in filled for one in many
    )
    return digest_value([columns, sources]).partition(":")[2][:8]


class Tables:
    """Every table by its name, as an attribute, or all of them."""

    def __init__(self, declared: MetaData, suffix: str) -> None:
        """In a database each is called by its name and the suffix: two versions of the program share none."""
        self.metadata = MetaData()
        self.by_name: dict[str, Table] = {}
        for table in declared.sorted_tables:
            self.by_name[table.name] = table.to_metadata(self.metadata, name=f"{table.name}{suffix}")
            self.by_name[table.name].info["name"] = table.name

    def __getattr__(self, name: str) -> Table:
        """Raises AttributeError."""
        try:
            return self.by_name[name]
        except KeyError:
            raise AttributeError(f"no fact has a table {name}") from None


_declared = MetaData()
_own_tables(_declared)
_by_kind = {kind: tuple(_filled(kind, table, _declared) for table in kind.tables) for kind in facts.KINDS}
FINGERPRINT = _fingerprint(_declared, _by_kind.items())
tables = Tables(_declared, f"_{FINGERPRINT}")
# Where a view is being built, beside the one that is in use.
new_tables = Tables(_declared, f"_{FINGERPRINT}_new")
_FILLED = {
    kind: tuple(one._replace(table=tables.by_name[one.table.name]) for one in many) for kind, many in _by_kind.items()
}
_READERS = {kind: reader for kind in facts.KINDS if (reader := _reader(kind)) is not None}
