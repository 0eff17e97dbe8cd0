"""Open a home: put the parts together, and check that this version may use it."""

import contextlib
import functools
import getpass
import os
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import TracebackType

from stillhouse.clock import now
from stillhouse.engine.choice import open_engine
from stillhouse.engine.engine import Engine
from stillhouse.errors import CustodianAway, HomeMissing, HomeNewer, StorageError
from stillhouse.home.change_marker import ChangeMarker
from stillhouse.home.current_permission import load_policy, own_signatory
from stillhouse.home.doors import Doors
from stillhouse.home.ledger.building import Reached
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.model_files import Places
from stillhouse.home.plans.prices import parse_usd
from stillhouse.home.progress import Progress, Silence
from stillhouse.home.recorder import Recorder
from stillhouse.home.settings import CONFIG, DEFAULT_CONFIG, Settings
from stillhouse.permission.decide import Policy
from stillhouse.vault.checkpoints import save_checkpoint
from stillhouse.vault.custodian import SOCKET, CustodianBackend
from stillhouse.vault.files import storage_errors, write_whole
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.locks import locked
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects

HOME_VERSION = 1
# A view of so many entries takes more than a second to build.
_TOLD_OF = 20_000
# Made by `vault pull`: the number of the first chain that is this home's own.
FOLLOWS = "follows"


