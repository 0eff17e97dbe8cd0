"""Prompt and completion: two texts, or as TRL has them two lists of messages, with ``tools``.

Source: TRL, "Dataset formats".
"""

from typing import Any

from stillhouse.conversations.formats import openai_chat
from stillhouse.conversations.formats.format import CannotRead, CannotWrite, Format, items, mapping
from stillhouse.conversations.record import Conversation, Role


def read(given: Any) -> list[Conversation]:
    """The conversation of a row."""
    row = mapping(given)
    asked, said = row.get("prompt"), row.get("completion", row.get("response"))
    if not asked or not said:
        raise CannotRead("there is no prompt with its completion")
    texts = [{"role": "user", "content": asked}] if _is_text(asked) else items(asked)
    answers = [{"role": "assistant", "content": said}] if _is_text(said) else items(said)
    return openai_chat.read({"messages": [*texts, *answers], "tools": row.get("tools")})


def write(conversation: Conversation) -> dict[str, Any]:
    """A row of messages; its completion is the last answer."""
    if len(conversation.turns) < 2 or conversation.turns[-1].role is not Role.ASSISTANT:
        raise CannotWrite("a conversation that does not end with an answer to something")
    row = openai_chat.write(conversation)
    *prompt, completion = row.pop("messages")
    return {"prompt": prompt, "completion": [completion], **row}


FORMAT = Format("prompt-completion", read, write, openai_chat.LEAVES_OUT)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not value.lstrip().startswith('[{"role"')
