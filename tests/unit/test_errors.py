"""Every error says what happened and what to do next, and the drawing is the tree."""

import re

from stillhouse import errors
from stillhouse.errors import StillhouseError


def everyone(cls=StillhouseError):
    yield cls
    for child in cls.__subclasses__():
        yield from everyone(child)


def drawn():
    """(depth, name, exit code or None) of every line of the drawing."""
    for line in errors.__doc__.partition("::")[2].partition("Adding one")[0].splitlines():
        found = re.match(r"^(?P<tree>[ |`-]*)(?P<name>[A-Z]\w+) +(?P<code>\d+)?", line)
        if found:
            yield len(found["tree"]) // 4, found["name"], int(found["code"]) if found["code"] else None


def test_the_drawing_is_the_tree():
    path: list[str] = []
    parents = {}
    for depth, name, code in drawn():
        path[depth - 1 :] = [name]
        cls = getattr(errors, name)
        parents[name] = path[-2] if len(path) > 1 else None
        assert code is None or cls.exit_code == code, name
    actual = {cls.__name__: cls.__bases__[0].__name__ for cls in everyone() if cls.__module__ == errors.__name__}
    assert parents.keys() == actual.keys()
    assert {n: p for n, p in parents.items() if p} == {n: p for n, p in actual.items() if n != "StillhouseError"}


def test_every_error_explains_itself():
    for cls in everyone():
        assert cls.__doc__ and cls.__doc__.splitlines()[0].endswith("."), cls
        assert len(cls.next_step) > 15, cls
        assert cls.exit_code in (1, 2, 3, 4, 5, 130), cls
        assert str(cls("(details)")).endswith("(details)")


def test_a_next_step_can_be_given():
    assert errors.RecipeError("x", next_step="do y").next_step == "do y"
    assert errors.RecipeError("x").next_step == errors.RecipeError.next_step
