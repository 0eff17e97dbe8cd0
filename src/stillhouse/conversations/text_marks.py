"""Marks by which a text is found again, however it is wrapped, spaced or cased. Pure.

Covers: spaces, line breaks, hyphens, punctuation, case, tags, special tokens and fences around it, whose turn it is said to be,
forms that Unicode holds for the same, and what was thought aloud before an answer, which is there or not. Does not cover: words
that were changed, added or left out; a text of fewer than ``WORDS`` words has no mark, since others write the same by
themselves.
"""

import contextlib
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator

from blake3 import blake3

from stillhouse.conversations.code_blocks import without_reasoning

# Of real short answers many are equal by chance: one-liners, refusals, the obvious loop.
WORDS = 40
_SILENT = ("system", "developer")
_WORD = re.compile(r"[^\W_]+")
_NO_LETTER = bytes(code for code in range(128) if not chr(code).isalnum())
# What stands around an answer and is none of its words: tags and special tokens, fences, whose turn it is.
_TAG = re.compile(r"<[/|!]?[a-zA-Z][^<>\n]{0,80}>|<</?SYS>>")
_INST = re.compile(r"\[/?INST\]")
_FENCE_LINE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[^\n]*$", re.MULTILINE)
_TURN = re.compile(
    r"\s*(?:#{1,6}|\*{1,2})?\s*(?:assistant|response|answer|output|solution|user|human|question|instruction|input|prompt|q|a)"
    r"\s*(?:\*{1,2})?\s*:\s*(?:\*{1,2})?",
    re.IGNORECASE,
)
# Of longer code the beginning is looked at: hostile text takes milliseconds, not minutes.
_LONGEST = 20_000
# Shorter code is written alike by everybody: two lines with a return have some twenty words and signs.
TOKENS = 30
_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
# Code without a fence begins a line like this.
_BARE_CODE = re.compile(
    r"^(?:def |class |import |from \w+ import |async def |@\w|#include|package |func |fn |function |public )",
    re.MULTILINE,
)
_BEGINS_CODE = ("def ", "class ", "import ", "from ", "async def ", "@", "#include", "package ", "func ", "fn ", "function ",
                "public ")  # fmt: skip
# Comments and docstrings are passed over; strings, words, numbers and signs are read.
_BESIDE = re.compile(
    r"""\#(?!include).*|//.*|/\*(?:.|\n){0,2000}?\*/|\"{3}(?:.|\n){0,2000}?\"{3}|'{3}(?:.|\n){0,2000}?'{3}"""
    r"""|("(?:[^"\\\n]|\\.){0,200}+"|'(?:[^'\\\n]|\\.){0,200}+')"""
)
_TOKEN = re.compile(r"\w+|\S")
# Names that stay as they are: written out, since Python's own lists change with its version, and a mark must not.
_KEPT = frozenset(
    """False None True and as assert async await break class continue def del elif else except finally for from global if
    import in is lambda nonlocal not or pass raise return try
    while with yield self cls super
    abs all any bool bytes chr dict divmod enumerate filter float format frozenset hex int isinstance iter len list
    map max min next open ord pow print range repr reversed round set slice sorted str sum tuple type zip
    Exception ValueError TypeError KeyError IndexError StopIteration RuntimeError
    function const let var null true false this new switch do char string double void public private static struct func fn mut
    impl enum use package include std vector nil interface extends""".split()  # noqa: SIM905 - one name a line is no better
)


def text_mark(text: str) -> str:
    """The mark of an answer: 128 bits in hex, or "" where it is too short to be known again."""
    answer = without_reasoning(text)
    said = next((one for one in (answer, text) if len(one.split(None, WORDS - 1)) == WORDS), "")
    return _mark(said) if said else ""


def turns_mark(turns: Iterable[tuple[str, str]]) -> str:
    """The mark of what a conversation asks: its turns (role, text) but for system texts, which change nothing of whose it is."""
    said = (without_reasoning(text) if role == "assistant" else text for role, text in turns if role not in _SILENT)
    return _mark("\n".join(said))


def _mark(text: str) -> str:
    """Of letters and digits alone, so that no space, hyphen or invisible character between them makes another text."""
    plain = html.unescape(text)
    if not plain.isascii():
        plain = unicodedata.normalize("NFKC", plain)
    if "```" in plain or "~~~" in plain:
        plain = _FENCE_LINE.sub(" ", plain)
    if "<" in plain:
        plain = _TAG.sub(" ", plain)
    if "INST]" in plain:
        plain = _INST.sub(" ", plain)
    begins = _TURN.match(plain)
    said = plain[begins.end() :] if begins else plain
    if said.isascii():  # the same as below, at a tenth of the time
        return blake3(said.encode().lower().translate(None, _NO_LETTER)).hexdigest(16)
    return blake3("".join(_WORD.findall(said.casefold())).encode("utf-8", "replace")).hexdigest(16)


def marks_before_2026_12(turns: Iterable[tuple[str, str]], answer: str) -> tuple[str, str]:
    """The marks of a question and its answer as they were made until November 2026: aliases of them stand in logs."""
    question = "\n".join(text for role, text in turns if role not in _SILENT)
    return _earlier(question), _earlier(answer) if len(answer.split()) >= WORDS else ""


def _earlier(text: str) -> str:
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return blake3(" ".join(words).encode("utf-8", "replace")).hexdigest(16)


def code_mark(text: str) -> str:
    """The mark of an answer's code in a normal form: 128 bits in hex, or "" where there is none, or too little of it.

    Equal for code that differs in layout, comments, docstrings, and in names but for keywords, Python's own and attributes. Many
    people write the same short function: equal marks say that texts may be related, and no more. Words and signs are read one by
    one and nothing is parsed, as every answer that a home holds is marked when its view is built.
    """
    text = without_reasoning(text)
    if "```" in text:
        code = "\n".join(_FENCED.findall(text))
    else:  # looking for the words first is faster than looking for lines that begin with them
        may_be = text.startswith(_BEGINS_CODE) or ("\n" in text and any(f"\n{word}" in text for word in _BEGINS_CODE))
        code = text if may_be and _BARE_CODE.search(text) else ""
    if not code:
        return ""
    words: list[str] = []
    for place, part in enumerate(_BESIDE.split(code[:_LONGEST])):
        if part and place % 2:
            words.append(part)
        elif part:
            words += _TOKEN.findall(part)
    attributes = [(place + 1, words[place + 1]) for place in _places(words, ".") if place + 1 < len(words)]
    for place, _ in attributes:
        words[place] = "."
    named = (word for word in dict.fromkeys(words) if word not in _KEPT and word.isidentifier())
    numbers = {word: f"${number}" for number, word in enumerate(named)}
    form = [numbers.get(word, word) for word in words]
    for place, word in attributes:
        form[place] = word
    return blake3(" ".join(form).encode("utf-8", "replace")).hexdigest(16) if len(form) >= TOKENS else ""


def _places(words: list[str], wanted: str) -> Iterator[int]:
    """Where in a list a word stands."""
    place = -1
    with contextlib.suppress(ValueError):
        while True:
            place = words.index(wanted, place + 1)
            yield place
