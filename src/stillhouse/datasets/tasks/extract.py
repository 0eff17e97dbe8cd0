"""Get the code out of an answer: what its author meant as the final one.

Reasoning is cut off first. Then every fenced block, tagged part, and stretch of the text that parses as Python is a candidate;
the last one that defines the function wins, with the helpers that stand in blocks before it. Searches are plain or linear, so
that an answer of 10 MB takes milliseconds; parsing is bounded.
"""

import ast
import builtins
import html
import re
import textwrap
from collections.abc import Iterator

from stillhouse.conversations.code_blocks import CodeBlock, blocks, is_python, parsed, without_reasoning
from stillhouse.datasets.tasks.code_presentation import (
    as_python,
    out_of_json,
    plain_lines,
    up_to_the_last_that_parses,
)

_TAGGED = (
    ("<|python_tag|>", "<|eom_id|>"),
    ("[PYTHON]", "[/PYTHON]"),
    ("[BEGIN]", "[DONE]"),
    ("<code>", "</code>"),
    ("<answer>", "</answer>"),
)
# As pages have it, with escaped text in it.
_CODE_ELEMENT = re.compile(r"(<code\s[^<>]{0,200}>)[^<]{0,200000}(?=</code>)")
# A fence of one line.
_ONE_LINE = re.compile(r"```(?:python|py)?[ \t]+([^`\n]{1,2000})```")
# A line at the left margin that can begin a statement above a function.
_STATEMENT = re.compile(
    r"(?:import|from|def|class|async|if|for|while|try|except|finally|else|elif|with)\b|[A-Za-z_][\w.]{0,80}\s*(?::[^=]{0,80})?=[^=]"
    r"|[)\]}]"
)
# So far above a function its helpers are looked for, and so often where they begin.
_LINES_ABOVE, _TOPS_TRIED = 2_000, 32


def code_of(text: str, entry_point: str, prompt: str = "") -> str:
    """The code of an answer; "" where there is none. ``prompt`` is code that the answer may go on from, such as a signature."""
    answer = plain_lines(without_reasoning(text))
    answer = _CODE_ELEMENT.sub(lambda found: html.unescape(found[0].replace(found[1], "<code>", 1)), answer)
    if answer.lstrip().startswith(("{", "[")):
        answer = out_of_json(answer, lambda code: _defines(code, entry_point))
    return _usable(_found(answer, entry_point, prompt), entry_point)


def _found(answer: str, entry_point: str, prompt: str) -> str:
    every = blocks(answer)
    fenced = [block._replace(code=as_python(block.code)) for block in every if is_python(block.language)]
    found = _last_that_defines(fenced, entry_point)
    if found:
        return found
    for text in (*(block.code for block in reversed(every)), *_ONE_LINE.findall(answer), *([] if every else [answer])):
        inside = out_of_json(text, lambda code: _defines(code, entry_point)).strip()
        if parsed(inside) is not None and _defines(inside, entry_point):
            return f"{inside}\n"
    for start, end in _TAGGED:
        inside = answer.rpartition(start)[2].partition(end)[0] if start in answer else ""
        if _defines(inside, entry_point):
            return textwrap.dedent(inside).strip("\n") + "\n"
    found = _without_fence(answer, entry_point)
    if found:
        return found
    body = next((block.code for block in reversed(fenced) if block.code.strip()), "")
    return _with_signature(body or ("" if fenced else answer), entry_point, prompt) or body


def _usable(code: str, entry_point: str) -> str:
    """Code whose function can be called: a method of a class by its own name, and nothing that waits for input when it loads."""
    tree = parsed(code)
    if tree is None:
        return _up_to_prose(code) if code else code
    lines = code.split("\n")
    for node in _asking(tree):
        lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    made = {name for node in tree.body for name in _defined(node)}
    having = [node for node in tree.body if isinstance(node, ast.ClassDef) and entry_point in _methods(node)]
    if having and entry_point not in made:  # of several classes the last: those before it are what it is derived from
        lines.append(f"{entry_point} = {having[-1].name}().{entry_point}\n")
    return "\n".join(lines)


