"""Marks by which a text is found again, however it is wrapped, spaced or cased. Pure.

Covers: line breaks, indentation, punctuation, case and forms that Unicode holds for the same. Does not cover: words that were
changed, added or left out; a text of fewer than ``WORDS`` words has no mark, since others write the same by themselves.
"""

import re
import unicodedata
from collections.abc import Iterable

from blake3 import blake3

# Of real short answers many are equal by chance: one-liners, refusals, the obvious loop.
WORDS = 40
_WORD = re.compile(r"\w+")


def text_mark(text: str) -> str:
    """The mark of an answer: 128 bits in hex, or "" where it is too short to be known again."""
    return _mark(text) if len(text.split()) >= WORDS else ""


def turns_mark(turns: Iterable[tuple[str, str]]) -> str:
    """The mark of what a conversation asks: its turns (role, text) but for system texts, which change nothing of whose it is."""
    return _mark("\n".join(text for role, text in turns if role not in ("system", "developer")))


def _mark(text: str) -> str:
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return blake3(" ".join(words).encode("utf-8", "replace")).hexdigest(16)
