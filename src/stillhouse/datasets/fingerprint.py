"""Fingerprints of text and code: n-gram sets, and a normal form of Python that ignores names, comments and layout."""

import ast
import re
from collections.abc import Container, Iterable, Mapping

from stillhouse.canon import digest_bytes

# Marks are left out: ten tokens of brackets, commas and small numbers are in every second example of a list.
_WORD = re.compile(r"[A-Za-z_]+|\d+")
# Python goes 1,000 calls deep, and three for each level of a program; the callers have the rest.
_DEEPEST = 200


def words(text: str) -> list[str]:
    """Lower-case words and numbers, in order."""
    return _WORD.findall(text.lower())


def ngrams(text: str, size: int) -> frozenset[tuple[str, ...]]:
    """All runs of ``size`` words; a shorter text is one run of all it has."""
    found = words(text)
    if len(found) <= size:
        return frozenset([tuple(found)]) if found else frozenset()
    return frozenset(tuple(found[start : start + size]) for start in range(len(found) - size + 1))


def shared_ngram(
    text: str, known: Mapping[tuple[str, ...], object], starts: Container[str], size: int
) -> tuple[str, ...] | None:
    """The first run of ``size`` words of a text that is among the ``known``, whose first words are ``starts``.

    Only where a known run could begin is one made: a long text costs little more than reading it.
    """
    found = words(text)
    if len(found) <= size:
        return tuple(found) if tuple(found) in known else None
    for start in range(len(found) - size + 1):
        if found[start] in starts:
            gram = tuple(found[start : start + size])
            if gram in known:
                return gram
    return None


def common_ngrams(texts: Iterable[str], size: int, share: float) -> frozenset[tuple[str, ...]]:
    """Runs that stand in more than this share of the texts: boilerplate, which proves nothing about any of them."""
    counts: dict[tuple[str, ...], int] = {}
    total = 0
    for text in texts:
        total += 1
        for gram in ngrams(text, size):
            counts[gram] = counts.get(gram, 0) + 1
    return frozenset(gram for gram, count in counts.items() if count > max(1, share * total))


def code_digest(code: str) -> str:
    """The digest of a program's normal form: equal for programs that differ in names, comments, docstrings and layout.

    Code that does not parse, or is nested very deeply, is taken as it stands, but for white space.
    """
    try:
        tree = ast.parse(code)
        if _is_deep(tree):
            raise RecursionError
        form = ast.dump(_Normal().visit(tree), annotate_fields=False)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        form = " ".join(code.split())
    return digest_bytes(form.encode("utf-8", "surrogatepass"))


def _is_deep(tree: ast.AST) -> bool:
    """Is a program nested so deeply that it would depend on the caller's own depth whether Python can go through it?"""
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return False
    return True


class _Normal(ast.NodeTransformer):
    """Gives every name that the program itself binds the number of its first appearance."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._bound: set[str] = set()

    def visit_Module(self, node: ast.Module) -> ast.AST:
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._bound.add(inner.name)
            elif isinstance(inner, ast.arg):
                self._bound.add(inner.arg)
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                self._bound.add(inner.id)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self._number(node.name)
        node.returns = None
        if len(node.body) > 1 and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
            del node.body[0]
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg, node.annotation = self._number(node.arg), None
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._number(node.id)
        return node

    def _number(self, name: str) -> str:
        return self._names.setdefault(name, f"v{len(self._names)}") if name in self._bound else name
