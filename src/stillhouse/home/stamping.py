"""Stamps: what a teacher's answers of today carry, and what stands for a set of stamps and for a prompt."""

from collections.abc import Iterable, Sequence

import msgspec

from stillhouse.canon import digest_value, short_integer
from stillhouse.clock import now
from stillhouse.home.ledger import origin_queries, training_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.nouns import Channel, Grade, Message, Origin, Stamp, StampSet, Teacher, TeacherKind, Use
from stillhouse.permission.decide import OWN_TERMS
from stillhouse.permission.known_hosts import asked_at
from stillhouse.permission.known_names import fold_lab

# The lab of models that were trained here.
OWN_LAB = "own"


def stamp_set(stamps: Iterable[Stamp]) -> StampSet:
    """The interned form of some stamps: the same for the same members in any order."""
    members = tuple(sorted(set(stamps)))
    digest = digest_value([_identity(stamp) for stamp in members])
    return StampSet(short_integer(digest), digest, members)


def _identity(stamp: Stamp) -> dict[str, object]:
    """A stamp as its digest has it: what was added to stamps later is left out where it is empty."""
    fields: dict[str, object] = msgspec.to_builtins(stamp)
    return fields if stamp.provider else {name: value for name, value in fields.items() if name != "provider"}


def prompt_digest(messages: Sequence[Message]) -> str:
    """The digest that stands for a prompt."""
    return digest_value(tuple(messages))


def stamps_of(ledger: Ledger, teacher: Teacher, *, purpose: Use, account: str = "") -> tuple[Stamp, ...]:
    """The stamps of what a teacher gives today. What the log trained passes on those that it learned from, whatever
    name and licence its weights were registered under.
    """
    day = now()[:10]
    trained = training_queries.model_of_weights(ledger, teacher)
    if trained is not None:
        own = Stamp(
            origin=Origin.OWN_MODEL,
            lab=OWN_LAB,
            model=trained.weights_digest,
            channel=Channel.OFFICIAL,
            terms=(OWN_TERMS,),
            day=day,
            purpose=str(purpose),
            grade=Grade.OBSERVED,
        )
        return (own, *origin_queries.stamp_sets(ledger)[trained.stamps].stamps)
    by_teacher = Stamp(
        origin=Origin.TEACHER,
        lab=teacher.lab,
        model=teacher.weights_digest if teacher.kind is TeacherKind.LOCAL else teacher.model,
        channel=teacher.channel,
        account=account,
        terms=teacher.terms,
        day=day,
        purpose=str(purpose),
        grade=teacher.grade,
    )
    # The same model at the same place, registered as another lab's: what it gives is of either, and the stricter counts.
    labs = {fold_lab(teacher.lab)}
    others = []
    for known in origin_queries.teachers(ledger):
        if asked_at(known) == asked_at(teacher) is not None and fold_lab(known.lab) not in labs:
            labs.add(fold_lab(known.lab))
            others.append(msgspec.structs.replace(by_teacher, lab=known.lab, terms=known.terms, channel=known.channel))
    return (by_teacher, *others)
