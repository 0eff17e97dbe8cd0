"""The custodian of a vault: what it knows, and what it therefore allows.

Its folder is a home of its own that follows another one: it keeps the objects, and its own copy of the log, of the public key and
of the newest act of permission. It believes nothing that the other home says about these: objects are hidden only where the log
that it has itself, checked signature by signature, says that nothing names them; they are removed only when they lay in the
trash for a month by its own clock and on a fortnight of days that it lived through itself.

Covers: whoever works in the other home, and every program there: they can neither remove nor alter objects, nor take back what
the log said, nor make a deletion count that lacks a signature. Does not cover: root; two persons who agree; one who holds the
keys of two; entries of the log of a command that still runs (half a minute of them at most); filling the disk.
"""

import os
import pwd
import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stillhouse.canon import digest_bytes
from stillhouse.clock import utc_now
from stillhouse.custody.copies.pull import follow
from stillhouse.custody.deletion.trash import GRACE, GRACE_DAYS, lived_through, may_go
from stillhouse.custody.named_objects import surely_named_objects
from stillhouse.errors import CorruptObject, HomeError
from stillhouse.home.current_permission import home_key, keep_head, load
from stillhouse.home.open_home import Home, check_home
from stillhouse.home.settings import read_settings
from stillhouse.vault.custodian import SOCKET, Custodian
from stillhouse.vault.files import storage_errors
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.locks import locked
from stillhouse.vault.log import Log
from stillhouse.vault.objects import digest_of, key_of

CHARGE = "charge.json"
_KEY = re.compile(r"blake3-[0-9a-f]{64}")
_DAYS, _DISCARDS = "days", "discards"
# What was decided counts for the objects that are asked for next; whoever names one meanwhile gets it back from the trash.
_FRESH_SECONDS = 1.0
# As long as the log can run ahead of the custodian's copy of it.
_FOLLOW_SECONDS = 30


class Charge(msgspec.Struct, frozen=True):
    """Whom a custodian serves: a home, and the users that work in it."""

    home: str
    users: tuple[int, ...]


class HomeWarden:
    """Decides by a copy of the log. Safe to use from several threads."""

    def __init__(self, home: Home, charge: Charge) -> None:
        self._home, self._store = home, LocalBackend(home.settings.objects)
        self._source = Log(Path(charge.home) / "log", home.objects)
        self._lock = threading.RLock()
        self._may_go: frozenset[str] = frozenset()
        self._decided = float("-inf")
        self._gone = (datetime.min.date(), 0)
        self._noted = self._read_discards()

    def may_put(self, key: str, data: bytes) -> str:
        """What is stored has the name of its bytes."""
        if not _KEY.fullmatch(key):
            return f"{key!r} is no name of an object."
        return "" if digest_bytes(data) == digest_of(key) else f"{key} is not the name of these bytes."

    def may_discard(self, key: str) -> str:
        """What nothing names, or what is damaged: the trash keeps both."""
        with self._lock:
            digest = digest_of(key)
            if not _KEY.fullmatch(key) or not self._home.objects.exists(digest):
                return f"There is no object {key!r}."
            if not self._home.objects.is_whole(digest):
                return ""
            refusal = self._why_it_stays(digest) or self._beyond_the_day(digest)
            if not refusal:
                self._note_discard(key)
            return refusal

    def may_reclaim(self, key: str) -> str:
        """What nothing names still, and lay in the trash for long enough."""
        with self._lock:
            try:
                since = datetime.fromtimestamp(self._store.discarded_as(key).st_ctime, UTC)
            except (KeyError, ValueError):
                return f"There is no {key!r} in the trash."
            digest = digest_of(key)
            if utc_now() - since <= GRACE or not lived_through(self._days()[self._place_of(key, since) :]):
                left = f"it stays for {GRACE.days} days, and until {GRACE_DAYS} were lived through"
                return f"{digest} is in the trash since {since:%Y-%m-%d}: {left}."
            if self._home.objects.exists(digest):
                return "" if self._home.objects.is_whole(digest) else f"{digest} is damaged where it should be whole."
            return self._why_it_stays(digest)

    def attend(self) -> str:
        """Mark the day, and follow the log; returns what is wrong, "" for nothing."""
        with self._lock:
            try:
                self._mark_day()
                self._home.ledger.catch_up(self._home.log)  # a kill may have come between taking over and this
                known = load(self._home.ledger, self._home.settings)
                acts = [act.entry for act in known.acts]
                if follow(self._home.log, self._source, acts, home_key(self._home.settings)):
                    self._may_go = frozenset()  # something may have been named
                    self._home.ledger.catch_up(self._home.log)
                    state = load(self._home.ledger, self._home.settings).state
                    if state.head:
                        keep_head(self._home.settings, state.head)
            except Exception as failure:  # whatever lies in a home that others write: here it ends nothing
                return f"The log of the home does not continue the one that I have, or cannot be read: {failure}"
            return ""

    def _mark_day(self) -> None:
        today = utc_now().date().isoformat()
        if today not in self._days():
            path = self._home.settings.home / _DAYS
            with storage_errors(f"{path} could not be written"), path.open("a", encoding="ascii") as file:
                file.write(f"{today}\n")

    def _why_it_stays(self, digest: str) -> str:
        if digest in self._may_go and time.monotonic() - self._decided < _FRESH_SECONDS:
            return ""
        problem = self.attend()
        if problem:
            return problem
        try:
            naming = surely_named_objects(self._home)
        except CorruptObject as failure:
            return f"It is not known what is named: {failure}"
        everything = {*self._home.objects.list(), *self._home.objects.discarded()}
        self._may_go = frozenset(one for one in everything if may_go(self._home, naming, one))
        self._decided = time.monotonic()
        return "" if digest in self._may_go else f"{digest} is needed, as far as the log that I have says."

    def _beyond_the_day(self, digest: str) -> str:
        """Count an object to the day's deletions, or say that it would be too much."""
        today = utc_now().date()
        if self._gone[0] != today:
            inodes = [self._store.discarded_as(key_of(one)) for one in self._home.objects.discarded()]
            before = [one.st_size for one in inodes if datetime.fromtimestamp(one.st_ctime, UTC).date() == today]
            self._gone = (today, sum(before))
        gone, most = self._gone[1] + self._home.objects.size(digest), self._home.settings.custody.delete_bytes_per_day
        if gone > most:
            return f"With {digest} this day's deletions would be {gone:,} bytes, and {most:,} are allowed."
        self._gone = (today, gone)
        return ""

    def _note_discard(self, key: str) -> None:
        """Write down how many days were lived through when this went into the trash: no clock says that later."""
        path = self._home.settings.home / _DISCARDS
        with storage_errors(f"{path} could not be written"), path.open("a", encoding="ascii") as file:
            file.write(f"{key} {len(self._days())}\n")
        self._noted[key] = len(self._days())

    def _place_of(self, key: str, since: datetime) -> int:
        """From which line of the days on it lies in the trash. What earlier versions put there goes by its file's time."""
        noted = self._noted.get(key)
        return sum(day < since.date().isoformat() for day in self._days()) if noted is None else noted

    def _read_discards(self) -> dict[str, int]:
        try:
            lines = (self._home.settings.home / _DISCARDS).read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return {}
        return {name: int(place) for name, _, place in (line.partition(" ") for line in lines)}

    def _days(self) -> list[str]:
        try:
            return (self._home.settings.home / _DAYS).read_text(encoding="ascii").split()
        except FileNotFoundError:
            return []


