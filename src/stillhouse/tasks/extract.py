"""Get the code out of an answer. Plain searches, no backtracking: an answer of 10 MB takes milliseconds."""

_FENCE = "```"


def blocks(text: str) -> list[str]:
    """The contents of all fenced blocks; one that was never closed runs to the end."""
    found, position = [], 0
    while (opening := text.find(_FENCE, position)) >= 0:
        start = text.find("\n", opening)
        if start < 0:
            break
        closing = text.find(_FENCE, start)
        found.append(text[start + 1 : closing if closing >= 0 else len(text)])
        if closing < 0:
            break
        position = closing + len(_FENCE)
    return found


def code_of(text: str, entry_point: str) -> str:
    """The code of an answer: the first block that defines the function, else the first block, else the text itself where
    it defines the function; "" where there is none.
    """
    defines = f"def {entry_point}"
    fenced = blocks(text)
    for block in fenced:
        if defines in block:
            return block
    if fenced and fenced[0].strip():
        return fenced[0]
    start = text.find(defines)
    return text[start:] if start >= 0 else ""
