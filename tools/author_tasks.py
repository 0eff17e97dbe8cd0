"""Write the task suite that ships with Stillhouse, from the reference solutions below.

    python tools/author_tasks.py            writes src/stillhouse/datasets/tasks/suite.jsonl

Each task is one line here: signature, what it returns, a reference body, and the argument tuples of its tests. Expected
values are what the reference returns; the first test is shown in the prompt, the others are not. Families, not tasks,
are split into train and held-out, so that no held-out question has a sibling in training.
"""

import copy
import json
import sys
from pathlib import Path

from families_lists import LISTS
from families_mixed import MIXED
from families_numbers import NUMBERS
from families_text import TEXT

TARGET = Path(__file__).parent.parent / "src" / "stillhouse" / "datasets" / "tasks" / "suite.jsonl"
PLAIN = (int, float, str, bool, type(None), list, dict)


def solve(body, parameters, arguments, name):
    """What the reference solution returns for one argument tuple."""
    source = f"def {name}({parameters}):\n" + "\n".join("    " + line for line in body.split("\n"))
    scope = {}
    exec(source, scope)
    return source, scope[name](*copy.deepcopy(list(arguments)))


def render(signature, what, example):
    """The question as the teacher reads it."""
    return f"Write a Python function `{signature}` that returns {what}.\nFor example, {example}"


def build(family, split, level, row):
    """One task as a JSON object."""
    signature, what, body, *cases = row
    name, _, parameters = signature.removesuffix(")").partition("(")
    tests = []
    for case in cases:
        source, value = solve(body, parameters, case, name)
        if not isinstance(value, PLAIN):
            sys.exit(f"{name}: a test must return a plain value, not {value!r}")
        tests.append({"arguments": list(case), "returns": value})
    if len(tests) < 3 or len({json.dumps(test["returns"]) for test in tests}) < 2:
        sys.exit(f"{name}: it needs three tests or more, with two different results")
    shown = f"{name}({', '.join(map(repr, cases[0]))}) returns {tests[0]['returns']!r}."
    return {
        "id": f"stillhouse/{family}/{name}",
        "family": family,
        "split": split,
        "level": level,
        "entry_point": name,
        "prompt": render(signature, what, shown),
        "tests": tests,
        "solution": source,
    }


def suite():
    """Every task, by family."""
    tasks = []
    for family, (split, level, rows) in {**NUMBERS, **TEXT, **LISTS, **MIXED}.items():
        tasks += [build(family, split, level, row) for row in rows]
    names = [task["entry_point"] for task in tasks]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        sys.exit(f"these names stand for two tasks: {sorted(twice)}")
    return tasks


def text():
    """The suite file's text."""
    return "".join(json.dumps(task, ensure_ascii=False) + "\n" for task in suite())


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text(encoding="utf-8") == text() else "suite.jsonl is out of date: run `make docs`")
    TARGET.write_text(text(), encoding="utf-8")
    tasks = suite()
    print(f"{len(tasks)} tasks in {len({task['family'] for task in tasks})} families -> {TARGET.name}")
