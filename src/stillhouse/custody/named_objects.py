"""Which objects are named and by what, by going through the whole log: the view is a cache, and nothing is collected by a cache.

What is deleted names nothing any more. A deletion is of what the log said when it was planned: what was written down once more
since is there again. What is held is never deleted, whoever asks.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from stillhouse.errors import CorruptObject
from stillhouse.home import facts
from stillhouse.home.current_permission import load
from stillhouse.home.ledger import custody_queries, dataset_queries
from stillhouse.home.open_home import Home
from stillhouse.nouns import Deletion, Erasure, HoldRelease
from stillhouse.vault.erasable import key_named_by, key_of_snapshot
from stillhouse.vault.manifests import ENVELOPE_MAGIC
from stillhouse.vault.reading import Reader

# By these names the log's own packs are kept, and what tells of an erased snapshot.
LOG, ERASED = "log", "erased"
# What says which records there were has none of their words, and stays when they are deleted or erased.
INDEX = "index:"


class Naming(NamedTuple):
    """Which nodes name each object, and how often the log names each node. ``dead`` nodes are deleted, and name nothing;
    ``forgotten`` are the objects that only they named themselves.
    """

    objects: dict[str, set[str]]
    mentions: dict[str, int]
    dead: frozenset[str]
    forgotten: frozenset[str]


def named_objects(home: Home) -> Naming:
    """What is named, as far as it can be read: of a snapshot whose manifest is damaged, what is left of it."""
    return _naming(home, _as_far_as_possible)


def surely_named_objects(home: Home) -> Naming:
    """What is named, for whoever removes what is not. What a snapshot names comes out of the trash on the way.

    Raises CorruptObject where something that names cannot be read: then nobody knows what may go.
    """
    there: set[str] = set()
    return _naming(home, lambda reader, snapshot: out_of_the_trash(home, reader, snapshot, there))


def out_of_the_trash(home: Home, reader: Reader, snapshot: str, there: set[str]) -> Iterator[str]:
    """Every object that a snapshot needs; what is in the trash comes out. ``there`` are objects that need no look.

    Raises CorruptObject for what cannot be read.
    """
    for digest in reader.needed(snapshot):  # which names a manifest before it reads it
        if digest not in there:
            if not home.objects.exists(digest):
                home.objects.recover(digest)
            there.add(digest)
        yield digest


def active_holds(home: Home) -> list[facts.HoldPlaced]:
    """The holds that are not released."""
    released = {release.hold for release in load(home.ledger, home.settings).state.of(HoldRelease)}
    return [hold for hold in custody_queries.holds(home.ledger) if hold.hold not in released]


def held_nodes(home: Home) -> frozenset[str]:
    """Every node that a hold concerns: a copy of what is held is held."""
    held = {hold.subject for hold in active_holds(home)}
    copies = {f"snapshot:{one.snapshot}" for one in custody_queries.snapshots(home.ledger) if one.subject in held}
    return frozenset(held | copies)


def _naming(home: Home, below: Callable[[Reader, str], Iterator[str]]) -> Naming:
    home.recorder.refresh()
    named: dict[str, set[str]] = {}
    snapshots: dict[str, str] = {}
    mentions: Counter[str] = Counter()
    for writer in home.log.writers():
        for digest in home.log.packs(writer):
            named.setdefault(digest, set()).add(LOG)
        for entry in home.log.read(writer):
            found = list(facts.references(facts.decode(entry.payload)))
            mentions.update({one.node for one in found})
            for one in found:
                named.setdefault(one.digest, set()).add(one.node)
                if one.tree:
                    snapshots[one.digest] = one.node
    dead, erased = dead_nodes(home, mentions), erased_nodes(home)
    reader = Reader(home.objects)
    for digest, node in snapshots.items():
        if node not in dead:
            for needed in below(reader, digest):
                named.setdefault(needed, set()).add(node)
    alive = {digest: nodes - dead for digest, nodes in named.items()}
    for digest, node in snapshots.items():
        # What says that an erased snapshot was one stays: without it, nobody could tell it from one that was lost.
        if node in dead and node in erased and home.objects.begins(digest, ENVELOPE_MAGIC):
            alive[digest].add(ERASED)
    deleted = dead - erased
    forgotten = frozenset(digest for digest, nodes in alive.items() if not nodes and named[digest] & deleted)
    return Naming({digest: nodes for digest, nodes in alive.items() if nodes}, dict(mentions), dead, forgotten)


def dead_nodes(home: Home, mentions: Mapping[str, int]) -> frozenset[str]:
    """The nodes that are deleted, where the log names each so often."""
    undone = custody_queries.undone(home.ledger)
    held = held_nodes(home)
    return frozenset(erased_nodes(home) - held) | frozenset(
        node
        for deletion in load(home.ledger, home.settings).state.of(Deletion)
        if deletion.id not in undone
        for node, count in deletion.mentions.items()
        if mentions.get(node, 0) <= count and node not in held and not node.startswith(INDEX)
    )


def erased_nodes(home: Home) -> set[str]:
    """What nobody can read any more: it says itself that it is encrypted with a key that a signed erasure names."""
    return nodes_of_keys(home, {erasure.key for erasure in load(home.ledger, home.settings).state.of(Erasure)})


def nodes_of_keys(home: Home, keys: Collection[str]) -> set[str]:
    """What is encrypted with these keys, by its own bytes.

    That a fact calls something erasable only says where to look. A dataset whose files do not say which key they need (format
    1), or do not all say one of these, is not among them; nor is a snapshot that is missing, since nobody knows what it was.
    """
    if not keys:
        return set()
    nodes = set()
    for one in custody_queries.snapshots(home.ledger):
        with contextlib.suppress(CorruptObject):
            if one.erasable and key_of_snapshot(home.objects, one.snapshot) in keys:
                nodes.add(f"snapshot:{one.snapshot}")
    alive: set[str] = set()
    for dataset in dataset_queries.dataset_claims(home.ledger):
        named = {key_named_by(home.objects, digest) for digest in dataset.files.values() if _is_anywhere(home, digest)}
        # Of files that are gone already, nothing can be removed. What any fact says of it besides keeps it.
        erased = dataset.erasable and named <= set(keys)
        (nodes if erased else alive).add(f"dataset:{dataset.label}")
    return nodes - alive


def _is_anywhere(home: Home, digest: str) -> bool:
    return bool(home.objects.head(digest, 1))


def _as_far_as_possible(reader: Reader, snapshot: str) -> Iterator[str]:
    found = reader.needed(snapshot)
    while True:
        try:
            yield next(found)
        except (StopIteration, CorruptObject):
            return
