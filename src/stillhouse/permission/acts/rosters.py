"""Another roster: a threshold of the present one and a threshold of the next, or the recovery key (``identity.roster``)."""

from stillhouse.nouns import Roster
from stillhouse.permission import roster as rules
from stillhouse.permission.acts.act import Act, ChainState, Signed


class RosterAct(Act[Roster]):
    """Needs thresholds instead of an author and an approver, and is the only act before there is a roster besides the home's."""

    needs_roster = False

    def lacking(self, state: ChainState, content: Roster, signed: Signed) -> tuple[str, ...]:
        """Who could still sign. Raises SignatureRefused, UsageError where it may not follow the present one at all."""
        rules.check_next(state.roster, content)
        return rules.lacking(state.roster, content, signed)

    def roster_after(self, state: ChainState, content: Roster) -> Roster:
        """That one."""
        return content


ACT = RosterAct("Roster", Roster, alone=lambda roster: True)
