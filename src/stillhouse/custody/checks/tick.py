"""What is due, done."""

import os
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any, NamedTuple

from stillhouse.custody.checks.drills import drill_sample
from stillhouse.custody.checks.scrub import scrub
from stillhouse.custody.copies.places import find_copy, renew_locks
from stillhouse.custody.deletion.trash import mark_day
from stillhouse.custody.protection.protection_status import DRILL, EXAMINE, SCRUB, due
from stillhouse.custody.registered_data import examine
from stillhouse.errors import IntegrityError, NothingToDrill, StillhouseError
from stillhouse.home.erasable_sources import finish, lacking, spread, unfinished
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Silence
from stillhouse.home.settings import Copy
from stillhouse.vault.sealing import seal, seal_of

# A lock that ends sooner than this will end before somebody has noticed and acted.
_ALARM_DAYS = 10
# Of a hundred objects at random none bad: with 99 % confidence fewer than 4.5 % are.
_SAMPLE = 100


class Done(NamedTuple):
    """What a tick did, for programs and for people, and what somebody must look at."""

    value: dict[str, Any]
    lines: tuple[str, ...]
    alarms: tuple[str, ...]
    exit_code: int


def tick(home: Home) -> Done:
    """Do all that is due. What fails is an alarm, and what comes after it is done all the same."""
    lines: list[str] = []
    alarms: list[str] = []
    codes: list[int] = []

    def attempt(what: str, act: Callable[[], str]) -> None:
        try:
            lines.append(f"{what}: {act()}")
        except NothingToDrill:
            return
        except StillhouseError as failure:
            alarms.append(f"{what}: {failure}")
            codes.append(failure.exit_code)

    mark_day(home)
    if unfinished(home):
        attempt("erasures", lambda: f"the keys of {', '.join(finish(home))} are destroyed")
    if lacking(home):
        attempt("keys", lambda: f"{spread(home)} keys copied to stores that lacked them")
    sealed = seal_of(home.settings.objects)
    if sealed is not None and home.settings.objects.stat().st_uid == os.geteuid():  # root's cron seals what is others'
        attempt("seal", lambda: f"{seal(home.settings.objects, sealed)} objects, by {sealed}")
    did = due(home)
    for one in did:
        attempt(str(one), partial(_ACTS[one.act], home, one.copy))
    for copy in home.settings.copies:
        if copy.lock_days:
            attempt(f"locks of {copy.name}", partial(_locks, home, copy))
    written = home.checkpoint()
    place = str(home.settings.checkpoints) if written else None
    if place:
        lines.append(f"checkpoint written to {place}")
    value = {"checkpoint": place, "did": [str(one) for one in did], "alarms": alarms}
    return Done(value, tuple(lines) or ("nothing is due",), tuple(alarms), max(codes, default=0))


def _drill(home: Home, copy: str) -> str:
    done = drill_sample(home, "", copy)
    if done.problem:
        raise IntegrityError(done.problem)
    return f"{done.files} files came back in {done.seconds} s"


def _scrub(home: Home, name: str) -> str:
    copy = find_copy(home.settings, name) if name else None
    found = scrub(home, copy, _SAMPLE, "", Silence())
    if found.bad:
        raise IntegrityError(found.bad[0].problem)
    return f"{found.read} of {found.objects} objects read, none bad"


def _examine(home: Home, name: str) -> str:
    found = examine(home, name, _SAMPLE, Silence())
    if found.changes:
        first = found.changes[0]
        raise IntegrityError(f"{len(found.changes)} things are not as they were registered: {first.path} {first.what}")
    return f"{found.files} files are as they were registered, {found.read} of them by their bytes; {len(found.new)} are new"


_ACTS = {DRILL: _drill, SCRUB: _scrub, EXAMINE: _examine}


def _locks(home: Home, copy: Copy) -> str:
    ends = renew_locks(home, copy)
    left = _days_until(home.today, ends) if ends else 0
    if left < min(_ALARM_DAYS, copy.lock_days - 1):
        raise IntegrityError(f"a lock ends in {left} days, and was not renewed")
    return f"renewed, the first ends on {ends}"


def _days_until(today: str, day: str) -> int:
    return (date.fromisoformat(day) - date.fromisoformat(today)).days
