"""What a guard protects here, and putting it up."""

from collections.abc import Iterable
from pathlib import Path

from stillhouse.app.copies import S3
from stillhouse.app.home import check_home
from stillhouse.custody.guard import Guard, plan_guard
from stillhouse.sandbox.inner import syscalls
from stillhouse.settings.home import Settings


def plan_for(settings: Settings, more: Iterable[Path]) -> Guard:
    """A guard around a home, its copies in folders, its second place for checkpoints, and more. Raises HomeMissing."""
    check_home(settings.home)
    copies = [Path(copy.place) for copy in settings.copies if not copy.place.startswith(S3)]
    # Where these are links, what they lead to is protected as well.
    inner = [
        home / name
        for home in (settings.home, *copies)
        for name in ("objects", "log", "heads")
        if (home / name).exists()
    ]
    inner += [settings.custodian] if settings.custodian else []
    second = [settings.checkpoints] if settings.checkpoints and settings.checkpoints.exists() else []
    return plan_guard(
        [settings.home, *copies, *inner, *second, *more], syscalls.landlock_version(), syscalls.GUARD_VERSION
    )


def start(guard: Guard) -> None:
    """From now on this process, and all that it starts, changes nothing that is protected. There is no way back."""
    syscalls.landlock_changes(list(guard.changeable))
