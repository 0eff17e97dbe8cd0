"""The doors of a home: whether a teacher may be asked, a row be kept, a record be used, as of now.

Covered: what was granted, waived or revoked meanwhile, here or by another process, counts at the next check; a refusal is written
down before it is raised; where the chain of permission is forged, or what was adopted or a rule cannot be read, every door is
shut. Not covered: whoever goes past them (``access.gate`` and ``access.loader`` stand where jobs start).
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import NoReturn

from stillhouse.clock import now
from stillhouse.errors import (
    CorruptObject,
    ForgedEntry,
    PolicyRefusal,
    RuleError,
    StillhouseError,
    StorageError,
    TermsError,
)
from stillhouse.home import facts
from stillhouse.home.change_marker import ChangeMarker
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import Decision, Stamp, Use
from stillhouse.permission.decide import Door, Policy

_DOING = {
    Door.ASK: "be asked to",
    Door.CONTINUE: "go on to",
    Door.KEEP: "stand in a dataset to",
    Door.USE: "be used to",
}

# Why nothing can be decided.
_UNDECIDED = (ForgedEntry, CorruptObject, StorageError, TermsError, RuleError)


class Doors:
    """Policy as of now, and what is refused by it."""

    def __init__(self, recorder: Recorder, policy: Policy) -> None:
        self.recorder = recorder
        self._policy: Policy | StillhouseError = policy
        self._marker: ChangeMarker | None = None
        self._load_policy: Callable[[], Policy] = lambda: policy
        self._loaded_at = (0, 0)

    @property
    def policy(self) -> Policy:
        """What decides, as of when it was last loaded. Raises what kept it from being loaded."""
        if isinstance(self._policy, StillhouseError):
            raise self._policy
        return self._policy

    def follow(self, marker: ChangeMarker, load_policy: Callable[[], Policy]) -> None:
        """From now on, take up what others grant, waive and revoke, as the marker tells.

        Where nothing can be decided, ``policy`` raises; what needs no decision (getting data back) goes on.
        """
        self._marker, self._load_policy = marker, load_policy
        with contextlib.suppress(*_UNDECIDED):
            self.reload_policy()

    def reload_policy(self) -> None:
        """Decide as of now, by what the view has. Raises ForgedEntry, CorruptObject, TermsError, RuleError: then nothing is."""
        self._loaded_at = self._marker.state() if self._marker else (0, 0)
        try:
            self._policy = self._load_policy()
        except _UNDECIDED as failure:
            self._policy = failure
            raise

    def changed(self) -> bool:
        """Has anything been granted, waived or revoked since the last look? Then policy is reloaded."""
        if self._marker is None or self._marker.state() == self._loaded_at:
            return False
        self.recorder.refresh()
        self.reload_policy()
        return True

    def check(self, door: Door, subject: str, stamps: Sequence[Stamp], use: Use) -> Decision:
        """What lets something with these stamps through a door. A refusal is written down, then raised as PolicyRefusal."""
        decision = self.policy.check(door, stamps, use)
        if not decision.allowed:
            self.refuse(subject, f"{_DOING[door]} {use}", decision)
        return decision

    def refuse(self, subject: str, doing: str, decision: Decision) -> NoReturn:
        """Write a refusal down, and raise it as PolicyRefusal."""
        reason = f"{decision.use}: {decision.reason}"
        self.recorder.record(facts.RefusalMade(at=now(), by=self.recorder.by, subject=subject, reason=reason))
        self.recorder.refresh()
        raise PolicyRefusal(f"{subject} may not {doing}: {decision.reason}.")
