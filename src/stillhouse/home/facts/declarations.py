"""What every entry of the log declares: its tag, its fields, which tables of the view have it, and which objects it names.

This is told once, on the fact's own class; ``ledger.projection`` makes the tables, the rows and what is read back from it.
"""

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec

# The id of a stamp set: all 64 bits of it count, so it is no number that could be bounded.
StampSetId = Annotated[int, "identity"]


class Always(NamedTuple):
    """A column that has the same text in every row of a fact."""

    text: str


# Where a column's value comes from: a path within the fact ("plan.kind"), always the same, or a function of the fact (text).
Column = str | Always | Callable[[Any], str]


class Table(NamedTuple):
    """A table of the view that a fact has rows in. Several facts may share one, if they agree on its columns.

    Every field of the fact is a column of its name (``by`` where it has one row); structs and collections are JSON. ``indexes``
    names columns, or tuples of them. ``columns`` are others than the fields, by name. ``each`` is the field whose items have a
    row each: their fields are columns, too. ``flat`` are structs whose fields are columns. ``without`` stays in the log only.
    """

    name: str
    indexes: tuple[str | tuple[str, ...], ...] = ()
    columns: Mapping[str, Column] = MappingProxyType({})
    each: str = ""
    flat: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class Named(NamedTuple):
    """An object that a fact names, and the node of lineage for whose sake it is kept. ``tree``: so is all that it names."""

    digest: str
    node: str
    tree: bool


def table_of_acts(kind: str, field: str, *without: str) -> Table:
    """The table that all acts of permission are in: of which kind, and what it brings about."""
    return Table("acts", indexes=("kind",), columns={"kind": Always(kind), "content": field}, without=without)


class Kept:
    """The fields of a fact that name objects of the vault: nothing that stands there is collected as garbage."""

    tree = False

    def __init__(self, node: str, *paths: str) -> None:
        """``node`` is a format of the fact; each path leads to a digest, to several, or to a mapping with digests as values."""
        self.node, self.paths = node, paths

    def of(self, fact: "Fact") -> Iterator[Named]:
        """The objects that a fact names."""
        node = self.node.format(fact)
        for path in self.paths:
            value = attrgetter(path)(fact)
            several = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else (value,)
            for digest in several:
                yield Named(digest, node, self.tree)


class KeptTree(Kept):
    """The same for manifests: what they name is kept, too."""

    tree = True


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="fact"):
    """Something that happened. ``at`` is when it was written down; ``by`` who or what wrote it.

    Each kind says which ``tables`` have it (an empty tuple where the log alone does), and which objects it names (``keeps``).
    """

    at: str
    by: str

    tables: ClassVar[tuple[Table, ...]]
    keeps: ClassVar[tuple[Kept, ...]] = ()
    # Of an act of permission: the field with what it brings about. Such a fact has a plan, previous and signatures, too.
    act: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Raises TypeError for a kind that does not say which tables have it."""
        if "tables" not in vars(cls):
            raise TypeError(f"{cls.__name__} does not say which tables have it")

    def shown(self) -> dict[str, Any]:
        """When it happened, and its own fields, as commands print them in JSON."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return {"at": self.at, **{name: value for name, value in fields.items() if name not in ("fact", "at", "by")}}


def type_of(kind: Any, path: str) -> Any:
    """The type of what a path leads to. Raises TypeError for one that leads nowhere."""
    for name in path.split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
        if name not in fields:
            raise TypeError(f"{kind.__name__} has no {name}")
        kind = fields[name]
    return kind


def references(fact: Fact) -> Iterator[Named]:
    """The objects that a fact names: the one function by which anything is kept or may be collected."""
    for kept in fact.keeps:
        yield from kept.of(fact)
