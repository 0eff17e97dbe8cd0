"""What protects this home, said without a word too much: what stands below its minimum, what is overdue, what is resisted."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from stillhouse.clock import days_since, utc_now
from stillhouse.custody.copies.copy_records import is_clean, kept_since, other_domains, whole_copies
from stillhouse.custody.copies.home_snapshots import SNAPSHOT
from stillhouse.custody.copies.places import S3, device_of, open_place, overlap, root_of
from stillhouse.custody.copies.resistance import Resistance, probe_bucket, probe_folder
from stillhouse.custody.deletion.deletion_impact import replaceability_of
from stillhouse.custody.protection.minimums import CustodyStanding, Short, below
from stillhouse.custody.registered_data import registered
from stillhouse.custody.replaceability import Class
from stillhouse.errors import StorageError
from stillhouse.home.current_permission import current_roster
from stillhouse.home.erasable_sources import STORES, unfinished
from stillhouse.home.erasable_sources import lacking as keys_lacking
from stillhouse.home.ledger import custody_queries
from stillhouse.home.ledger.projection import tables
from stillhouse.home.open_home import Home, custodian_of
from stillhouse.home.settings import Copy
from stillhouse.permission.chain import one_may_delete
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.sealing import seal_of

DRILL, SCRUB, EXAMINE = "drill", "scrub", "examine"
# Days between. A drill a day costs seconds; a sample a week finds a copy that went bad before the next backup relies on it.
_EVERY = {DRILL: 1.0, SCRUB: 7.0, EXAMINE: 7.0}
_SHOWN = 8
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


def standings(home: Home) -> list[CustodyStanding]:
    """How every dataset version and every snapshot stands, by what was last seen of the copies."""
    places, where = whole_copies(home), custody_queries.positions(home.ledger)
    drilled = {one.subject: one.at for one in custody_queries.drills(home.ledger) if not one.problem}
    for one in custody_queries.snapshots(home.ledger):  # what was tried with a copy of a thing was tried with the thing
        node = f"{SNAPSHOT}{one.snapshot}"
        if one.subject and node in drilled:
            drilled[one.subject] = drilled[node]
    found = []
    for node in kept_since(home):
        holding = [copy for copy in places if custody_queries.has(copy, where[node])]
        domains = other_domains(home, holding)
        last = drilled.get(node)
        kind = replaceability_of(home, (node,)).kind
        found.append(CustodyStanding(node, kind, 1 + len(holding), len(domains), days_since(last) if last else None))
    return found


def due(home: Home) -> list[Due]:
    """What `tick` would do now besides marking the day: drills of the vault and of each copy, a scrub of a sample of each, and a
    comparison with a sample of what is registered in place.
    """
    examined = custody_queries.examinations(home.ledger)
    in_place = [
        Due(EXAMINE, one.name)
        for one in registered(home)
        if _is_due(examined[one.manifest].at if one.manifest in examined else one.at, 0, _EVERY[EXAMINE])
    ]
    if not kept_since(home):
        return in_place
    done = {
        DRILL: {one.copy: one.at for one in custody_queries.drills(home.ledger) if not one.problem},
        SCRUB: {one.copy: one.at for one in custody_queries.scrubs(home.ledger) if is_clean(one)},
    }
    names = ["", *custody_queries.copies(home.ledger)]
    marked = {
        DRILL: custody_queries.days_after(home.ledger, tables.drills, "copy"),
        SCRUB: custody_queries.days_after(home.ledger, tables.scrubs, "copy"),
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
    ahead = at is not None and datetime.fromisoformat(at) > utc_now() + _CLOCKS_DIFFER
    return ahead or days_since(at) >= every or marked > every


def advisory(home: Home) -> tuple[str, ...]:
    """What two persons' consent does not keep from happening here, in words."""
    if home.settings.custodian is not None:
        if not one_may_delete(current_roster(home.ledger, home.settings)):
            return ()
        return (
            "the custodian asks for as many signatures as the roster does, and that is one: one program that holds that key "
            "deletes (to the trash) without asking anybody",
        )
    return (
        "a deletion is a plan that two persons approve: anyone who can write in "
        f"{home.settings.objects} can delete there without one (`vault protect custodian` changes that)",
    )


