"""What programs return: whatever it is, there is a verdict, always the same one, at a cost that is bounded."""

import resource
import time

import pytest

from stillhouse.datasets.tasks.judge import judge
from stillhouse.nouns import Example, Task
from stillhouse.sandbox.pool import Sandbox
from stillhouse.sandbox.programs import Limits
from tests.hostile.test_programs import sandbox  # noqa: F401


def test_values_that_collide_cost_the_judge_nothing(sandbox):  # noqa: F811
    said = "import os\nM = 2**61 - 1\ndef f(x):\n    s = '{\"value\": [\"KIND\", [' + ','.join(ITEM for k in range(1, 30000)) + ']]}\\n'\n"
    said += "    b = s.encode()\n    while b: b = b[os.write(3, b):]\n    os._exit(0)"
    task = Task(id="t", messages=(), entry_point="f", tests=(Example((1,), {1, 2, 3}), Example((1,), {1: 2})))
    with Sandbox(Limits(output_bytes=8 << 20), workers=1, rung=sandbox.rung) as large:
        for kind, item in (("set", "str(k * M)"), ("dict", "'[%d,1]' % (k * M)")):
            started = time.process_time()
            found = next(judge(large, [(task, f"```python\n{said.replace('KIND', kind).replace('ITEM', item)}\n```")]))
            assert found.status != "passed"
            assert time.process_time() - started < 2


ODD_VALUES = {
    "a number of more digits than Python writes": "return 10**5000",
    "the same in a list": "return [10**5000]",
    "the same in a set": "return {10**5000}",
    "a list in a set, by its own hash": "class H(__import__('collections').deque):\n        __hash__ = lambda s: 1\n    return {H()}",
    "a signalling NaN": "from decimal import Decimal\n    return Decimal('sNaN')",
    "sets within sets": 'v = "\'\\""\n    for _ in range(36): v = frozenset([v])\n    return v',
    "tuples within sets": "v = 0\n    for _ in range(30): v = frozenset([(v, v)])\n    return v",
    "an exponent": "from decimal import Decimal\n    return {Decimal('1E+999999')}",
    "a larger exponent": "from decimal import Decimal\n    return {Decimal('1E+1000000'): 1}",
    "a larger one below zero": "from decimal import Decimal\n    return {Decimal('-1E+99999999')}",
    "what is infinitely small": "from decimal import Decimal\n    return {Decimal('1E-1000000'): Decimal('1E-99999999')}",
    "a fraction": "from fractions import Fraction\n    return {Fraction(10**3000, 7)}",
    "infinity": "return {float('inf'), float('nan')}",
}


@pytest.mark.parametrize("odd", ODD_VALUES)
def test_whatever_is_returned_there_is_a_verdict(sandbox, odd):  # noqa: F811
    """And always the same one, in bounded work, whatever was expected."""
    text = f"```python\ndef f(x):\n    {ODD_VALUES[odd]}\n```"
    for expected in (1, {1, 2}, {1: 2}, [1], 1.5, "1", {frozenset({1})}):
        task = Task(id="t", messages=(), entry_point="f", tests=(Example((1,), expected),))
        before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = [next(judge(sandbox, [(task, text)])) for _ in range(2)]
        assert found[0].status == found[1].status != "passed"
        assert found[0].reason == found[1].reason
        assert time.process_time() - before[0] < 2
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1] < 300_000


def test_a_value_that_breaks_the_comparison_costs_its_answer_only(sandbox, monkeypatch):  # noqa: F811
    def broken(expected, actual):
        raise OverflowError("of a kind that nobody thought of")

    monkeypatch.setattr("stillhouse.datasets.tasks.judge.equal", broken)
    task = Task(id="t", messages=(), entry_point="f", tests=(Example((1,), 2),))
    found = next(judge(sandbox, [(task, "```python\ndef f(x):\n    return x\n```")]))
    assert (found.status, "cannot be compared" in found.reason) == ("failed", True)


def test_lines_that_nobody_can_read_cost_the_judge_little(sandbox):  # noqa: F811
    text = "```python\nimport os\ndef f(x):\n    for _ in range(50): os.write(3, b'{\\n' * 10000)\n    os._exit(0)\n```"
    task = Task(id="t", messages=(), entry_point="f", tests=(Example((1,), 2),))
    started = time.process_time()
    assert next(judge(sandbox, [(task, text)])).status != "passed"
    assert time.process_time() - started < 1


def test_values_in_sets_and_keys_are_what_they_equal(sandbox):  # noqa: F811
    same = [
        ({1, 2}, {2, 1}),
        ({(1, "a")}, {(1, "a")}),
        ({frozenset({1, 2})}, {frozenset({2, 1})}),
        ({1.0: "a"}, {1: "a"}),
    ]
    same += [({10**30 + 1}, {10**30 + 1}), ({"a", b"a", None}, {None, b"a", "a"}), ({0.1 + 0.2}, {0.3})]
    other = [
        ({10**30 + 1}, {10**30 + 2}),
        ({1000000007}, {1000000008}),
        ({(1, 2)}, {(2, 1)}),
        ({"1"}, {1}),
        ({1, 2}, {2.0, 1}),
    ]
    for pairs, wanted in ((same, "passed"), (other, "failed")):
        for expected, returned in pairs:
            task = Task(id="t", messages=(), entry_point="f", tests=(Example((), expected),))
            found = next(judge(sandbox, [(task, f"```python\ndef f():\n    return {returned!r}\n```")]))
            assert found.status == wanted, (expected, returned, found)
