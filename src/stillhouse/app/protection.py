"""What protects this home, said without a word too much: what stands below its minimum, what is overdue, what is resisted."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from stillhouse import facts
from stillhouse.app.copies import S3, device_of, open_place, overlap, root_of
from stillhouse.app.erasure import STORES, unfinished
from stillhouse.app.erasure import lacking as keys_lacking
from stillhouse.app.home import App, custodian_of
from stillhouse.app.in_place import registered
from stillhouse.app.permission import current_roster
from stillhouse.app.reach import replaceability_of
from stillhouse.app.references import dead_nodes
from stillhouse.app.vault import DATASET, SNAPSHOT
from stillhouse.custody.minimums import Short, Standing, below
from stillhouse.custody.probe import Line, probe_bucket, probe_folder
from stillhouse.custody.replaceability import Class
from stillhouse.errors import MissingExtra, StorageError
from stillhouse.identity.chain import one_may_delete
from stillhouse.ledger import custody, queries
from stillhouse.ledger.projection import tables
from stillhouse.settings.home import Copy
from stillhouse.vault.files import identity
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.sealing import seal_of

DRILL, SCRUB, EXAMINE = "drill", "scrub", "examine"
# Days between. A drill a day costs seconds; a sample a week finds a copy that went bad before the next backup relies on it.
_EVERY = {DRILL: 1.0, SCRUB: 7.0, EXAMINE: 7.0}
_SHOWN = 8
# Up to so many objects are looked for one by one in a copy, which is quicker than listing a large one; so many are read there.
_FEW, _READ = 1000, 16
# By less, the clocks of two machines may differ.
_CLOCKS_DIFFER = timedelta(minutes=5)


class Due(NamedTuple):
    """Something that is overdue, for the vault (``copy`` is empty), a copy of it, or what is registered in place by that name."""

    act: str
    copy: str

    def __str__(self) -> str:
        return f"{self.act} {self.copy or 'the vault'}"


class Protection(NamedTuple):
    """What `status` says of protection."""

    lines: tuple[str, ...]
    below: list[dict[str, Any]]
    overdue: list[str]
    copies: list[dict[str, Any]]


def standings(app: App) -> list[Standing]:
    """How every dataset version and every snapshot stands, by what was last seen of the copies."""
    places, where = whole_copies(app), custody.positions(app.ledger)
    drilled = {one.subject: one.at for one in custody.drills(app.ledger) if not one.problem}
    for one in custody.snapshots(app.ledger):  # what was tried with a copy of a thing was tried with the thing
        node = f"{SNAPSHOT}{one.snapshot}"
        if one.subject and node in drilled:
            drilled[one.subject] = drilled[node]
    found = []
    for node in kept_since(app):
        holding = [copy for copy in places if custody.has(copy, where[node])]
        domains = other_domains(app, holding)
        last = drilled.get(node)
        kind = replaceability_of(app, (node,)).kind
        found.append(Standing(node, kind, 1 + len(holding), len(domains), days_since(last) if last else None))
    return found


def whole_copies(app: App) -> list[facts.CopyMade]:
    """The newest backup to each place that is whole as far as anybody knows.

    Two names of one place are one copy; a place within this home, or within another copy, is none; one of which nothing was
    read again since is none, nor one whose newest scrub found damage, until it is mended.
    """
    scrubbed = {one.copy: one for one in custody.scrubs(app.ledger)}
    settings = {copy.name: copy for copy in app.settings.copies}
    found: dict[object, facts.CopyMade] = {}
    for one in custody.copies(app.ledger).values():
        known = settings.get(one.copy) or Copy(one.copy, one.place)
        scrub = scrubbed.get(one.copy)
        looked_at = one.added + one.sampled > 0 or scrub is not None
        if looked_at and is_clean(scrub) and not overlap(app.settings, known):
            found[root_of(known)] = one
    return list(found.values())


def copies_with(app: App, nodes: Sequence[str], objects: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which copies have all that these nodes need, and which could not be looked at.

    The log says which may have it; then each place is looked at, and some of the objects are read there: that a copy was made is
    a claim that nobody signed.
    """
    where, settings = custody.positions(app.ledger), {copy.name: copy for copy in app.settings.copies}
    having, unseen = [], []
    for copy in whole_copies(app) if nodes else ():
        if not all(custody.has(copy, where[node]) for node in nodes):
            continue
        try:
            place = open_place(settings.get(copy.copy) or Copy(copy.copy, copy.place)).objects
            there = place.exists if len(objects) <= _FEW else set(place.list()).__contains__
            if all(map(there, objects)) and all(map(place.is_whole, objects[:: max(1, len(objects) // _READ)])):
                having.append(copy.copy)
        except (StorageError, MissingExtra):
            unseen.append(copy.copy)
    return having, unseen


def other_domains(app: App, holding: Sequence[facts.CopyMade]) -> set[str]:
    """The administrators of copies besides this home's. Copies on one device are one domain, whoever is said to have them; what
    is on this home's own device is in none.
    """
    by_device: dict[object, str] = {}
    home = app.settings.home
    own = {found[0] for place in (home, app.settings.objects) if (found := identity(place))}
    for copy in holding:
        device = device_of(copy.place)
        if copy.domain and device not in own:
            by_device.setdefault(copy.place if device is None else device, copy.domain)
    return set(by_device.values())


def is_clean(scrub: facts.Scrubbed | None) -> bool:
    """Did a scrub leave nothing bad? One that never was found nothing."""
    return scrub is None or not set(scrub.bad) - set(scrub.repaired)


def due(app: App) -> list[Due]:
    """What `tick` would do now besides marking the day: drills of the vault and of each copy, a scrub of a sample of each, and a
    comparison with a sample of what is registered in place.
    """
    examined = custody.examinations(app.ledger)
    in_place = [
        Due(EXAMINE, one.name)
        for one in registered(app)
        if _is_due(examined[one.manifest].at if one.manifest in examined else one.at, 0, _EVERY[EXAMINE])
    ]
    if not kept_since(app):
        return in_place
    done = {
        DRILL: {one.copy: one.at for one in custody.drills(app.ledger) if not one.problem},
        SCRUB: {one.copy: one.at for one in custody.scrubs(app.ledger) if is_clean(one)},
    }
    names = ["", *custody.copies(app.ledger)]
    marked = {
        DRILL: custody.days_after(app.ledger, tables.drills, "copy"),
        SCRUB: custody.days_after(app.ledger, tables.scrubs, "copy"),
    }
    overdue = [
        Due(act, name)
        for act in done
        for name in names
        if _is_due(done[act].get(name), len(marked[act].get(name, ())), _EVERY[act])
    ]
    return overdue + in_place


def _is_due(at: str | None, marked: int, every: float) -> bool:
    """By the clock, or by the days that were marked since: a clock that was ahead once puts nothing off."""
    ahead = at is not None and datetime.fromisoformat(at) > datetime.now(UTC) + _CLOCKS_DIFFER
    return ahead or days_since(at) >= every or marked > every


def kept_since(app: App) -> dict[str, str]:
    """Every dataset version and snapshot that is kept, and since when, by the view: nothing is collected by this."""
    dead = dead_nodes(app, custody.mentions(app.ledger))
    kept = {f"{DATASET}{one.label}": one.made for one in queries.datasets(app.ledger)}
    kept |= {f"{SNAPSHOT}{one.snapshot}": one.at for one in custody.snapshots(app.ledger)}
    return {node: at for node, at in kept.items() if node not in dead}


def days_since(at: str | None) -> float:
    """Days since a moment; without end where there was none."""
    return seconds_since(at) / 86400 if at else float("inf")


def seconds_since(at: str) -> float:
    """Seconds since a moment."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())


def advisory(app: App) -> tuple[str, ...]:
    """What two persons' consent does not keep from happening here, in words."""
    if app.settings.custodian is not None:
        if not one_may_delete(current_roster(app.ledger, app.settings)):
            return ()
        return (
            "the custodian asks for as many signatures as the roster does, and that is one: one program that holds that key "
            "deletes (to the trash) without asking anybody",
        )
    return (
        "a deletion is a plan that two persons agree to: whoever may write in "
        f"{app.settings.objects} can delete there without one (`vault protect custodian` changes that)",
    )


def _mechanisms(app: App) -> list[str]:
    """What keeps the folder of this vault, in a line each."""
    settings = app.settings
    lines = []
    sealed = seal_of(settings.objects)
    if sealed is not None:
        lines.append(f"sealed       by {sealed}: `vault probe` says what that resists")
    custodian = custodian_of(settings)
    if custodian is not None:
        try:
            said = custodian.attend()
        except StorageError as failure:
            said = str(failure)
        lines.append(f"custodian    {settings.custodian}: {said or 'answers, and follows the log'}")
    return [*lines, *(f"ADVISORY     {line}" for line in advisory(app))]


def _in_place(app: App) -> list[str]:
    """A line for each registration, and what was last seen of it."""
    lines = []
    examined = custody.examinations(app.ledger)
    for one in registered(app):
        seen = examined.get(one.manifest)
        what = f"compared {seen.at[:10]}: {seen.changes} changes, {seen.new} new" if seen else "not compared since"
        word = "CHANGED     " if seen and seen.changes else "in place    "
        lines.append(f"{word} {one.name}: {one.source}, {one.files} files, {what}; nothing here keeps it")
    return lines


def _not_counted(app: App, copy: Copy) -> str:
    """Why a copy is none, or is not one of another domain; empty where it is both."""
    problem = overlap(app.settings, copy)
    if problem:
        return f"NO COPY      {copy.name} {problem}: it does not count"
    for other in app.settings.copies:
        if other.name < copy.name and root_of(other) == root_of(copy):
            return f"NO COPY      {copy.name} is the same place as {other.name}: they count as one"
        if (
            other.name < copy.name
            and device_of(copy.place) is not None
            and device_of(other.place) == device_of(copy.place)
        ):
            return f"SAME DISK    {copy.name} is on the disk of {other.name}: they are one domain"
    if not copy.place.startswith(S3) and device_of(copy.place) == device_of(str(app.settings.home)):
        return f"SAME DISK    {copy.name} is on the disk of this home"
    known = custody.copies(app.ledger).get(copy.name)
    if known is not None and known.copy not in {one.copy for one in whole_copies(app)}:
        return f"NOT COUNTED  {copy.name}: nothing in it was read again since its backup (`vault scrub --copy {copy.name}`)"
    return ""


def protection_of(app: App) -> Protection:
    """What is below its minimum, what is overdue, where copies are. What was not seen is not said."""
    keys = [
        Short(f"key of {source}", Class.IRREPLACEABLE, (f"{count} of {STORES} key stores",))
        for source, count in keys_lacking(app).items()
    ]
    lacking, overdue = [*keys, *below(standings(app))], due(app)
    copies = [one.shown() for one in custody.copies(app.ledger).values()]
    others = other_domains(app, whole_copies(app))
    named = [f"{one['copy']} ({one['domain'] or 'administered here'}; {one['at']})" for one in copies]
    lines = [f"copies       {', '.join(named) or 'none'}"]
    if not copies:
        who = (
            "root, or who becomes the custodian's user,"
            if app.settings.custodian
            else "whoever can write to this folder"
        )
        lines.append(f"protection   one copy, in one place: {who} can remove everything in it")
    elif not others:
        lines.append(
            "protection   the copies have the administrator of this home, or its disk: who has its rights can remove them all"
        )
    else:
        lines.append(
            f"protection   copies with {', '.join(sorted(others))}, as config.toml says; `vault probe` says what they resist"
        )
    lines += [*_mechanisms(app), *_in_place(app)]
    lines += [
        f"UNERASED     {one.source}: its key is not known to be destroyed; `stillhouse tick` does it"
        for one in unfinished(app)
    ]
    lines += [line for copy in app.settings.copies if (line := _not_counted(app, copy))]
    lines += [f"BELOW        {one.subject[:40]} ({one.kind}): {'; '.join(one.lacks)}" for one in lacking[:_SHOWN]]
    if len(lacking) > _SHOWN:
        lines.append(f"BELOW        and {len(lacking) - _SHOWN} more")
    if overdue:
        lines.append(
            f"OVERDUE      {', '.join(str(one) for one in overdue)}: run `stillhouse tick`, from cron or a timer"
        )
    return Protection(tuple(lines), [one._asdict() for one in lacking], [str(one) for one in overdue], copies)


def probe(app: App) -> list[Line]:
    """What the vault here, and each of its copies, resists. A copy that cannot be reached is told as one that resists nothing."""
    lines = probe_folder(str(app.settings.home), app.settings.objects)
    for copy in app.settings.copies:
        where = f"{copy.name}: {copy.place}"
        try:
            store = open_place(copy).store
            if isinstance(store, LocalBackend):
                lines += probe_folder(where, store.root)
            else:
                from stillhouse.vault.s3 import S3Backend

                assert isinstance(store, S3Backend)
                lines += probe_bucket(where, store)
        except StorageError as failure:
            lines.append(Line(where, "anybody", (f"NONE: {failure}",), (), ("it cannot be reached",), "tried"))
    return lines
