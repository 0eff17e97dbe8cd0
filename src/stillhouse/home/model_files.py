"""Finished models: where a home keeps them, whether they are what was written, and what they are as teachers. No torch here."""

from pathlib import Path
from typing import NamedTuple

from stillhouse.canon import digest_file
from stillhouse.errors import CorruptObject
from stillhouse.home.stamping import OWN_LAB
from stillhouse.nouns import Channel, Grade, Model, Teacher, TeacherKind
from stillhouse.permission.decide import OWN_TERMS

_WAY_BACK = (
    "Restore it from a copy; or move the model's folder away and run its recipe again, which repeats the training and must "
    "come to the same weights."
)


class Places(NamedTuple):
    """Where a home keeps what a training reads and writes."""

    home: Path
    cache: Path

    @property
    def trainings(self) -> Path:
        """Checkpoints, below each training's name."""
        return self.home / "trainings"

    @property
    def models(self) -> Path:
        """Finished models."""
        return self.home / "models"


def files_below(folder: Path) -> list[str]:
    """The names of all files in a folder and below it, relative to it, in order."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def check_files(places: Places, model: Model) -> None:
    """Are the model's files those that were written? Raises CorruptObject, naming the file."""
    for name, digest in model.files.items():
        path = places.home / model.folder / name
        try:
            found = digest_file(path)
        except OSError as failure:
            raise CorruptObject(
                f"{path} of {model.label} cannot be read: {failure.strerror}.", next_step=_WAY_BACK
            ) from failure
        if found != digest:
            raise CorruptObject(f"{path} of {model.label} has other bytes than were written.", next_step=_WAY_BACK)


def as_teacher(places: Places, model: Model) -> Teacher:
    """A model of our own as a teacher: what it passes on is in the log, and not in its own terms."""
    return Teacher(
        name=model.label,
        kind=TeacherKind.LOCAL,
        model=model.label,
        lab=OWN_LAB,
        channel=Channel.OFFICIAL,
        terms=(OWN_TERMS,),
        weights=str((places.home / model.folder).absolute()),
        weights_digest=model.weights_digest,
        tensors=tuple(sorted(digest for name, digest in model.files.items() if name.endswith(".safetensors"))),
        grade=Grade.OBSERVED,
    )
