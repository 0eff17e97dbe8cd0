"""What a command runs on: installed packages, and the machine."""

import os
import platform
import sys
from pathlib import Path


def environment() -> dict[str, str]:
    """What is installed, by name: a lock file in all but form."""
    found = {"python": sys.version.split()[0]}
    for folder in sys.path:  # by the names of their folders: reading what each says of itself takes a second
        for place in Path(folder or ".").glob("*.dist-info"):
            name, _, version = place.name.removesuffix(".dist-info").rpartition("-")
            found.setdefault(name.lower().replace("_", "-"), version)
    return dict(sorted(found.items()))


def machine() -> str:
    """The machine as far as numbers may depend on it."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
