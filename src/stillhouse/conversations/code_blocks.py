"""Fenced blocks of code in an answer, and the answer without its reasoning. Pure.

Searches are plain or linear, so that an answer of 10 MB takes no longer than seconds; parsing is bounded.
"""

import ast
import functools
import itertools
import re
import textwrap
import warnings
from typing import NamedTuple

# Longer code is not parsed.
_LONGEST_PARSED = 200_000
_FENCE = re.compile(r"^[ \t>]{0,40}(?:[-*+]|\d{1,3}[.)])?[ \t>]{0,40}(`{3,}|~{3,})[ \t]*([^\n`]{0,200})$", re.MULTILINE)
# What opens reasoning, and what closes it. A tag in quotes is somebody's string: an answer may be code that parses such text.
_TAGS = "think|thinking|thought|antThinking|reasoning|scratchpad|seed:think"
_THINKING = re.compile(
    rf"""(?<!['"`])(?:<(?P<tag>{_TAGS})>|\[(?P<square>think)\]|◁(?P<kimi>think)▷|<\|begin_of_(?P<bar>thought)\|>"""
    r"|<\|channel\|>(?P<channel>analysis|commentary)<\|message\|>|<\|channel>(?P<turn>thought)\b)",
    re.IGNORECASE,
)
_CLOSINGS = {
    "square": r"\[/{}\]", "kimi": "◁/{}▷", "bar": r"<\|end_of_{}\|>", "tag": "</{}>", "turn": r"<channel\|>",
    "channel": r"<\|end\|>|(?=<\|start\|>)|(?=<\|channel\|>)",
}  # fmt: skip
_COMMENT = re.compile(r"(?:^|\s)#\s")
_ONLY_CLOSED = re.compile(rf"</(?:{_TAGS})>|\[/think\]|◁/think▷", re.IGNORECASE)
# In ASCII, each of the above has one of these in lower case: most answers have none, and finding that out takes no time.
_HINTS = ("think>", "thinking>", "thought", "reasoning>", "scratchpad>", "[think]", "[/think]", "<|channel")
_FINAL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>")
# What is left of such an answer where the special tokens were taken out.
_BARE_ANALYSIS, _BARE_FINAL = "analysis", "assistantfinal"
# So far beside a tag it is looked for what it stands in.
_BESIDE = 500
_CLOSINGS_TRIED, _MOST_FENCES = 8, 4_000
# Fences of other languages hold no Python, whatever else they hold; an unnamed fence may.
_PYTHON = re.compile(r"|(?:i?python|py|pycon)[\w.+-]*|code|text|txt|plaintext|tool_code")
_USUAL_FENCE = 3
_BEHIND = re.compile(r"(`{3,40}|~{3,40})[ \t]{0,40}$", re.MULTILINE)
_OUTER = frozenset({"markdown", "md"})


class CodeBlock(NamedTuple):
    """A fenced block: its language, its contents, and whether its fence is closed."""

    language: str
    code: str
    closed: bool


def is_python(language: str) -> bool:
    """May a fence of this language hold Python?"""
    return _PYTHON.fullmatch(language) is not None


@functools.lru_cache(maxsize=8)  # whoever marks, reads and judges an answer asks for it, one after the other
def without_reasoning(text: str) -> str:
    """An answer without what its author thought aloud. Of reasoning that never ends nothing is the answer."""
    if not _may_have_tags(text):
        return _without_bare_analysis(text)
    position, kept = 0, []
    for opening in _THINKING.finditer(text):
        if opening.start() < position or _is_quoted(text, opening):
            continue
        kept.append(text[position : opening.start()])
        kind = str(opening.lastgroup)
        closings = re.compile(_CLOSINGS[kind].format(opening[kind]), re.IGNORECASE).finditer(text, opening.end())
        closing = next((found for found in closings if not _is_quoted(text, found)), None)
        if closing is None and text[text.rfind("\n", 0, opening.start()) + 1 : opening.start()].strip():
            kept.append(text[opening.start() : opening.end()])  # within a sentence, it is spoken of
            position = opening.end()
            continue
        if closing is None:
            return "".join(kept)
        position = closing.end()
    rest = "".join([*kept, text[position:]])
    rest = rest[_end_of_unopened(rest) :]
    final = _without_bare_analysis(rest)
    return _FINAL.sub("", rest) if final is rest and "<|channel|>" in rest else final


def _may_have_tags(text: str) -> bool:
    if "<" not in text and "[" not in text and "◁" not in text:
        return False
    if not text.isascii():
        return True
    lowered = text.lower()
    return any(hint in lowered for hint in _HINTS)


def _without_bare_analysis(text: str) -> str:
    return text.rpartition(_BARE_FINAL)[2] if text.startswith(_BARE_ANALYSIS) and _BARE_FINAL in text else text


