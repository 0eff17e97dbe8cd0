"""Ask a teacher one short question, to see whether it is there."""

from typing import Any

from stillhouse.app.clients import make_client
from stillhouse.app.home import App
from stillhouse.app.run import prepare
from stillhouse.errors import TeacherError
from stillhouse.settings.recipe import CollectSection, DatasetSection, PromptsSection, Recipe, TeacherSection
from stillhouse.teachers.client import Failure, Reply


def probe_teacher(app: App, name: str) -> dict[str, Any]:
    """One answer of at most a few tokens. Policy is asked as for any collection. Raises TeacherError."""
    recipe = Recipe(
        teacher=TeacherSection(use=name),
        prompts=PromptsSection(suite="stillhouse", limit=1),
        dataset=DatasetSection(name="probe"),
        collect=CollectSection(max_tokens=16, in_flight=1, stall_seconds=30, temperature=0, budget="1"),
    )
    prepared = prepare(app, recipe)
    client = make_client(app, prepared.teacher, recipe.collect)
    asks = prepared.collection.asks
    received: list[Reply | Failure] = []
    try:
        client.answer(asks, {ask.key for ask in asks}, lambda sending: None, received.append)
    finally:
        client.close()
    reply = received[-1]
    if isinstance(reply, Failure):
        raise TeacherError(f"{name}: {reply.reason}.")
    return {"text": reply.text, "finish": reply.finish, "seconds": round(reply.seconds, 3)}
