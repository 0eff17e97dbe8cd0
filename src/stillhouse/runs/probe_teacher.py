"""Ask a teacher one short question: is it there, and which fields of a request does its server take?"""

from typing import Any

import msgspec

from stillhouse.errors import FieldRejected, TeacherError, TeacherRejected
from stillhouse.home.open_home import Home
from stillhouse.nouns import Teacher
from stillhouse.runs.clients import make_client
from stillhouse.runs.prepared_run import PreparedRun
from stillhouse.runs.recipe import CollectSection, DatasetSection, PromptsSection, Recipe, TeacherSection
from stillhouse.runs.run_recipe import prepare
from stillhouse.teachers.client import Failure, Reply
from stillhouse.teachers.dialect import LIMITS, OPTIONAL
from stillhouse.teachers.register import register


def probe_teacher(home: Home, name: str) -> dict[str, Any]:
    """One answer of at most a few tokens, asked for without each field that the server rejects; those are registered.

    Policy is asked as for any collection. Raises TeacherError.
    """
    recipe = Recipe(
        teacher=TeacherSection(use=name),
        prompts=PromptsSection(suite="stillhouse", limit=1),
        dataset=DatasetSection(name="probe"),
        collect=CollectSection(max_tokens=16, in_flight=1, stall_seconds=30, budget="1"),
    )
    prepared = prepare(home, recipe)
    found = prepared.teacher
    while True:
        try:
            reply = _ask(home, recipe, prepared, found)
            break
        except FieldRejected as failure:
            found = _without(found, failure)
    if found != prepared.teacher:
        register(home, found, unmetered=not found.price_in and not found.price_out)
    taken = {"limit_field": found.limit_field, "rejects": list(found.rejects)}
    return {"text": reply.text, "finish": reply.finish, "seconds": round(reply.seconds, 3), **taken}


def _ask(home: Home, recipe: Recipe, prepared: PreparedRun, teacher: Teacher) -> Reply:
    client = make_client(home, teacher, recipe.collect)
    asks = prepared.collection.asks
    received: list[Reply | Failure] = []
    try:
        client.answer(asks, {ask.key for ask in asks}, lambda sending: None, received.append)
    finally:
        client.close()
    last = received[-1]
    if isinstance(last, Failure):
        raise TeacherError(f"{teacher.name}: {last.reason}.", next_step=_advice(last))
    return last


def _advice(failure: Failure) -> str:
    """What to do about a probe's failure: one that the server will repeat is not worth asking again."""
    return TeacherRejected.next_step if 400 <= failure.status < 429 else ""


def _without(teacher: Teacher, failure: FieldRejected) -> Teacher:
    """The teacher with what its server said. Raises the failure where there is no other way to ask."""
    if failure.field in OPTIONAL and failure.field not in teacher.rejects:
        return msgspec.structs.replace(teacher, rejects=tuple(sorted({*teacher.rejects, failure.field})))
    if failure.field == LIMITS[0] and not teacher.limit_field:
        return msgspec.structs.replace(teacher, limit_field=LIMITS[1])
    raise failure
