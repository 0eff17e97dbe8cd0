"""A grant or a revocation, from what somebody says of it. Pure."""

from collections.abc import Collection
from datetime import UTC, date, datetime

import msgspec

from stillhouse.canon import digest_value, is_digest
from stillhouse.errors import UnknownName, UsageError
from stillhouse.nouns import AccessChange, AccessKind, Waiver
from stillhouse.permission.decide import void_ids
from stillhouse.permission.known_names import fold_lab
from stillhouse.permission.verdict_table import TermsVerdict

_SCOPE = ("models", "channels", "accounts", "uses", "exempt", "since", "until", "verdict", "duties")


def make_change(draft: AccessChange, known: Collection[AccessChange]) -> AccessChange:
    """A change with its days in UTC and its id, checked. Raises UsageError, UnknownName."""
    if not draft.lab:
        raise UsageError("It is not said whose access it is.", next_step="Name a lab, such as openai.")
    days = {name: utc_day(getattr(draft, name), name) for name in ("since", "until", "notice")}
    if days["since"] and days["until"] and days["until"] < days["since"]:
        raise UsageError(f"It would end on {days['until']}, before it begins on {days['since']}.")
    if set(draft.uses) & set(draft.exempt):
        raise UsageError("A use cannot be both concerned and exempt.")
    if draft.verdict:
        if draft.kind != AccessKind.GRANT or not draft.document:
            raise UsageError(
                "Terms that were negotiated need the agreement's document.",
                next_step="Give --document FILE with --verdict.",
            )
        if draft.verdict not in tuple(TermsVerdict):
            raise UsageError(f"{draft.verdict!r} is no verdict; there is: {', '.join(TermsVerdict)}.")
    if draft.document and not is_digest(draft.document):
        raise UsageError("A document is named by its digest.")
    if draft.reverses and draft.reverses not in {change.id for change in known}:
        raise UnknownName(f"There is no grant or revocation {draft.reverses!r}.", next_step="`stillhouse access list`")
    if draft.reverses and draft.reverses in void_ids(list(known)):
        raise UsageError(f"{draft.reverses} was reversed already.")
    if draft.reverses and any(getattr(draft, name) for name in _SCOPE):
        raise UsageError(
            "A change that reverses another does nothing else.", next_step="Leave out everything but --reason."
        )
    change = msgspec.structs.replace(draft, lab=fold_lab(draft.lab), **days)
    place = len(known)  # the same words said twice are two changes
    return msgspec.structs.replace(change, id=digest_value([change, place]).partition(":")[2][:12])


def waiver_id(waiver: Waiver) -> str:
    """The id that a waiver's contents give it."""
    return digest_value(msgspec.structs.replace(waiver, id="")).partition(":")[2][:12]


def utc_day(text: str, what: str) -> str:
    """A day, or the UTC day of a moment with its time zone. Raises UsageError."""
    if not text:
        return ""
    try:
        if len(text) == 10:
            return date.fromisoformat(text).isoformat()
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a date.", next_step="Write YYYY-MM-DD, or a time with its zone.") from None
    if moment.tzinfo is None:
        raise UsageError(f"{what} {text!r} has no time zone.", next_step="Write ...Z or ...+02:00, or a day alone.")
    return moment.astimezone(UTC).date().isoformat()
