"""Teachers, stamp sets and prompts that the log knows. Of a teacher, the last registration counts."""

from sqlalchemy import select

from stillhouse.errors import UnknownName
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, as_written, decode, ordered
from stillhouse.home.ledger.training_queries import models
from stillhouse.nouns import (
    Stamp,
    StampSet,
    Teacher,
)


def teachers(ledger: Ledger) -> list[Teacher]:
    """All teachers, as last registered, by name."""
    found = {row.name: decode(row.teacher, Teacher) for row in as_written(all_rows(ledger, ordered(tables.teachers)))}
    return [found[name] for name in sorted(found)]


def teacher(ledger: Ledger, name: str) -> Teacher:
    """One teacher; a model that was trained here is one, too, by its label or its name. Raises UnknownName."""
    registered = {found.name: found for found in teachers(ledger)}
    labels = [name, *(model.label for model in reversed(models(ledger)) if model.name == name)]
    for label in labels:
        if label in registered:
            return registered[label]
    known = ", ".join(registered) or "none"
    raise UnknownName(
        f"No teacher is registered as {name!r}; there is: {known}.",
        next_step="Register it with `stillhouse teacher add`, or use one of those.",
    )


def stamp_set_ids(ledger: Ledger) -> set[int]:
    """The integers that already stand for a stamp set."""
    return {row.id for row in all_rows(ledger, select(tables.stamp_sets.c.id))}


def stamp_sets(ledger: Ledger) -> dict[int, StampSet]:
    """All stamp sets by integer."""
    return {
        row.id: StampSet(row.id, row.digest, decode(row.stamps, tuple[Stamp, ...]))
        for row in all_rows(ledger, ordered(tables.stamp_sets))
    }


def prompt_digests(ledger: Ledger) -> set[str]:
    """The prompts that the log already has."""
    return {row.prompt for row in all_rows(ledger, select(tables.prompts.c.prompt))}
