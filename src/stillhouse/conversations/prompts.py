"""What stands for a prompt. Pure."""

from collections.abc import Sequence

from stillhouse.canon import digest_plain
from stillhouse.nouns import Message


def prompt_digest(messages: Sequence[Message]) -> str:
    """The digest that stands for a prompt, in every log and for ever."""
    return digest_plain(tuple(messages))
