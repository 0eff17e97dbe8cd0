"""What is due, done."""

import os
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any, NamedTuple

from stillhouse.app.copies import find_copy, renew_locks
from stillhouse.app.drills import drill_sample
from stillhouse.app.erasure import finish, lacking, spread, unfinished
from stillhouse.app.home import App
from stillhouse.app.in_place import examine
from stillhouse.app.progress import Silence
from stillhouse.app.protection import DRILL, EXAMINE, SCRUB, due
from stillhouse.app.scrub import scrub
from stillhouse.app.trash import mark_day
from stillhouse.errors import IntegrityError, NothingToDrill, StillhouseError
from stillhouse.settings.home import Copy
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


def tick(app: App) -> Done:
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

    mark_day(app)
    if unfinished(app):
        attempt("erasures", lambda: f"the keys of {', '.join(finish(app))} are destroyed")
    if lacking(app):
        attempt("keys", lambda: f"{spread(app)} keys copied to stores that lacked them")
    sealed = seal_of(app.settings.objects)
    if sealed is not None and app.settings.objects.stat().st_uid == os.geteuid():  # root's cron seals what is others'
        attempt("seal", lambda: f"{seal(app.settings.objects, sealed)} objects, by {sealed}")
    did = due(app)
    for one in did:
        attempt(str(one), partial(_ACTS[one.act], app, one.copy))
    for copy in app.settings.copies:
        if copy.lock_days:
            attempt(f"locks of {copy.name}", partial(_locks, app, copy))
    written = app.checkpoint()
    place = str(app.settings.checkpoints) if written else None
    if place:
        lines.append(f"checkpoint written to {place}")
    value = {"checkpoint": place, "did": [str(one) for one in did], "alarms": alarms}
    return Done(value, tuple(lines) or ("nothing is due",), tuple(alarms), max(codes, default=0))


def _drill(app: App, copy: str) -> str:
    done = drill_sample(app, "", copy)
    if done.problem:
        raise IntegrityError(done.problem)
    return f"{done.files} files came back in {done.seconds} s"


def _scrub(app: App, name: str) -> str:
    copy = find_copy(app.settings, name) if name else None
    found = scrub(app, copy, _SAMPLE, "", Silence())
    if found.bad:
        raise IntegrityError(found.bad[0].problem)
    return f"{found.read} of {found.objects} objects read, none bad"


def _examine(app: App, name: str) -> str:
    found = examine(app, name, _SAMPLE, Silence())
    if found.changes:
        first = found.changes[0]
        raise IntegrityError(f"{len(found.changes)} things are not as they were registered: {first.path} {first.what}")
    return f"{found.files} files are as they were registered, {found.read} of them by their bytes; {len(found.new)} are new"


_ACTS = {DRILL: _drill, SCRUB: _scrub, EXAMINE: _examine}


def _locks(app: App, copy: Copy) -> str:
    ends = renew_locks(app, copy)
    left = _days_until(app.today, ends) if ends else 0
    if left < min(_ALARM_DAYS, copy.lock_days - 1):
        raise IntegrityError(f"a lock ends in {left} days, and was not renewed")
    return f"renewed, the first ends on {ends}"


def _days_until(today: str, day: str) -> int:
    return (date.fromisoformat(day) - date.fromisoformat(today)).days