def _asking(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that wait for input when the module loads, and those that use what they would have got."""
    missing: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        inside = list(ast.walk(node))
        made = {inner.id for inner in inside if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}
        used = {inner.id for inner in inside if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)}
        asks = isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign | ast.AugAssign) and any(
            isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "input"
            for inner in inside
        )
        if asks or used & missing:
            missing |= made
            yield node
        else:
            missing -= made  # it is made again


def _up_to_prose(code: str) -> str:
    """Code without the prose behind it, where a fence was never closed."""
    cut = code[: _end_of_code(code, 0)]
    return f"{cut}\n" if parsed(cut) is not None else code


def _last_that_defines(fenced: list[CodeBlock], entry_point: str) -> str:
    """The last block that defines the function; a whole one before one that was cut off, one that does something before a stub, a
    function before a method.
    """
    best, code = (-1, -1, -1, -1), ""
    for place, block in enumerate(fenced):
        if _defines(block.code, entry_point):
            rank = (not _is_stub(block.code, entry_point), block.closed, _at_top(block.code, entry_point), place)
            if rank > best:
                best, code = rank, block.code
    place = best[-1]
    return _with_helpers(fenced[:place], fenced[place + 1 :], code) if code else ""


def _at_top(code: str, entry_point: str) -> bool:
    tree = parsed(code)
    return tree is None or any(entry_point in _defined(node) for node in tree.body)


def _is_stub(code: str, entry_point: str) -> bool:
    """Is the function only announced: does it hold nothing but a docstring, ``pass`` or ``...``?"""
    tree = parsed(code)
    found = [
        node
        for node in ast.walk(tree or ast.Module([], []))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == entry_point
    ]
    return bool(found) and all(
        isinstance(inner, ast.Pass | ast.Raise)
        or (isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant))
        for inner in found[-1].body
    )


def _with_helpers(before: list[CodeBlock], after: list[CodeBlock], code: str) -> str:
    """A block behind what it needs of the blocks before it, or, where none of those has it, of those after it: imports,
    definitions and tables that it uses and does not make itself.
    """
    tree = parsed(code)
    if tree is None or not (before or after):
        return code
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used -= {name for node in tree.body for name in _names(node)}
    used -= set(dir(builtins))
    parts: list[str] = []
    code += _mended_later(tree, after)
    for block in (*reversed(before), *after):
        other = parsed(block.code)
        needed = (
            [node for node in other.body if used & {*_names(node)} or (used and _brings_all(node))] if other else []
        )
        if needed:
            parts = [*(ast.unparse(node) for node in needed), *parts]
            made = {name for node in needed for name in _names(node)}
            used = (used - made) | {
                inner.id for node in needed for inner in ast.walk(node) if isinstance(inner, ast.Name)
            } - made
    return "\n".join([*parts, code]) if parts else code


def _mended_later(tree: ast.Module, after: list[CodeBlock]) -> str:
    """Helpers of a block that stand in a later one again, with as many arguments: what is said last holds."""
    own = {node.name: len(node.args.args) for node in tree.body if isinstance(node, ast.FunctionDef)}
    called = {inner.id for inner in ast.walk(tree) if isinstance(inner, ast.Name)}
    later = [node for block in after if block.closed for node in (parsed(block.code) or ast.Module([], [])).body]
    again = [
        node
        for node in later
        if isinstance(node, ast.FunctionDef)
        and node.name in called
        and own.get(node.name) == len(node.args.args)
        and not _is_stub(ast.unparse(node), node.name)
    ]
    return "".join(f"\n{ast.unparse(node)}\n" for node in again)


def _brings_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)


def _names(node: ast.stmt) -> Iterator[str]:
    """What a statement at the top of a module makes, or fills: a table by a loop, an import that is tried."""
    yield from _defined(node)
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.If | ast.Try | ast.For | ast.While | ast.With):
        for part in ("body", "orelse", "handlers", "finalbody"):
            for inner in getattr(node, part, ()):
                yield from _names(inner) if isinstance(inner, ast.stmt) else ()
        yield from (
            inner.value.id
            for inner in ast.walk(node)
            if isinstance(inner, ast.Subscript | ast.Attribute)
            and isinstance(inner.ctx if isinstance(inner, ast.Subscript) else ast.Store(), ast.Store)
            and isinstance(inner.value, ast.Name)
        )


def _defined(node: ast.stmt) -> Iterator[str]:
    """What a statement defines by itself: what it only imports, its author defined elsewhere."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (
            inner.id for target in node.targets for inner in ast.walk(target)
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
        )  # fmt: skip
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id
    elif isinstance(node, ast.If | ast.Try):
        for inner in (*node.body, *node.orelse):
            yield from _defined(inner)


