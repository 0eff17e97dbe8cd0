"""Which model a row says that its answer is of, wherever it says so. Pure.

Of several names one of a closed model counts first: that is the stricter reading. Names in unusual places count where they are
of a lab that is known; what stands there else may be anything.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillhouse.conversations.content import decoded
from stillhouse.permission.known_names import closed_labs, is_known_model

_USUAL = ("model", "model_name", "generator", "teacher", "source_model", "api_model")
_UNUSUAL = (
    "modelname", "model_id", "modelid", "model_slug", "modelversion", "model_version", "generation_model", "response_model",
    "teacher_model", "engine", "llm", "generated_by", "completion_model", "deployment",
)  # fmt: skip
_NAMED = frozenset((*_USUAL, *_UNUSUAL))
# Below these a row keeps what it says of itself: as an object, or as its JSON in a table's cell.
_ABOUT = ("metadata", "meta", "extra", "info")
# Below these as an object alone: as text it may be an answer that is JSON, and speaks of models.
_CALLS = ("request", "raw_request", "response", "raw_response", "generation")
_LONGEST_NAME = 200


def named_model(said: str, row: Mapping[str, Any]) -> str:
    """The model of a row; ``said`` is what its shape has read already."""
    names = [said, *_names(row)] if said else list(_names(row))
    return next((name for name in names if closed_labs(name)), names[0] if names else "")


def _names(row: Mapping[str, Any]) -> Iterator[str]:
    yield from _of(row)
    plain = {str(name).casefold(): value for name, value in row.items()}
    for below in (*(_object(plain.get(name)) for name in _ABOUT), *(plain.get(name) for name in _CALLS)):
        if isinstance(below, Mapping):
            yield from _of(below)
    turns = plain.get("messages") or plain.get("conversations") or plain.get("conversation")
    last = turns[-1] if isinstance(turns, Sequence) and not isinstance(turns, str | bytes) and turns else None
    if isinstance(last, Mapping):
        yield from _of(last)


def _of(row: Mapping[str, Any]) -> Iterator[str]:
    plain = {str(name).casefold(): value for name, value in row.items()}
    if not _NAMED.isdisjoint(plain):
        for name in (*_USUAL, *_UNUSUAL):
            if name in plain:
                yield from filter(_is_known, _text(plain[name]))


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
