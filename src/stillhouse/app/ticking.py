"""What is due, done; and what protects this home, said without a word too much."""

from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from stillhouse.app.copies import S3, find_copy, renew_locks, scrub
from stillhouse.app.drills import SCRUB_SAMPLE, drill, due, short
from stillhouse.app.home import App
from stillhouse.app.trash import mark_day
from stillhouse.errors import IntegrityError, NothingToDrill, StillhouseError
from stillhouse.ledger import custody
from stillhouse.settings.home import Copy

# A lock that ends sooner than this will end before somebody has noticed and acted.
_ALARM_DAYS = 10
_SHOWN = 8


class Done(NamedTuple):
    """What a tick did, for programs and for people, and what somebody must look at."""

    value: dict[str, Any]
    lines: tuple[str, ...]
    alarms: tuple[str, ...]
    exit_code: int


class Protection(NamedTuple):
    """What `status` says of protection."""

    lines: tuple[str, ...]
    below: list[dict[str, Any]]
    overdue: list[str]
    copies: list[dict[str, Any]]


class _Quiet:
    """Progress that nobody watches."""

    def start(self, stage: str, total: int) -> None:
        """Say nothing."""

    def update(self, done: int, message: str = "", state: dict[str, Any] | None = None) -> None:
        """Say nothing."""

    def say(self, message: str) -> None:
        """Say nothing."""

    def finish(self, message: str = "") -> None:
        """Say nothing."""


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
    did = due(app)
    for one in did:
        act, _, name = one.partition(" ")
        attempt(one.strip(), partial(_drill if act == "drill" else _scrub, app, name))
    for copy in app.settings.copies:
        if copy.lock_days:
            attempt(f"locks of {copy.name}", partial(_locks, app, copy))
    written = app.checkpoint()
    place = str(app.settings.checkpoints) if written else None
    if place:
        lines.append(f"checkpoint written to {place}")
    value = {"checkpoint": place, "did": did, "alarms": alarms}
    return Done(value, tuple(lines) or ("nothing is due",), tuple(alarms), max(codes, default=0))


def _drill(app: App, copy: str) -> str:
    done = drill(app, "", copy, whole=False)
    if done.problem:
        raise IntegrityError(done.problem)
    return f"{done.files} files came back in {done.seconds} s"


def _scrub(app: App, name: str) -> str:
    copy = find_copy(app.settings, name) if name else None
    found = scrub(app, copy, SCRUB_SAMPLE, "", _Quiet())
    if found.bad:
        raise IntegrityError(found.bad[0][1])
    return f"{found.read} of {found.objects} objects read, none bad"


def _locks(app: App, copy: Copy) -> str:
    ends = renew_locks(app, copy)
    left = _days_until(app.today, ends) if ends else 0
    if left < min(_ALARM_DAYS, copy.lock_days - 1):
        raise IntegrityError(f"a lock ends in {left} days, and was not renewed")
    return f"renewed, the first ends on {ends}"


def _same_disk(app: App, copy: Copy) -> bool:
    place = Path(copy.place)
    return not copy.place.startswith(S3) and place.exists() and place.stat().st_dev == app.settings.home.stat().st_dev


def _days_until(today: str, day: str) -> int:
    return (date.fromisoformat(day) - date.fromisoformat(today)).days


def protection_of(app: App) -> Protection:
    """What is below its minimum, what is overdue, where copies are. What was not seen is not said."""
    lacking, overdue = short(app), due(app)
    copies = [one._asdict() for one in custody.copies(app.ledger).values()]
    others = {one["domain"] for one in copies if one["domain"]}
    named = [f"{one['copy']} ({one['domain'] or 'administered here'}; {one['at']})" for one in copies]
    lines = [f"copies       {', '.join(named) or 'none'}"]
    if not copies:
        lines.append(
            "protection   one copy, in one place: whoever can write to this folder can remove everything in it"
        )
    elif not others:
        lines.append(
            "protection   the copies have the administrator of this home: who has its rights can remove them all"
        )
    else:
        lines.append(
            f"protection   copies with {', '.join(sorted(others))}, as config.toml says; `vault probe` says what they resist"
        )
    lines += [
        f"SAME DISK    {copy.name} is on the disk of this home" for copy in app.settings.copies if _same_disk(app, copy)
    ]
    lines += [f"BELOW        {one.subject[:40]} ({one.kind}): {'; '.join(one.lacks)}" for one in lacking[:_SHOWN]]
    if len(lacking) > _SHOWN:
        lines.append(f"BELOW        and {len(lacking) - _SHOWN} more")
    if overdue:
        lines.append(
            f"OVERDUE      {', '.join(one.strip() for one in overdue)}: run `stillhouse tick`, from cron or a timer"
        )
    return Protection(tuple(lines), [one._asdict() for one in lacking], overdue, copies)
