"""The stamps that a teacher's answers of today carry."""

import msgspec

from stillhouse.clock import now
from stillhouse.home.ledger import origin_queries, training_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.nouns import Channel, Grade, Origin, Stamp, Teacher, TeacherKind, Use
from stillhouse.permission.decide import OWN_TERMS
from stillhouse.permission.known_hosts import asked_at
from stillhouse.permission.known_names import fold_lab

# The lab of models that were trained here.
OWN_LAB = "own"


def stamps_of(ledger: Ledger, teacher: Teacher, *, purpose: Use, account: str = "") -> tuple[Stamp, ...]:
    """The stamps of what a teacher gives today. What the log trained passes on those that it learned from, whatever
    name and licence its weights were registered under.
    """
    day = now()[:10]
    trained = training_queries.models_of_weights(ledger, teacher)
    if not trained:
        return _as_registered(ledger, teacher, purpose, account, day)
    own = Stamp(
        origin=Origin.OWN_MODEL,
        lab=OWN_LAB,
        model=trained[0].weights_digest,
        channel=Channel.OFFICIAL,
        terms=(OWN_TERMS,),
        day=day,
        purpose=str(purpose),
        grade=Grade.OBSERVED,
    )
    sets = origin_queries.stamp_sets(ledger)
    passed_on = [stamp for model in trained for stamp in sets[model.stamps].stamps]
    # What is registered under another name and terms is bound by those, too: a model adds, and takes nothing away.
    itself = any(origin_queries.is_itself(model, teacher) for model in trained)
    return (own, *passed_on, *(() if itself else _as_registered(ledger, teacher, purpose, account, day)))


def _as_registered(ledger: Ledger, teacher: Teacher, purpose: Use, account: str, day: str) -> tuple[Stamp, ...]:
    """The stamps that a registration alone gives."""
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
