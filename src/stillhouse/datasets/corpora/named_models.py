"""Which model a row says that its answer is of, wherever it says so. Pure.

Of several names one of a closed model counts first: that is the stricter reading. Names in unusual places count where they are
of a lab that is known; what stands there else may be anything.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stillhouse.conversations.content import decoded
from stillhouse.permission.known_names import closed_labs, is_known_model

_USUAL = ("model", "model_name", "generator", "teacher", "source_model", "api_model")
_UNUSUAL = (
    "modelname", "model_id", "modelid", "model_slug", "modelversion", "model_version", "generation_model", "response_model",
    "teacher_model", "original_teacher", "teacher_name", "teacher_id", "source_teacher", "source_llm", "llm_name", "model_path",
    "model_used", "synthesizer", "annotator_model", "solution_model", "agent_model", "engine", "llm", "generated_by",
    "completion_model", "deployment",
)  # fmt: skip
# Below these a row keeps what it says of itself: as an object, or as its JSON in a table's cell.
_ABOUT = ("metadata", "meta", "extra", "info")
# Below these as an object alone: as text it may be an answer that is JSON, and speaks of models.
_CALLS = ("request", "raw_request", "response", "raw_response", "generation")
_LONGEST_NAME = 200


def named_model(said: str, row: Mapping[str, Any]) -> str:
    """The model of a row; ``said`` is what its shape has read already."""
    names = [said, *_names(row)] if said else list(_names(row))
    return next((name for name in names if closed_labs(name)), names[0] if names else "")


class _Columns(NamedTuple):
    """Of the columns of a row: those that can name a model, and those below which one can be named, as they are written."""

    named: tuple[str, ...]
    about: tuple[str, ...]
    calls: tuple[str, ...]
    turns: tuple[str, ...]


@functools.lru_cache(maxsize=4096)
def _columns(names: tuple[Any, ...]) -> _Columns:
    """Told once for all rows with these columns; of two that differ in case alone, the last counts."""
    plain = {str(name).casefold(): name for name in names}
    wanted = ((*_USUAL, *_UNUSUAL), _ABOUT, _CALLS, ("messages", "conversations", "conversation"))
    return _Columns(*(tuple(plain[name] for name in group if name in plain) for group in wanted))


def _names(row: Mapping[str, Any]) -> Iterator[str]:
    yield from _of(row)
    columns = _columns(tuple(row))
    for below in (*(_object(row[name]) for name in columns.about), *(row[name] for name in columns.calls)):
        if isinstance(below, Mapping):
            yield from _of(below)
    turns = next((row[name] for name in columns.turns if row[name]), None)
    last = turns[-1] if isinstance(turns, Sequence) and not isinstance(turns, str | bytes) and turns else None
    if isinstance(last, Mapping):
        yield from _of(last)


def _of(row: Mapping[str, Any]) -> Iterator[str]:
    for name in _columns(tuple(row)).named:
        yield from filter(_is_known, _text(row[name]))


@functools.lru_cache(maxsize=65_536)
def _is_known(name: str) -> bool:
    return is_known_model(name) or bool(closed_labs(name))


def _text(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = value.get("name") or value.get("id") or value.get("model")
    for each in value if isinstance(value, list | tuple) else (value,):
        if isinstance(each, str) and 0 < len(each.strip()) <= _LONGEST_NAME:
            yield each.strip()


def _object(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = decoded(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) else None
