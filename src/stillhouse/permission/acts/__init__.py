"""The kinds of acts of permission, one file each. Whoever carries one out registers that in a part above."""

from typing import Any

import msgspec

from stillhouse.errors import HomeNewer
from stillhouse.permission.acts import (
    access_changes,
    adoptions,
    deletions,
    erasures,
    hold_releases,
    leases,
    not_copies,
    registrations,
    rosters,
    waivers,
)
from stillhouse.permission.acts.act import Act

ACTS: tuple[Act[Any], ...] = (
    rosters.ACT,
    access_changes.ACT,
    waivers.ACT,
    deletions.ACT,
    erasures.ACT,
    hold_releases.ACT,
    adoptions.ACT,
    registrations.ACT,
    not_copies.ACT,
    leases.ACT,
)
_BY_TAG = {act.tag: act for act in ACTS}
_BY_CONTENT: dict[type[msgspec.Struct], Act[Any]] = {act.content: act for act in ACTS}


def act_of(content: msgspec.Struct) -> Act[Any]:
    """The kind of act that brings this about."""
    return _BY_CONTENT[type(content)]


def act_called(tag: str) -> Act[Any]:
    """A kind of act by its tag. Raises HomeNewer for one that this version does not know: it is never passed over."""
    if tag not in _BY_TAG:
        raise HomeNewer(f"(it holds an act of the kind {tag!r}, which this version does not know)")
    return _BY_TAG[tag]
