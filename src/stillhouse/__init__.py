"""Stillhouse: distil coding models from a teacher's outputs, under custody.

For programs: ``stillhouse.open(folder)`` opens a home; ``docs/api.md`` shows what can be done with it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillhouse.home.open_home import Home

__version__ = "0.1.0"
__all__ = ["open"]


def open(folder: str | Path | None = None) -> "Home":
    """Open a home that exists; without a folder, the one of STILLHOUSE_HOME, else ``.stillhouse``. A context manager.

    Raises HomeMissing, HomeNewer, LedgerUnavailable, CorruptLog.
    """
    from stillhouse.home.open_home import open_home  # it takes a tenth of a second, and not every program needs it
    from stillhouse.home.settings import read_settings

    return open_home(read_settings(Path(folder) if folder is not None else None))