class Home:
    """A home, opened. Close it, or use it as a context manager: closing makes everything durable."""

    def __init__(self, settings: Settings) -> None:
        """Open without looking at the log: that is what ``doctor`` needs, and ``open_home`` adds for everybody else.

        Raises HomeMissing, HomeNewer, LedgerUnavailable.
        """
        check_home(settings.home)
        self.settings = settings
        self.objects = open_objects(settings)
        self.log = Log(settings.home / "log", self.objects, first_writer=first_writer(settings.home))
        # Processes of an older version must notice another view before they buy anything.
        self.ledger = Ledger(settings.ledger_url, self.marker.mark, self.objects, self.cache / "rows")
        self.recorder = Recorder(
            self.log,
            self.ledger,
            by=_who(),
            signatory=lambda: own_signatory(self.ledger, settings).ready().sign,
            durability=settings.durability,
        )
        self.doors = Doors(self.recorder, Policy(settings.organisation))

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.settings.home

    @property
    def cache(self) -> Path:
        """What can be made again: unpacked weights, probes."""
        return self.settings.home / "cache"

    @functools.cached_property
    def engine(self) -> Engine:
        """Where work on rows is done. Raises MissingExtra."""
        return open_engine(self.settings.engine)

    @property
    def places(self) -> Places:
        """Where models and their trainings are."""
        return Places(self.settings.home, self.cache)

    @property
    def reports(self) -> Path:
        """Where reports are written."""
        return self.settings.home / "reports"

    @property
    def today(self) -> str:
        """The present day."""
        return now()[:10]

    @property
    def locks(self) -> Path:
        """Files whose locks say who is at work."""
        return self.settings.home / "locks"

    @property
    def marker(self) -> ChangeMarker:
        """Changes when processes at work must load keys, teachers and policy again. Earlier versions watch the same file."""
        return ChangeMarker(self.locks / "gateway-bell")

    @property
    def policy(self) -> Policy:
        """What decides, as of when it was last loaded."""
        return self.doors.policy

    def reload_policy(self) -> None:
        """Take up what was granted, revoked and waived, here or elsewhere, and tell every process that is at work."""
        self.doors.reload_policy()
        self.marker.mark()

    def caps(self, teacher: str, project: str = "") -> dict[str, Decimal]:
        """The caps that this home sets for a teacher and a project, in USD by scope. Raises RecipeError."""
        settings = self.settings
        named = {"project": (project, settings.project_caps), "teacher": (teacher, settings.teacher_caps)}
        return {
            f"{kind}:{name}": parse_usd(caps[name], f"[budgets.{kind}s] {name}")
            for kind, (name, caps) in named.items()
            if name in caps
        }

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold a lock of this home while the block runs. Raises HomeBusy where another process has it."""
        with locked(self.locks / name, f"{name} in {self.settings.home}"):
            yield

    def checkpoint(self) -> bool:
        """Copy the ends of all chains to the second place, where one is configured."""
        if self.settings.checkpoints is None:
            return False
        save_checkpoint(self.log, now(), self.settings.checkpoints)
        return True

    def _call_custodian(self) -> None:
        """Let the custodian take what was written into its copy of the log. One that is away does that when it is back."""
        custodian = custodian_of(self.settings)
        if custodian is not None:
            with contextlib.suppress(CustodianAway):
                custodian.attend()

    def close(self) -> None:
        """Make everything durable, and release it."""
        if "engine" in self.__dict__:  # where anything asked for it
            self.engine.close()
        try:
            wrote = self.recorder.wrote
            self.recorder.close()
            if wrote:
                self._call_custodian()
                self.checkpoint()
        finally:
            self.ledger.close()

    def __enter__(self) -> "Home":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def first_writer(folder: Path) -> int:
    """From which chain on a home writes its own entries: one that follows another leaves that one's chains alone."""
    try:
        return int((folder / FOLLOWS).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


def open_objects(settings: Settings) -> Objects:
    """The vault of a home: its own folder, or one that a custodian alone may write."""
    return Objects(custodian_of(settings) or LocalBackend(settings.objects))


def custodian_of(settings: Settings) -> CustodianBackend | None:
    """Who alone may write the vault of a home, if somebody does."""
    return CustodianBackend(settings.objects, settings.custodian / SOCKET) if settings.custodian else None


def open_home(settings: Settings, progress: Progress | None = None) -> Home:
    """Open a home that exists, with its view brought up to date. Raises CorruptLog where the log is damaged."""
    home = Home(settings)
    try:
        home.ledger.catch_up(home.log, building(progress or Silence()))
        home.doors.follow(home.marker, lambda: load_policy(home.ledger, settings, home.objects, home.today))
    except BaseException:
        home.ledger.close()
        raise
    return home


def building(progress: Progress) -> Reached:
    """Reports the building of a view, where it takes long enough to be reported."""
    begun = False

    def reached(point: str, done: int, total: int) -> None:
        nonlocal begun
        if point == "waiting":
            progress.say("another process builds the view of the log; this one waits for it")
        if point == "filling" and not begun and total > _TOLD_OF:
            begun = True
            progress.start("build the view of the log", total)
        if begun and point == "swapped":
            progress.finish(f"{done:,} entries")
        elif begun:
            progress.update(done, "indexes" if point in ("filled", "indexed") else "")

    return reached


def create_home(settings: Settings) -> bool:
    """Make a home, or complete one; returns whether it is new. Raises StorageError."""
    version = settings.home / "VERSION"
    fresh = not version.exists()
    if fresh:
        for folder in ("objects", "log", "cache", "reports"):
            with storage_errors(f"{settings.home} could not be made"):
                (settings.home / folder).mkdir(parents=True, exist_ok=True)
        if not (settings.home / CONFIG).exists():
            write_whole(settings.home / CONFIG, DEFAULT_CONFIG.encode())
            (settings.home / CONFIG).chmod(0o644)
        write_whole(version, f"{HOME_VERSION}\n".encode())
    return fresh


def check_home(folder: Path) -> None:
    """Raises HomeMissing, HomeNewer, StorageError."""
    try:
        text = (folder / "VERSION").read_text(encoding="ascii").strip()
        version = int(text)
    except FileNotFoundError:
        raise HomeMissing(f"({folder})") from None
    except (OSError, ValueError) as failure:
        raise StorageError(f"{folder / 'VERSION'} cannot be read: {failure}.") from failure
    if version > HOME_VERSION:
        raise HomeNewer(f"({folder} has version {version}, this one knows {HOME_VERSION})")


def _who() -> str:
    """The operating system's word for it; people with keys are not built yet."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
