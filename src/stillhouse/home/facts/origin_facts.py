"""Entries about who answers, and what everything is stamped with."""

from stillhouse.conversations.text_marks import turns_mark
from stillhouse.home.facts.declarations import Fact, StampSetId, Table
from stillhouse.nouns import Message, Stamp, Teacher


class TeacherRegistered(Fact, frozen=True, tag="teacher-registered"):
    """A teacher was registered, or registered again under its name."""

    teacher: Teacher

    tables = (Table("teachers", indexes=("name",), columns={"name": "teacher.name"}),)


class StampsSeen(Fact, frozen=True, tag="stamps-seen"):
    """A stamp set was used for the first time; from now on its integer stands for it."""

    id: StampSetId
    digest: str
    stamps: tuple[Stamp, ...]

    tables = (Table("stamp_sets", indexes=("id",)),)


def _mark_of_prompt(seen: "PromptSeen") -> str:
    return turns_mark((message.role, message.content) for message in seen.messages)


class PromptSeen(Fact, frozen=True, tag="prompt-seen"):
    """A prompt was used for the first time; from now on its digest stands for it."""

    prompt: str
    messages: tuple[Message, ...]

    tables = (Table("prompts", indexes=("prompt",), columns={"mark": _mark_of_prompt}),)
