"""Code as answers present it, and as Python reads it: numbered lines, diffs, notebook commands, odd spaces, JSON around it. Pure.

Whatever is taken away is taken away only where the code does not parse with it and does without.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from stillhouse.conversations.code_blocks import parsed

# Longer text is not looked at as JSON; so many places are tried at which some could begin.
_LONGEST_JSON, _STARTS_TRIED = 200_000, 8
_NAMED = (
    "code",
    "solution",
    "answer",
    "completion",
    "response",
    "program",
    "final_answer",
    "solution_code",
    "python_code",
)
_ODD_INDENT = re.compile(
    r"^[ \t\u1680\u2000-\u200a\u202f\u205f\u3000]*[\u1680\u2000-\u200a\u202f\u205f\u3000]", re.MULTILINE
)
_NUMBERED = re.compile(r"[ \t]*\d{1,4}(?: {0,3}[:|.)\u2502]|\t)? ?")
_COMMAND = re.compile(r"^[ \t]*[%!].*$", re.MULTILINE)
# So many lines at the end can be something else than code.
_LINES_CUT = 40


def plain_lines(text: str) -> str:
    """Text with the usual line ends, and with indents of usual spaces."""
    text = text.replace("\ufeff", "").replace("\xa0", " ").replace("\r\n", "\n").replace("\r", "\n")
    return _ODD_INDENT.sub(lambda found: " " * len(found[0]), text)


def as_python(code: str) -> str:
    """Code without what was put around its lines, where it parses without and not with it; else as it is."""
    if not code.strip() or parsed(code) is not None:
        return code
    for change in (_without_commands, _without_numbers, _without_diff):
        changed = change(code)
        if changed != code and changed.strip() and parsed(changed) is not None:
            return changed
    return code


def up_to_the_last_that_parses(code: str) -> str:
    """Code without the lines at its end that are none; as it is where that does not help."""
    lines = code.rstrip("\n").split("\n")
    for last in range(len(lines) - 1, max(0, len(lines) - _LINES_CUT), -1):
        cut = "\n".join(lines[:last]) + "\n"
        if cut.strip() and parsed(cut) is not None:
            return cut
    return code


def out_of_json(text: str, is_it: Callable[[str], bool]) -> str:
    """The code of a JSON value with some, which may stand behind other words; the text where there is none."""
    if len(text) > _LONGEST_JSON or ("{" not in text and "[" not in text):
        return text
    decoder = json.JSONDecoder()
    for start in [found.start() for found in re.finditer(r"^[ \t]*(?=[{\[])", text, re.MULTILINE)][:_STARTS_TRIED]:
        try:
            value, _ = decoder.raw_decode(text[start:].lstrip(" \t"))
        except (ValueError, RecursionError):
            continue
        strings = list(_strings(value))
        named = [string for name, string in strings if name in _NAMED]
        for string in (*reversed(named), *(string for _, string in reversed(strings))):
            if is_it(string):
                return string
        if named and start == 0:
            return named[0]
    return text


def _strings(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    waiting = [(name, value)]
    while waiting:
        name, value = waiting.pop(0)
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, dict):
            waiting += [(str(key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(name, inner) for inner in value]


def _without_numbers(code: str) -> str:
    lines = [line for line in code.split("\n") if line.strip()]
    if not all(_NUMBERED.match(line) for line in lines):
        return code
    width = max(len(found[0]) for line in lines if (found := _NUMBERED.match(line)))
    # All lines lose as much, so that their indents stay what they were to each other.
    return "\n".join(
        line[width:] if not line[:width].strip(" \t0123456789:|.)\u2502") else line for line in code.split("\n")
    )


def _without_diff(code: str) -> str:
    lines = [line for line in code.split("\n") if not line.startswith(("+++", "---", "@@", "diff ", "index "))]
    if not all(line[:1] in ("+", "-", " ", "") for line in lines):
        return code
    return "\n".join(line[1:] for line in lines if not line.startswith("-"))


def _without_commands(code: str) -> str:
    return _COMMAND.sub("", code)