def serve(folder: Path, tell: Callable[[str], None]) -> None:
    """Be the custodian of a folder that ``vault protect custodian`` made, until SIGTERM or SIGINT.

    Raises HomeError, StorageError. Started by root, it becomes the folder's owner first.
    """
    check_home(folder)
    charge = _read_charge(folder)
    _become_owner(folder)
    with locked(folder / "lock", f"another custodian of {folder}"), Home(read_settings(folder, {})) as home:
        warden = HomeWarden(home, charge)
        custodian = Custodian(LocalBackend(home.settings.objects), warden, folder / SOCKET, charge.users, tell)
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        serving = threading.Thread(target=custodian.serve, daemon=True)
        serving.start()
        said = None
        tell(f"custodian of {charge.home}: {folder} as user {os.geteuid()}")
        while True:
            problem = warden.attend()
            if problem != said and (problem or said):
                tell(problem or "the log continues again")
            said = problem
            if stopping.wait(_FOLLOW_SECONDS):
                break
        custodian.close()
        serving.join()


def _read_charge(folder: Path) -> Charge:
    try:
        return msgspec.json.decode((folder / CHARGE).read_bytes(), type=Charge)
    except (OSError, msgspec.MsgspecError) as failure:
        raise HomeError(
            f"({folder} is not the folder of a custodian: {failure})",
            next_step="`stillhouse vault protect custodian` makes one.",
        ) from failure


def _become_owner(folder: Path) -> None:
    """Give up root's rights for those of the folder's owner; whoever else starts this must be that already. Raises HomeError."""
    owner = folder.stat().st_uid
    if owner == 0:
        raise HomeError(
            f"({folder} belongs to root)", next_step="`stillhouse vault protect custodian` gives it to its user."
        )
    if os.geteuid() == owner:
        return
    if os.geteuid() != 0:
        raise HomeError(
            f"({folder} belongs to user {owner}, and this is user {os.geteuid()})", next_step="Start it as that user."
        )
    group = pwd.getpwuid(owner).pw_gid
    os.setgroups([])
    os.setgid(group)
    os.setuid(owner)
