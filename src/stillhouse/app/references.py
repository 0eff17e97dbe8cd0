"""Which objects are named, by going through the whole log: the view is a cache, and nothing is collected by a cache."""

from collections.abc import Iterator

from stillhouse import facts
from stillhouse.app.home import App
from stillhouse.canon import tagged_digest
from stillhouse.custody.references import references
from stillhouse.errors import CorruptObject
from stillhouse.vault.reading import Reader

LOG = "log"


def named_objects(app: App) -> dict[str, set[str]]:
    """Every object that something names, and the nodes for whose sake it is kept. Raises CorruptLog."""
    named: dict[str, set[str]] = {}
    snapshots: dict[str, str] = {}
    for writer in app.log.writers():
        for digest in app.log.packs(writer):
            named.setdefault(digest, set()).add(LOG)
        for entry in app.log.read(writer):
            for found in references(facts.decode(entry.payload)):
                named.setdefault(found.digest, set()).add(found.node)
                if found.is_snapshot:
                    snapshots[found.digest] = found.node
    reader = Reader(app.objects)
    for digest, node in snapshots.items():
        for below in _below(reader, digest):
            named.setdefault(below, set()).add(node)
    return named


def objects_of(reader: Reader, snapshot: str) -> Iterator[str]:
    """Every object that a snapshot needs, itself first; some more than once. Raises CorruptObject."""
    yield snapshot
    root = reader.root(snapshot)
    for ref in root.pages:
        yield ref.digest
    for page in reader.pages(root):
        yield from map(tagged_digest, page.packs)


def _below(reader: Reader, snapshot: str) -> Iterator[str]:
    """The same as far as it can be read: what is damaged is told by whoever reads it."""
    found = objects_of(reader, snapshot)
    while True:
        try:
            yield next(found)
        except (StopIteration, CorruptObject):
            return
