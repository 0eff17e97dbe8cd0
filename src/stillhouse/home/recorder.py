"""The one way in: one entry of the log, then the view. Whether something may be written down is decided before (``doors``).

Where a kill can fall, and what is then true:

``decided``     nothing is written: as if it had not been asked for
``appended``    the entry is in the log and the view lacks it: the next catch-up applies it
``viewed``      done

A torn append is cut and reported when the chain is next opened. Stamp sets and prompts are written before the first
entry that names them, in the same write, so no reader meets an integer or a digest that it cannot resolve.
"""

import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stillhouse.clock import now
from stillhouse.home import facts
from stillhouse.home.ledger import origin_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.interrupts import shielded
from stillhouse.nouns import Message, Signature, StampSet
from stillhouse.vault.durability import Durability
from stillhouse.vault.log import Log
from stillhouse.vault.writer import Position, Writer

# Signs a value of a kind, as somebody.
Sign = Callable[[str, Any], Signature]


class Recorder:
    """Writes facts. One per process; the view lags until ``refresh`` is called or the recorder is closed."""

    def __init__(
        self,
        log: Log,
        ledger: Ledger,
        *,
        by: str,
        signatory: Callable[[], Sign],
        durability: Durability = Durability.KILL,
        reached: Callable[[str], None] = lambda point: None,
    ) -> None:
        """``signatory`` finds who signs receipts, when the first one is due; ``reached`` is told each point named above, so
        that tests can kill the process exactly there.
        """
        self.log, self.ledger, self.by, self.signatory = log, ledger, by, signatory
        self._durability, self._reached = durability, reached
        self._open_writer: Writer | None = None
        self._viewing = threading.Lock()

    def record(self, *entries: facts.Fact) -> list[Position]:
        """Append facts in one write. Raises StorageError, and then none of them counts."""
        payloads = [facts.encode(entry) for entry in entries]
        self._reached("decided")
        with shielded():
            positions = self._writer().append_many(payloads)
        self._reached("appended")
        return positions

    def refresh(self) -> None:
        """Bring the view up to date with the log."""
        with self._viewing:
            self.ledger.catch_up(self.log)
        self._reached("viewed")

    def intern(
        self,
        sets: Iterable[StampSet],
        prompts: dict[str, tuple[Message, ...]],
        then: Sequence[facts.Fact] = (),
    ) -> None:
        """Write down stamp sets and prompts that the log does not have yet, and ``then`` what names them, in one write."""
        known_stamps, known_prompts = self._interned
        entries: list[facts.Fact] = []
        new_stamps: set[int] = set()
        for stamps in sets:
            if stamps.id not in known_stamps and stamps.id not in new_stamps:
                new_stamps.add(stamps.id)
                entries.append(
                    facts.StampsSeen(at=now(), by=self.by, id=stamps.id, digest=stamps.digest, stamps=stamps.stamps)
                )
        new_prompts = [digest for digest in prompts if digest not in known_prompts]
        for digest, messages in prompts.items():
            if digest not in known_prompts:
                entries.append(facts.PromptSeen(at=now(), by=self.by, prompt=digest, messages=messages))
        if entries or then:
            self.record(*entries, *then)
            known_stamps |= new_stamps  # only once it is written down: a write that failed is tried again
            known_prompts.update(new_prompts)

    @functools.cached_property
    def _interned(self) -> tuple[set[int], set[str]]:
        """The stamp sets and the prompts that the log has; looked up when they are needed first, once the view is there."""
        return origin_queries.stamp_set_ids(self.ledger), origin_queries.prompt_digests(self.ledger)

    @property
    def wrote(self) -> bool:
        """Has this process written anything?"""
        return self._open_writer is not None

    def close(self) -> None:
        """Make everything durable and bring the view up to date."""
        with shielded():
            if self._open_writer is not None:
                writer, self._open_writer = self._open_writer, None
                writer.close()
                self.refresh()

    def _writer(self) -> Writer:
        """Opened at the first fact, so that commands that only read take no lock and leave no trace."""
        if self._open_writer is None:
            self._open_writer = self.log.writer(self._durability)
            torn = self._open_writer.torn
            if torn is not None:
                cut = facts.TailCut(
                    at=now(), by=self.by, writer=torn.writer, entry=torn.entry, bytes=torn.bytes, kept_in=torn.kept_in
                )
                self._open_writer.append(facts.encode(cut))
        return self._open_writer
