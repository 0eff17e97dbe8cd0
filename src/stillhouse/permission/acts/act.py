"""What every kind of act says of itself: what it brings about, who may ask for it, and who else must say yes. Pure."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import msgspec

from stillhouse.errors import SignatureRefused
from stillhouse.nouns import Member, Role, Roster
from stillhouse.permission import roster as rosters

Content = TypeVar("Content", bound=msgspec.Struct)
# Did whoever holds the key (PEM) sign?
Signed = Callable[[str], bool]

GOVERNORS = (Role.GOVERNANCE,)
# Who may ask for what the vault should no longer keep; an approver says yes.
CUSTODIANS = (Role.GOVERNANCE, Role.CUSTODIAN)


class ChainState(NamedTuple):
    """What the chain says up to some act, whose digest is ``head``: the roster in force, and what every act brought about."""

    head: str = ""
    roster: Roster | None = None
    contents: tuple[msgspec.Struct, ...] = ()

    def of(self, kind: type[Content]) -> tuple[Content, ...]:
        """What the acts of a kind brought about, in order."""
        return tuple(content for content in self.contents if isinstance(content, kind))


class Act(Generic[Content]):
    """A kind of act: one member who may asks for it, and an approver who is somebody else says yes, where there is one.

    ``tag`` is what is signed, so it never changes; ``content`` is the type of what it brings about. ``alone`` says whether one
    signature is enough for this content.
    """

    needs_roster = True

    def __init__(
        self,
        tag: str,
        content: type[Content],
        authors: tuple[Role, ...] = GOVERNORS,
        alone: Callable[[Content], bool] = lambda content: False,
    ) -> None:
        self.tag, self.content, self.authors, self._alone = tag, content, authors, alone

    def lacking(self, state: ChainState, content: Content, signed: Signed) -> tuple[str, ...]:
        """Who could still sign where something is missing; empty where it is enough.

        Raises SignatureRefused where nobody signed who may ask for it.
        """
        assert state.roster is not None
        may_ask = having(state.roster, self.authors)
        # Whoever of them was first: the clocks of two machines need not agree.
        asked = [known for known in may_ask if signed(known.key)]
        if not asked:
            names = ", ".join(known.name for known in may_ask)
            raise SignatureRefused(f"Only who answers for permission, or for this, may do it: {names}.")
        if self._alone(content):
            return ()
        for author in asked:
            others = second_persons(state.roster, author)
            if not others or any(signed(known.key) for known in others):
                return ()
        return tuple(known.name for known in second_persons(state.roster, asked[0]))

    def needs_approval(self, content: Content) -> bool:
        """Must an approver say yes, where there is one who did not ask for it?"""
        return not self._alone(content)

    def roster_after(self, state: ChainState, content: Content) -> Roster | None:
        """The roster in force once this has happened."""
        return state.roster


def second_persons(roster: Roster, author: Member) -> tuple[Member, ...]:
    """Who can say yes to what somebody asks for. Where nobody else is there, nobody else is asked."""
    return tuple(known for known in rosters.holders(roster, Role.APPROVER) if known.name != author.name)


def having(roster: Roster, roles: tuple[Role, ...]) -> tuple[Member, ...]:
    """The members with one of some roles."""
    return tuple(known for known in roster.members if any(role in known.roles for role in roles))