def _mechanisms(home: Home) -> list[str]:
    """What keeps the folder of this vault, in a line each."""
    settings = home.settings
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
    return [*lines, *(f"ADVISORY     {line}" for line in advisory(home))]


def _in_place(home: Home) -> list[str]:
    """A line for each registration, and what was last seen of it."""
    lines = []
    examined = custody_queries.examinations(home.ledger)
    for one in registered(home):
        seen = examined.get(one.manifest)
        what = f"compared {seen.at[:10]}: {seen.changes} changes, {seen.new} new" if seen else "not compared since"
        word = "CHANGED     " if seen and seen.changes else "in place    "
        lines.append(f"{word} {one.name}: {one.source}, {one.files} files, {what}; nothing here keeps it")
    return lines


def _not_counted(home: Home, copy: Copy) -> str:
    """Why a copy is none, or is not one of another domain; empty where it is both."""
    problem = overlap(home.settings, copy)
    if problem:
        return f"NO COPY      {copy.name} {problem}: it does not count"
    for other in home.settings.copies:
        if other.name < copy.name and root_of(other) == root_of(copy):
            return f"NO COPY      {copy.name} is the same place as {other.name}: they count as one"
        if (
            other.name < copy.name
            and device_of(copy.place) is not None
            and device_of(other.place) == device_of(copy.place)
        ):
            return f"SAME DISK    {copy.name} is on the disk of {other.name}: they are one domain"
    if not copy.place.startswith(S3) and device_of(copy.place) == device_of(str(home.folder)):
        return f"SAME DISK    {copy.name} is on the disk of this home"
    known = custody_queries.copies(home.ledger).get(copy.name)
    if known is not None and known.copy not in {one.copy for one in whole_copies(home)}:
        return f"NOT COUNTED  {copy.name}: nothing in it was read again since its backup (`vault scrub --copy {copy.name}`)"
    return ""


def protection_of(home: Home) -> Protection:
    """What is below its minimum, what is overdue, where copies are. What was not seen is not said."""
    keys = [
        Short(f"key of {source}", Class.IRREPLACEABLE, (f"{count} of {STORES} key stores",))
        for source, count in keys_lacking(home).items()
    ]
    lacking, overdue = [*keys, *below(standings(home))], due(home)
    copies = [one.shown() for one in custody_queries.copies(home.ledger).values()]
    others = other_domains(home, whole_copies(home))
    named = [f"{one['copy']} ({one['domain'] or 'administered here'}; {one['at']})" for one in copies]
    lines = [f"copies       {', '.join(named) or 'none'}"]
    if not copies:
        who = (
            "root, or who becomes the custodian's user,"
            if home.settings.custodian
            else "anyone who can write to this folder"
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
    lines += [*_mechanisms(home), *_in_place(home)]
    lines += [
        f"UNERASED     {one.source}: its key is not known to be destroyed; `stillhouse tick` does it"
        for one in unfinished(home)
    ]
    lines += [line for copy in home.settings.copies if (line := _not_counted(home, copy))]
    lines += [f"BELOW        {one.subject[:40]} ({one.kind}): {'; '.join(one.lacks)}" for one in lacking[:_SHOWN]]
    if len(lacking) > _SHOWN:
        lines.append(f"BELOW        and {len(lacking) - _SHOWN} more")
    if overdue:
        lines.append(
            f"OVERDUE      {', '.join(str(one) for one in overdue)}: run `stillhouse tick`, from cron or a timer"
        )
    return Protection(tuple(lines), [one._asdict() for one in lacking], [str(one) for one in overdue], copies)


def probe(home: Home) -> list[Resistance]:
    """What the vault here, and each of its copies, resists. A copy that cannot be reached is told as one that resists nothing."""
    lines = probe_folder(str(home.folder), home.settings.objects)
    for copy in home.settings.copies:
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
            lines.append(Resistance(where, "anybody", (f"NONE: {failure}",), (), ("it cannot be reached",), "tried"))
    return lines