def _end_of_unopened(text: str) -> int:
    """Where reasoning ends that the template itself opened, so that only its end stands in the answer; 0 where there is none."""
    end = fences = looked = 0
    for closing in _ONLY_CLOSED.finditer(text):
        fences += text.count("```", looked, closing.start())
        looked = closing.start()
        before, after = _beside(text, closing)
        in_code = bool(before.strip() and after.strip()) and (fences % 2 == 1 or _COMMENT.search(before) is not None)
        if not in_code and not _is_quoted(text, closing):
            end = closing.end()
    return end


def _is_quoted(text: str, tag: "re.Match[str]") -> bool:
    """Does a tag stand within a string or between back-ticks, on its line? A fence beside it is none of those."""
    if not tag[0]:
        return False
    before, after = _beside(text, tag)
    if before.endswith("```") or after.startswith("```"):
        return False
    if before.endswith("'") and after.startswith("'"):  # elsewhere it is an apostrophe
        return True
    return any(before.count(mark) % 2 == 1 and mark in after for mark in ('"', "`"))


def _beside(text: str, tag: "re.Match[str]") -> tuple[str, str]:
    """What stands before and behind a tag on its line."""
    before = text[max(0, tag.start() - _BESIDE) : tag.start()].rpartition("\n")[2]
    return before, text[tag.end() : tag.end() + _BESIDE].partition("\n")[0]


def blocks(text: str) -> list[CodeBlock]:
    """All fenced blocks, of backticks or tildes, in lists and quotations; one that was never closed runs to the end."""
    found: list[CodeBlock] = []
    fences = list(_FENCE.finditer(text))[-_MOST_FENCES:]
    place = 0
    while place < len(fences):
        opening = fences[place]
        mark, language = opening[1], opening[2].strip().split(" ")[0].lower().strip("{}.")
        bare = (
            not language
            and len(mark) > _USUAL_FENCE
            and place + 1 < len(fences)
            and len(fences[place + 1][1]) < len(mark)
        )
        if language in _OUTER or bare:  # its contents are an answer of their own
            place += 1
            continue
        later = (other for other in range(place + 1, len(fences)) if _closes(fences[other], mark))
        closings = list(itertools.islice(later, _CLOSINGS_TRIED if is_python(language) else 1))
        following = _right_closing(text, fences, opening, closings)
        another = _begun_anew(text, fences, place, following) if is_python(language) else None
        if another is not None:
            found.append(CodeBlock(language, _inside(text, opening, fences[another].start()), closed=False))
            place = another
            continue
        closed = following < len(fences)
        end = fences[following].start() if closed else len(text)
        behind = None if closed else _BEHIND.search(text, opening.end())
        if behind is not None and behind[1].startswith(mark):  # it is closed at the end of its last line
            closed, end = True, behind.start()
        found.append(CodeBlock(language, _inside(text, opening, end), closed))
        place = following + 1
    return found


def _right_closing(text: str, fences: "list[re.Match[str]]", opening: "re.Match[str]", closings: list[int]) -> int:
    """The first closing fence up to which the code parses, since a docstring can hold fences; else the first one."""
    for closing in closings[:_CLOSINGS_TRIED] if len(closings) > 1 else ():
        if parsed(_inside(text, opening, fences[closing].start())) is not None:
            return closing
    return closings[0] if closings else len(fences)


def _begun_anew(text: str, fences: "list[re.Match[str]]", place: int, following: int) -> int | None:
    """The next fence that opens a block, where this one was never closed: what would be in both is no code."""
    another = next((at for at in range(place + 1, following) if fences[at][2].strip()), None)
    if another is None or another > place + _CLOSINGS_TRIED:
        return None
    end = fences[following].start() if following < len(fences) else len(text)
    return another if parsed(_inside(text, fences[place], end)) is None else None


def _closes(fence: "re.Match[str]", mark: str) -> bool:
    return fence[1].startswith(mark) and not fence[2].strip()


def _inside(text: str, opening: "re.Match[str]", end: int) -> str:
    """The lines between two fences, without the quotation marks and the indent that they share."""
    lines = text[opening.end() + 1 : end].split("\n")
    if opening[0].lstrip().startswith(">"):
        lines = [re.sub(r"^[ \t]*(?:> ?){1,8}", "", line) for line in lines]
    code = textwrap.dedent("\n".join(lines))
    if re.match(r"\s*>>> ", code):  # a session
        code = "\n".join(line[4:] for line in code.split("\n") if re.match(r">>> |\.\.\. ", line))
    return code


def parsed(code: str) -> ast.Module | None:
    """The tree of some code; None where it is no Python, or too long to look."""
    if len(code) > _LONGEST_PARSED:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
