"""Installed packages that judged programs may import.

Covered: a program sees copies of the distributions that were named and of those they require, and of nothing else that is
installed here (Stillhouse, with the answers to its tasks, is installed beside them). The copies are read-only to it.

Not covered: what a named package does when it is imported; it runs inside the sandbox, as the program does.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from stillhouse.canon import digest_value
from stillhouse.errors import RecipeError


class Packages(msgspec.Struct, frozen=True):
    """``folder`` holds the copies; ``versions`` are the distributions in it (``numpy==2.4.0``), part of a verdict's identity."""

    folder: Path | None = None
    versions: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """What a sandbox puts at the end of a program's module search path."""
        return (self.folder,) if self.folder else ()


def packages_of(names: Sequence[str], cache: Path) -> Packages:
    """Copy what ``names`` need into a folder below ``cache``; one that is there already is used again.

    Raises RecipeError for a distribution that is not installed here.
    """
    if not names:
        return Packages()
    found: dict[str, metadata.Distribution] = {}
    for name in names:
        try:
            _add(found, metadata.distribution(name))
        except (metadata.PackageNotFoundError, ValueError):
            raise RecipeError(
                f"[sandbox] packages: {name!r} is not installed here.",
                next_step=f"pip install {name} into the environment of stillhouse, or correct the name.",
            ) from None
    versions = tuple(sorted(f"{name}=={distribution.version}" for name, distribution in found.items()))
    folder = cache / "packages" / digest_value(list(versions)).partition(":")[2][:16]
    if not folder.exists():
        new = folder.with_name(f"{folder.name}.{os.getpid()}")
        for distribution in found.values():
            _copy(distribution, new)
        try:
            new.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(new)
    return Packages(folder, versions)


def _add(found: dict[str, metadata.Distribution], distribution: metadata.Distribution) -> None:
    name = _normal(distribution.metadata["Name"])
    if name in found:
        return
    found[name] = distribution
    for required in _required(distribution):
        try:
            _add(found, metadata.distribution(required))
        except metadata.PackageNotFoundError:
            continue  # for another platform, or another Python


def _required(distribution: metadata.Distribution) -> Iterator[str]:
    for requirement in distribution.requires or ():
        if "extra ==" not in requirement and (match := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)):
            yield match[0]


def _normal(name: str) -> str:
    """PyPA's normal form of a name (packaging.python.org, "Name normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _copy(distribution: metadata.Distribution, folder: Path) -> None:
    for file in distribution.files or ():
        source = Path(str(file.locate()))
        if ".." in file.parts or file.suffix == ".pyc" or not source.is_file():
            continue  # scripts, and what is not a module's
        place = folder / Path(*file.parts)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        shutil.copyfile(source, place)
        place.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
