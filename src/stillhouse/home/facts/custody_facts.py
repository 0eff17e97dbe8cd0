"""Entries about what is kept, held, deleted, copied and watched."""

import msgspec

from stillhouse.home.facts.declarations import Always, Column, Fact, KeptTree, Table, table_of_acts
from stillhouse.nouns import Deletion, Erasure, HoldRelease, Signature


class SnapshotTaken(Fact, frozen=True, tag="snapshot-taken"):
    """Files are in the vault under one digest. ``subject`` is the node of lineage that they are, empty where they are none.

    ``added`` counts the bytes that the vault grew by. ``erasable`` is the source with whose key they are encrypted, if any.
    """

    snapshot: str
    name: str
    source: str
    subject: str
    files: int
    bytes: int
    added: int
    erasable: str = ""

    tables = (Table("snapshots", indexes=("snapshot", "name")),)
    keeps = (KeptTree("snapshot:{0.snapshot}", "snapshot"),)


class Registered(Fact, frozen=True, tag="registered"):
    """What lies in a place that is not ours is written down in a manifest; the place keeps it, and nothing here does."""

    manifest: str
    name: str
    source: str
    endpoint: str
    files: int
    bytes: int

    tables = (Table("registrations", indexes=("manifest", "name")),)
    keeps = (KeptTree("registered:{0.manifest}", "manifest"),)


class Examined(Fact, frozen=True, tag="examined"):
    """A place was compared with a manifest of it: so many files by their bytes, the others by what costs nothing.

    ``changes`` counts what is not as it was registered, ``new`` what was not registered; ``examples`` are some of the first.
    """

    manifest: str
    files: int
    read: int
    changes: int
    new: int
    examples: tuple[str, ...]

    tables = (Table("examinations", indexes=("manifest",)),)


class CopyMade(Fact, frozen=True, tag="copy-made"):
    """Every object that the vault had stands in another place, too, and was read back there; so does the log up to ``entries``.

    ``added`` objects were new there, ``sampled`` of the others were read there again. ``heads`` says how many entries of each
    writer of the log it has: what was written down after them is not in this copy, whatever the clock says.
    """

    copy: str
    place: str
    domain: str
    objects: int
    added: int
    bytes: int
    entries: int
    sampled: int = 0
    heads: dict[str, int] = msgspec.field(default_factory=dict)

    tables = (Table("copies", indexes=("copy",), columns={"store": "place"}),)


class Scrubbed(Fact, frozen=True, tag="scrubbed"):
    """Objects of the vault, or of a copy of it (``copy``), were read and compared; these were bad, and these were mended."""

    copy: str
    objects: int
    read: int
    bad: tuple[str, ...]
    repaired: tuple[str, ...]

    tables = (Table("scrubs", indexes=("copy",)),)


class Drilled(Fact, frozen=True, tag="drilled"):
    """Files were restored from the vault, or from a copy of it (``copy``), to try whether that works.

    ``seconds`` is what it took; ``behind`` how many seconds of work a restore from there would lose. ``problem`` is empty where
    all came back as they were. The signature is over all of this.
    """

    copy: str
    subject: str
    whole: bool
    files: int
    bytes: int
    seconds: float
    behind: float
    problem: str
    signature: Signature

    tables = (Table("drills", indexes=("copy",)),)


class HoldPlaced(Fact, frozen=True, tag="hold-placed"):
    """A node of lineage, and what it needs, must not be deleted until the hold is released."""

    hold: str
    subject: str
    reason: str

    tables = (Table("holds", indexes=("hold",)),)


class HoldReleased(Fact, frozen=True, tag="hold-released"):
    """A hold is over. It stands in the chain of permission, as what it allows does."""

    release: HoldRelease
    plan: str
    previous: str
    signatures: tuple[Signature, ...]

    tables = (table_of_acts("HoldRelease", "release"),)
    act = "release"


class Deleted(Fact, frozen=True, tag="deleted"):
    """Some nodes may be forgotten: what only they name goes to the trash."""

    deletion: Deletion
    plan: str
    previous: str
    signatures: tuple[Signature, ...]

    tables = (table_of_acts("Deletion", "deletion"),)
    act = "deletion"


class ErasureKeyMade(Fact, frozen=True, tag="erasure-key-made"):
    """A source can be erased: what is kept of it is encrypted with a key of its own, of which this is the digest."""

    source: str
    key: str

    tables = (Table("erasure_keys", indexes=("source",), columns={"destroyed": Always("")}),)


class Erased(Fact, frozen=True, tag="erased"):
    """A source's key is to be destroyed everywhere: a tombstone, which says that there was something, and no more."""

    erasure: Erasure
    plan: str
    previous: str
    signatures: tuple[Signature, ...]

    tables = (table_of_acts("Erasure", "erasure"),)
    act = "erasure"


class ErasureKeyDestroyed(Fact, frozen=True, tag="erasure-key-destroyed"):
    """An erased source's key is in none of these places any more."""

    source: str
    key: str
    places: tuple[str, ...]

    tables = (Table("erasure_keys", indexes=("source",), columns={"destroyed": "places"}),)


class DeletionUndone(Fact, frozen=True, tag="deletion-undone"):
    """A deletion counts no more."""

    deletion: str

    tables = (Table("deletions_undone", indexes=("deletion",)),)


class Discarded(Fact, frozen=True, tag="discarded"):
    """These objects are about to go to the trash; from now on their grace runs."""

    objects: tuple[str, ...]
    bytes: int
    reason: str

    tables = (
        Table(
            "trash",
            indexes=("object",),
            each="objects",
            columns={"object": "objects", "what": Always("discarded")},
            without=("bytes",),
        ),
    )


def _out_of_the_trash(how: str) -> dict[str, Column]:
    return {"object": "objects", "what": Always(how), "reason": Always("")}


class Recovered(Fact, frozen=True, tag="recovered"):
    """These objects are back from the trash."""

    objects: tuple[str, ...]

    tables = (Table("trash", indexes=("object",), each="objects", columns=_out_of_the_trash("recovered")),)


class Reclaimed(Fact, frozen=True, tag="reclaimed"):
    """These objects are about to leave the trash, and are then gone."""

    objects: tuple[str, ...]

    tables = (Table("trash", indexes=("object",), each="objects", columns=_out_of_the_trash("reclaimed")),)


class DayPassed(Fact, frozen=True, tag="day-passed"):
    """The home was looked after on this day. A grace counts such days besides the clock, which can jump."""

    day: str

    tables = (Table("days", indexes=("day",)),)


class TailCut(Fact, frozen=True, tag="tail-cut"):
    """A writer found a torn tail in its chain and cut it; the bytes were kept aside."""

    writer: str
    entry: int
    bytes: int
    kept_in: str

    tables = (Table("tails", columns={"torn_writer": "writer"}),)
