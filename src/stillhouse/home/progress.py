"""Progress of long work, as events for whoever shows them."""

from typing import Any, Protocol


class Progress(Protocol):
    """Receives stages, one at a time."""

    def start(self, stage: str, total: int) -> None:
        """A stage begins; ``total`` 0 where its size is not known."""

    def update(self, done: int, message: str = "", state: dict[str, Any] | None = None) -> None:
        """So many of the stage's items are done; ``state`` says more of it, for programs."""

    def say(self, message: str) -> None:
        """Something that takes long begins within the stage."""

    def finish(self, message: str = "") -> None:
        """The stage is over."""


class Silence:
    """Progress that nobody watches."""

    def start(self, stage: str, total: int) -> None:
        """Say nothing."""

    def update(self, done: int, message: str = "", state: dict[str, Any] | None = None) -> None:
        """Say nothing."""

    def say(self, message: str) -> None:
        """Say nothing."""

    def finish(self, message: str = "") -> None:
        """Say nothing."""
