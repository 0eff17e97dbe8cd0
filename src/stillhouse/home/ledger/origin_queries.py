"""Teachers, stamp sets and prompts that the log knows.

Of a teacher, the last registration counts. Once teachers were adopted (``permission.acts.adoptions``), only those count that were
adopted or approved, and models that were trained here: one that somebody registered alone is a draft, and so is a model that was
made elsewhere (`model derive`).
"""

from sqlalchemy import select

from stillhouse.errors import UnknownName
from stillhouse.home.ledger import permission_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, as_written, decode, ordered
from stillhouse.home.ledger.training_queries import models
from stillhouse.nouns import Channel, Model, PolicyAdoption, Stamp, StampSet, Teacher, TeacherKind
from stillhouse.permission.acts.registrations import registration_digest
from stillhouse.permission.decide import OWN_TERMS
from stillhouse.permission.stamp_sets import checked


def teachers(ledger: Ledger) -> list[Teacher]:
    """All teachers that count, as last registered, by name."""
    return _sorted_by_name(_registered(ledger)[0])


def draft_teachers(ledger: Ledger) -> list[Teacher]:
    """Teachers whose last registration does not count, since nobody who may has signed it; by name."""
    return _sorted_by_name(_registered(ledger)[1])


def is_itself(model: Model, teacher: Teacher) -> bool:
    """Is this a model of ours as the teacher that it is, wherever its weights lie? What it passes on is in the log."""
    return (
        teacher.kind is TeacherKind.LOCAL
        and (teacher.name, teacher.weights_digest, teacher.base_url) == (model.label, model.weights_digest, "")
        and (teacher.terms, teacher.channel) == ((OWN_TERMS,), Channel.OFFICIAL)
    )


def _sorted_by_name(found: dict[str, Teacher]) -> list[Teacher]:
    return [found[name] for name in sorted(found)]


def _registered(ledger: Ledger) -> tuple[dict[str, Teacher], dict[str, Teacher]]:
    approved, trained = _approved(ledger), {model.label: model for model in models(ledger) if model.training}
    counting: dict[str, Teacher] = {}
    drafts: dict[str, Teacher] = {}
    for row in as_written(all_rows(ledger, ordered(tables.teachers))):
        teacher = decode(row.teacher, Teacher)
        own = trained.get(teacher.name)
        itself = own is not None and is_itself(own, teacher)
        if approved is None or itself or registration_digest(teacher) in approved:
            counting[teacher.name] = teacher
            drafts.pop(teacher.name, None)
        else:
            drafts[teacher.name] = teacher
    return counting, drafts


def _approved(ledger: Ledger) -> frozenset[str] | None:
    """The digests of the registrations that were signed; None where nothing was adopted yet, and all count."""
    contents = [act.entry.content for act in permission_queries.acts(ledger)]
    adoptions = [content.teachers for content in contents if isinstance(content, PolicyAdoption)]
    if not adoptions:
        return None
    added = [registration_digest(content) for content in contents if isinstance(content, Teacher)]
    return frozenset(added).union(*adoptions)


def teacher(ledger: Ledger, name: str) -> Teacher:
    """One teacher; a model that was trained here is one, too, by its label or its name. Raises UnknownName."""
    registered = {found.name: found for found in teachers(ledger)}
    labels = [name, *(model.label for model in reversed(models(ledger)) if model.name == name)]
    for label in labels:
        if label in registered:
            return registered[label]
    if name in {draft.name for draft in draft_teachers(ledger)}:
        raise UnknownName(
            f"{name!r} is a draft: its registration was not signed by anyone who answers for permission.",
            next_step="They look at it and sign it with `stillhouse teacher sign`.",
        )
    known = ", ".join(registered) or "none"
    raise UnknownName(
        f"No teacher is registered as {name!r}; there is: {known}.",
        next_step="Register it with `stillhouse teacher add`, or use one of those.",
    )


def stamp_set_ids(ledger: Ledger) -> set[int]:
    """The integers that already stand for a stamp set."""
    return {row.id for row in all_rows(ledger, select(tables.stamp_sets.c.id))}


def stamp_sets(ledger: Ledger) -> dict[int, StampSet]:
    """All stamp sets by integer. Raises ForgedEntry for one whose stamps were changed in the ledger."""
    return {
        row.id: checked(StampSet(row.id, row.digest, decode(row.stamps, tuple[Stamp, ...])))
        for row in all_rows(ledger, ordered(tables.stamp_sets))
    }


def prompt_digests(ledger: Ledger) -> set[str]:
    """The prompts that the log already has."""
    return {row.prompt for row in all_rows(ledger, select(tables.prompts.c.prompt))}
