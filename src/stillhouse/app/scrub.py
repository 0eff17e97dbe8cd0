"""Read what the vault holds, and name what is damaged or missing, and what that hits."""

from typing import NamedTuple

from stillhouse import facts
from stillhouse.app.home import App
from stillhouse.app.references import named_objects
from stillhouse.recorder import now


class Bad(NamedTuple):
    """An object that is not what its digest names, and what is hit by that."""

    object: str
    problem: str
    hits: tuple[str, ...]

    @property
    def reach(self) -> str:
        """What is hit, for people."""
        return f" Hits {', '.join(self.hits[:5])}{' and more' if len(self.hits) > 5 else ''}." if self.hits else ""


class Scrubbed(NamedTuple):
    """What was read, and what of it is bad."""

    objects: int
    bad: tuple[Bad, ...]


def verify(app: App) -> Scrubbed:
    """Read every object, and look for every one that something names."""
    named = named_objects(app).objects
    results = dict(app.objects.verify())
    problems = {digest: problem for digest, problem in results.items() if problem}
    problems |= {digest: f"{digest} is missing." for digest in named if digest not in results}
    if problems:
        # So that nothing new is built on what is damaged.
        entry = facts.Scrubbed(
            at=now(), by=app.recorder.by, copy="", objects=len(results), read=len(results), bad=tuple(sorted(problems)),
            repaired=(),
        )  # fmt: skip
        app.recorder.record(entry)
        app.recorder.refresh()
    bad = tuple(
        Bad(digest, problem, tuple(sorted(named.get(digest, ())))) for digest, problem in sorted(problems.items())
    )
    return Scrubbed(len(results), bad)
