"""The one way in: policy, then one entry of the log, then the view.

Where a kill can fall, and what is then true:

``decided``     policy has said yes; nothing is written: as if it had not been asked for
``appended``    the entry is in the log and the view lacks it: the next catch-up applies it
``viewed``      done

A torn append is cut and reported when the chain is next opened. Stamp sets and prompts are written before the first
entry that names them, in the same write, so no reader meets an integer or a digest that it cannot resolve.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from stillhouse import facts
from stillhouse.canon import digest_value, short_integer
from stillhouse.errors import ForgedEntry, PolicyRefusal, RuleError, StillhouseError, TermsError
from stillhouse.interrupts import shielded
from stillhouse.ledger import queries
from stillhouse.ledger.store import Ledger
from stillhouse.nouns import (
    Channel,
    Decision,
    Durability,
    Grade,
    Message,
    Origin,
    Signature,
    Stamp,
    StampSet,
    Teacher,
    TeacherKind,
    Use,
)
from stillhouse.policy.decide import OWN_TERMS, Policy
from stillhouse.vault.log import Log
from stillhouse.vault.writer import Position, Writer

# Signs a value of a kind, as somebody.
Sign = Callable[[str, Any], Signature]
# The lab of models that were trained here.
OWN_LAB = "own"


def now() -> str:
    """The present time, as it stands in the log."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp_set(stamps: Iterable[Stamp]) -> StampSet:
    """The interned form of some stamps: the same for the same members in any order."""
    members = tuple(sorted(set(stamps)))
    digest = digest_value([_identity(stamp) for stamp in members])
    return StampSet(short_integer(digest), digest, members)


def _identity(stamp: Stamp) -> dict[str, object]:
    """A stamp as its digest has it: what was added to stamps later is left out where it is empty."""
    fields: dict[str, object] = msgspec.to_builtins(stamp)
    return fields if stamp.provider else {name: value for name, value in fields.items() if name != "provider"}


def prompt_digest(messages: Sequence[Message]) -> str:
    """The digest that stands for a prompt."""
    return digest_value(tuple(messages))


class Recorder:
    """Writes facts. One per process; the view lags until ``refresh`` is called or the recorder is closed."""

    def __init__(
        self,
        log: Log,
        ledger: Ledger,
        policy: Policy,
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
        self._policy: Policy | StillhouseError = policy
        self._durability, self._reached = durability, reached
        self._bell: Path | None = None
        self._load_policy: Callable[[], Policy] = lambda: policy
        self._heard = (0, 0)
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

    @property
    def policy(self) -> Policy:
        """What decides, as of when it was last loaded. Raises ForgedEntry, TermsError, RuleError where it could not be."""
        if isinstance(self._policy, StillhouseError):
            raise self._policy
        return self._policy

    def follow(self, bell: Path, load_policy: Callable[[], Policy]) -> None:
        """From now on, take up what others grant, waive and revoke: they ring the bell by writing to that file.

        Where nothing can be decided, whoever asks ``policy`` hears of it; what needs no decision (getting data back) goes on.
        """
        self._bell, self._load_policy = bell, load_policy
        with contextlib.suppress(ForgedEntry, TermsError, RuleError):
            self.reload_policy()

    def reload_policy(self) -> None:
        """Decide as of now, by what the view has. Raises ForgedEntry, TermsError, RuleError, and then nothing is decided."""
        self._heard = self._rung()
        try:
            self._policy = self._load_policy()
        except (ForgedEntry, TermsError, RuleError) as failure:
            self._policy = failure
            raise

    def heard(self) -> bool:
        """Has anything been granted, waived or revoked since the last look? Then policy is loaded anew."""
        if self._bell is None or self._rung() == self._heard:
            return False
        self.refresh()
        self.reload_policy()
        return True

    def _rung(self) -> tuple[int, int]:
        try:
            stat = self._bell.stat() if self._bell else None
        except FileNotFoundError:
            stat = None
        return (stat.st_mtime_ns, stat.st_ino) if stat else (0, 0)

    def stamps_of(self, teacher: Teacher, *, purpose: Use, account: str = "") -> tuple[Stamp, ...]:
        """The stamps of what a teacher gives today. What the log trained passes on those that it learned from, whatever
        name and licence its weights were registered under.
        """
        day = now()[:10]
        trained = queries.model_of_weights(self.ledger, teacher)
        if trained is not None:
            own = Stamp(
                origin=Origin.OWN_MODEL,
                lab=OWN_LAB,
                model=trained.weights_digest,
                channel=Channel.OFFICIAL,
                terms=(OWN_TERMS,),
                day=day,
                purpose=str(purpose),
                grade=Grade.OBSERVED,
            )
            return (own, *queries.stamp_sets(self.ledger)[trained.stamps].stamps)
        by_teacher = Stamp(
            origin=Origin.TEACHER,
            lab=teacher.lab,
            model=teacher.weights_digest if teacher.kind is TeacherKind.LOCAL else teacher.model,
            channel=teacher.channel,
            account=account,
            terms=teacher.terms,
            day=day,
            purpose=str(purpose),
            grade=teacher.grade,
        )
        return (by_teacher,)

    def decide(self, subject: str, stamps: Sequence[Stamp], uses: Sequence[Use]) -> list[Decision]:
        """The decisions for some uses. A refusal is written down, then raised as PolicyRefusal."""
        decisions = [self.policy.decide_set(stamps, use) for use in uses]
        for decision in decisions:
            if not decision.allowed:
                self.refuse(subject, f"be used to {decision.use}", decision)
        return decisions

    def decide_asking(self, subject: str, stamps: Sequence[Stamp], use: Use) -> list[Decision]:
        """May it be asked, and its answers be kept and used so? A refusal is written down, then raised as PolicyRefusal."""
        decision = self.policy.decide_asking(stamps, use)
        if not decision.allowed:
            self.refuse(subject, f"be asked to {use}", decision)
        return self.decide(subject, stamps, (Use.STORE, use))

    def refuse(self, subject: str, doing: str, decision: Decision) -> NoReturn:
        """Write a refusal down, and raise it as PolicyRefusal."""
        reason = f"{decision.use}: {decision.reason}"
        self.record(facts.RefusalMade(at=now(), by=self.by, subject=subject, reason=reason))
        self.refresh()
        raise PolicyRefusal(f"{subject} may not {doing}: {decision.reason}.")

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
        return queries.stamp_set_ids(self.ledger), queries.prompt_digests(self.ledger)

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
