"""What of the organisation's documents and teachers was signed, and what is only a draft."""

from typing import NamedTuple

from stillhouse.home.current_permission import load
from stillhouse.home.ledger import origin_queries
from stillhouse.home.open_home import Home
from stillhouse.home.policy_documents import adopted, differing, read_drafts

HOW_TO_SIGN = "`stillhouse policy adopt` signs files, `stillhouse teacher sign` a teacher"


class PolicyStanding(NamedTuple):
    """``adopted``: do signed documents decide? ``needed``: is there a roster, so that they should? ``drafts`` are, in words, what
    differs from what was signed; before anything was, what decides without it.
    """

    adopted: bool
    needed: bool
    drafts: list[str]


def policy_standing(home: Home) -> PolicyStanding:
    """What is signed and what is not. Raises ForgedEntry, TermsError."""
    state, found = load(home.ledger, home.settings).state, read_drafts(home.settings)
    files = found.documents
    adoption, needed = adopted(state), state.roster is not None
    if adoption is None:
        teachers = [f"teacher {teacher.name}" for teacher in origin_queries.teachers(home.ledger)]
        unsigned = [f"{name} decides, and nobody signed it" for name in (*sorted(files.bytes), *teachers)]
        return PolicyStanding(False, needed, [*unsigned, *found.problems] if needed else [])
    lines = differing(adoption.documents, files.digests)
    lines += [
        f"teacher {teacher.name} was registered without a signature"
        for teacher in origin_queries.draft_teachers(home.ledger)
    ]
    return PolicyStanding(True, needed, [*lines, *found.problems])
