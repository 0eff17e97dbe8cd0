"""What a guard protects here, and putting it up."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from stillhouse.custody.copies.places import S3
from stillhouse.custody.protection.command_guard import Guard, plan_guard
from stillhouse.home.open_home import check_home
from stillhouse.home.settings import Settings
from stillhouse.sandbox.inner import syscalls


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
    # What every copy of an erasable source can be read with, and what signs.
    inner += [folder for folder in (*settings.key_stores, settings.keys) if folder is not None and folder.exists()]
    second = [settings.checkpoints] if settings.checkpoints and settings.checkpoints.exists() else []
    return plan_guard(
        [settings.home, *copies, *inner, *second, *more], syscalls.landlock_version(), syscalls.GUARD_VERSION
    )


def start(guard: Guard) -> None:
    """From now on this process, and all that it starts, changes nothing that is protected. There is no way back.

    What is open is closed when the command begins: a descriptor that may write is a way past every folder.
    """
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2:  # its own streams, which it may have got from anybody
            with contextlib.suppress(OSError):
                os.set_inheritable(descriptor, False)
    syscalls.landlock_changes(list(guard.changeable))
