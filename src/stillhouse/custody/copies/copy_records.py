"""What is known of copies: which are whole, what they hold, whose they are; and what is kept here for them to hold."""

from collections.abc import Sequence

from stillhouse.custody.copies.home_snapshots import DATASET, SNAPSHOT
from stillhouse.custody.copies.places import device_of, open_place, overlap, root_of
from stillhouse.custody.named_objects import dead_nodes
from stillhouse.errors import MissingExtra, StorageError
from stillhouse.home import facts
from stillhouse.home.ledger import custody_queries, dataset_queries
from stillhouse.home.open_home import Home
from stillhouse.home.settings import Copy
from stillhouse.vault.files import identity

# Up to so many objects are looked for one by one in a copy, which is quicker than listing a large one; so many are read there.
_FEW, _READ = 1000, 16


def whole_copies(home: Home) -> list[facts.CopyMade]:
    """The newest backup to each place that is whole as far as anybody knows.

    Two names of one place are one copy; a place within this home, or within another copy, is none; one of which nothing was
    read again since is none, nor one whose newest scrub found damage, until it is mended.
    """
    scrubbed = {one.copy: one for one in custody_queries.scrubs(home.ledger)}
    settings = {copy.name: copy for copy in home.settings.copies}
    found: dict[object, facts.CopyMade] = {}
    for one in custody_queries.copies(home.ledger).values():
        known = settings.get(one.copy) or Copy(one.copy, one.place)
        scrub = scrubbed.get(one.copy)
        looked_at = one.added + one.sampled > 0 or scrub is not None
        if looked_at and is_clean(scrub) and not overlap(home.settings, known):
            found[root_of(known)] = one
    return list(found.values())


def copies_with(home: Home, nodes: Sequence[str], objects: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which copies have all that these nodes need, and which could not be looked at.

    The log says which may have it; then each place is looked at, and some of the objects are read there: that a copy was made is
    a claim that nobody signed.
    """
    where, settings = custody_queries.positions(home.ledger), {copy.name: copy for copy in home.settings.copies}
    having, unseen = [], []
    for copy in whole_copies(home) if nodes else ():
        if not all(custody_queries.has(copy, where[node]) for node in nodes):
            continue
        try:
            place = open_place(settings.get(copy.copy) or Copy(copy.copy, copy.place)).objects
            there = place.exists if len(objects) <= _FEW else set(place.list()).__contains__
            if all(map(there, objects)) and all(map(place.is_whole, objects[:: max(1, len(objects) // _READ)])):
                having.append(copy.copy)
        except (StorageError, MissingExtra):
            unseen.append(copy.copy)
    return having, unseen


def other_domains(home: Home, holding: Sequence[facts.CopyMade]) -> set[str]:
    """The administrators of copies besides this home's. Copies on one device are one domain, whoever is said to have them; what
    is on this home's own device is in none.
    """
    by_device: dict[object, str] = {}
    folder = home.folder
    own = {found[0] for place in (folder, home.settings.objects) if (found := identity(place))}
    for copy in holding:
        device = device_of(copy.place)
        if copy.domain and device not in own:
            by_device.setdefault(copy.place if device is None else device, copy.domain)
    return set(by_device.values())


def is_clean(scrub: facts.Scrubbed | None) -> bool:
    """Did a scrub leave nothing bad? One that never was found nothing."""
    return scrub is None or not set(scrub.bad) - set(scrub.repaired)


def kept_since(home: Home) -> dict[str, str]:
    """Every dataset version and snapshot that is kept, and since when, by the view: nothing is collected by this."""
    dead = dead_nodes(home, custody_queries.mentions(home.ledger))
    kept = {f"{DATASET}{one.label}": one.made for one in dataset_queries.datasets(home.ledger)}
    kept |= {f"{SNAPSHOT}{one.snapshot}": one.at for one in custody_queries.snapshots(home.ledger)}
    return {node: at for node, at in kept.items() if node not in dead}
