"""Read what a vault or a copy holds, name what is damaged or missing and what that hits, and mend it from where it is whole."""

import random
from typing import NamedTuple

from stillhouse.clock import now
from stillhouse.custody.copies.places import find_copy, open_place
from stillhouse.custody.deletion.trash import discard
from stillhouse.custody.named_objects import named_objects
from stillhouse.errors import CorruptObject, StorageError, UnknownName
from stillhouse.home import facts
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.home.settings import Copy
from stillhouse.vault.objects import Objects

# By this name a copy is mended from the vault here.
HOME = "home"


class Bad(NamedTuple):
    """An object that is not what its digest names, and what is hit by that."""

    object: str
    problem: str
    hits: tuple[str, ...]


class Scrub(NamedTuple):
    """What a scrub found. ``at_most`` is the share of bad objects that a sample rules out with 99 % confidence, else 0."""

    objects: int
    read: int
    bad: tuple[Bad, ...]
    repaired: tuple[str, ...]
    at_most: float


def scrub(home: Home, copy: Copy | None, sample: int, mend: str, progress: Progress) -> Scrub:
    """Read a vault or a copy, all of it or so many objects at random; mend from a copy by that name ("": do not).

    What it found is written down, so that nothing new is built on what is damaged. Raises StorageError, UnknownName.
    """
    target = open_place(copy).objects if copy else home.objects
    healthy = _healthy(home, copy, mend)
    everything = sorted(target.list())
    named = named_objects(home).objects
    problems = {digest: f"{digest} is missing." for digest in sorted(set(named) - set(everything))}
    chosen = random.SystemRandom().sample(everything, min(sample, len(everything))) if sample else everything
    progress.start(f"scrub of {copy.name if copy else 'the vault'}", len(chosen))
    for count, digest in enumerate(chosen, 1):
        try:
            target.get(digest)
        except CorruptObject as failure:
            problems[digest] = failure.detail
        progress.update(count)
    repaired = tuple(digest for digest in problems if healthy and _mend(home, target, healthy, digest, copy))
    home.recorder.record(
        facts.Scrubbed(
            at=now(), by=home.recorder.by, copy=copy.name if copy else "", objects=len(everything), read=len(chosen),
            bad=tuple(problems), repaired=repaired,
        )
    )  # fmt: skip
    home.recorder.refresh()
    progress.finish(f"{len(problems)} bad, {len(repaired)} mended")
    bad = tuple(Bad(digest, problem, tuple(sorted(named.get(digest, ())))) for digest, problem in problems.items())
    at_most = 0.0 if len(chosen) == len(everything) else 1 - 0.01 ** (1 / max(1, len(chosen)))
    return Scrub(len(everything), len(chosen), bad, repaired, at_most)


def _healthy(home: Home, copy: Copy | None, mend: str) -> Objects | None:
    if not mend:
        return None
    if copy is not None:
        if mend != HOME:
            raise UnknownName("A copy is repaired from `home`.", next_step="First repair the home from a whole copy.")
        return home.objects
    return open_place(find_copy(home.settings, mend)).objects


def _mend(home: Home, target: Objects, healthy: Objects, digest: str, copy: Copy | None) -> bool:
    """Replace one bad object by whole bytes from elsewhere; the bad ones go to the trash. False where nobody has it whole."""
    try:
        data = healthy.get(digest)
    except (CorruptObject, StorageError):
        return False
    if target.exists(digest):
        if copy is None:
            discard(home, [digest], "damaged")
        else:
            target.discard(digest)
    target.put(data)
    target.get(digest)
    return True