def _defines(code: str, entry_point: str) -> bool:
    """Does code define the function: as a function, a class, or by assignment?"""
    tree = parsed(code)
    if tree is None:
        return re.search(rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{re.escape(entry_point)}\b", code, re.MULTILINE) is not None
    return any(entry_point in (*_defined(node), *_methods(node)) for node in tree.body)


def _methods(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        yield from (one.name for one in node.body if isinstance(one, ast.FunctionDef))


def _without_fence(answer: str, entry_point: str) -> str:
    """Code that stands in the text itself: from its first line of code to the last one that still parses."""
    name = re.escape(entry_point)
    defining = re.compile(rf"^(?:(?:async[ \t]+)?def[ \t]+{name}\b|{name}[ \t]*=[ \t]*lambda\b)", re.MULTILINE)
    text = textwrap.dedent(answer)
    places = [match.start() for match in defining.finditer(text)] or _classes_with(text, name)
    if not places:  # within a line, behind other words
        start = text.find(f"def {entry_point}")
        code = text[start : _end_of_code(text, start)] if start >= 0 else ""
        return code if code and parsed(code) is not None else ""
    lines = text[: _end_of_code(text, places[-1])].split("\n")
    first = text[: places[-1]].count("\n")
    start = first
    for place in range(first - 1, max(-1, first - _LINES_ABOVE), -1):  # upwards while it can be code: imports, helpers
        line = lines[place]
        if line.strip() and not line.startswith((" ", "\t", "#", "@")) and _STATEMENT.match(line) is None:
            break
        start = place
    tops = [
        place for place in range(start, first + 1) if lines[place].strip() and not lines[place].startswith((" ", "\t"))
    ]
    for top in tops[:_TOPS_TRIED]:
        code = "\n".join(lines[top:]).strip("\n") + "\n"
        if parsed(code) is not None:
            return code
    return up_to_the_last_that_parses("\n".join(lines[first:]).strip("\n") + "\n")


def _classes_with(text: str, name: str) -> list[int]:
    """Where classes begin, at the left margin, that have the function as a method."""
    method = re.search(rf"^[ \t]+(?:async[ \t]+)?def[ \t]+{name}\b", text, re.MULTILINE)
    start = text.rfind("\nclass ", 0, method.start()) + 1 if method else 0
    return [start] if method and text.startswith("class ", start) else []


def _end_of_code(text: str, start: int) -> int:
    """Where the code that begins here ends: before the first line at the left margin that is prose."""
    end = start
    for match in re.finditer(r"^.*$", text[start:], re.MULTILINE):
        line, place = match[0], start + match.start()
        at_margin = line.strip() and not line.startswith((" ", "\t"))
        if at_margin and place != start and not _goes_on(line):
            return end
        if line.strip():
            end = start + match.end()
    return end


def _goes_on(line: str) -> bool:
    """Could a line at the left margin be code?"""
    if line.startswith(
        ("@", "#", ")", "]", "}", "def ", "class ", "async ", "import ", "from ", "if ", "for ", "else", "elif")
    ):
        return True
    return parsed(line) is not None and not re.fullmatch(r"[\w.,;:!?'\"-]+", line.strip())


def _with_signature(body: str, entry_point: str, prompt: str) -> str:
    """The body of a function whose signature stands in the prompt."""
    if not body.strip() or not prompt or not _defines(f"{prompt.rstrip()}\n    pass\n", entry_point):
        return ""
    for text in (body, textwrap.indent(textwrap.dedent(body), "    ")):
        code = f"{prompt.rstrip()}\n{text}"
        if text[:1] in (" ", "\t", "\n") and parsed(code) is not None:
            return code
    return ""


def split_future(code: str) -> tuple[str, str]:
    """``from __future__`` imports at the top of code, and the rest: nothing but a docstring may stand before them."""
    tree = parsed(code)
    if tree is None:
        return "", code
    lines = code.split("\n")
    found = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            found.append("\n".join(lines[node.lineno - 1 : node.end_lineno]))
            for place in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[place] = ""
    return "\n".join(found), "\n".join(lines)
