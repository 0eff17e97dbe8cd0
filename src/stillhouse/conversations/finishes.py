"""How an answer ended, in one vocabulary for every API, and which answers can become rows."""

from collections.abc import Collection
from enum import StrEnum

from stillhouse.conversations.code_blocks import without_reasoning

STOP, LENGTH, FILTERED, REFUSAL, TOOL_CALLS = "stop", "length", "filtered", "refusal", "tool calls"
PAUSED, ERROR, CANCELLED, MALFORMED, EMBEDDING = "paused", "error", "cancelled", "malformed", "embedding"
# An answer of which a part is no text: a row of the rest would be half of it.
NOT_TEXT = "not text"
# A label of a provider's own is kept as it is, up to here.
_LONGEST = 80

# The words of OpenAI, Anthropic, Gemini, Mistral, Cohere, DeepSeek, Zhipu, vLLM, TGI and OpenRouter.
_NAMES = {
    STOP: ("stop", "end_turn", "stop_sequence", "eos", "eos_token", "end", "complete", "completed", "finished", "done",
           "stop_token", "stop_str", "finish"),
    LENGTH: ("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length", "max_length",
             "model_context_window_exceeded", "context_window_exceeded", "truncated"),
    FILTERED: ("filtered", "content_filter", "content_filtered", "safety", "recitation", "blocklist",
               "prohibited_content", "spii", "sensitive", "guardrail_intervened", "moderation", "error_toxic"),
    REFUSAL: ("refusal", "refused"),
    TOOL_CALLS: ("tool_calls", "tool_call", "tool_use", "function_call", "function_calls"),
    PAUSED: ("paused", "pause_turn"),
    ERROR: ("error", "failed", "network_error", "insufficient_system_resource", "abort", "aborted",
            "malformed_function_call", "finish_error", "server_error"),
    CANCELLED: ("cancelled", "canceled", "user_cancel"),
    MALFORMED: ("malformed",),
    EMBEDDING: ("embedding",),
}  # fmt: skip
LABELS = frozenset(_NAMES)
_LABELS = {name: label for label, names in _NAMES.items() for name in names}


class FinishKind(StrEnum):
    """Why an answer is not a whole one; the values are what ``[dataset] keep`` takes."""

    EMPTY = "empty"
    MALFORMED = "malformed"
    FAILED = "failed"
    FILTERED = "filtered"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    PAUSED = "paused"
    UNKNOWN = "unknown"
    TOOL_CALLS = "tool_calls"


# What a row can hold where that is meant: all but calls of tools.
KEPT = tuple(str(kind) for kind in FinishKind if kind is not FinishKind.TOOL_CALLS)

_KINDS = {
    LENGTH: FinishKind.TRUNCATED, FILTERED: FinishKind.FILTERED, REFUSAL: FinishKind.REFUSED, TOOL_CALLS: FinishKind.TOOL_CALLS,
    PAUSED: FinishKind.PAUSED, ERROR: FinishKind.FAILED, CANCELLED: FinishKind.FAILED, MALFORMED: FinishKind.MALFORMED,
    EMBEDDING: FinishKind.EMPTY,
}  # fmt: skip


def finish_label(said: object) -> str:
    """The label of what an API calls the end of an answer. Nothing said is a plain stop; what is not known stays as it is."""
    text = str(said) if said is not None and said != "" else STOP
    text = text[:_LONGEST].replace("\x00", "").encode("utf-8", "replace").decode()
    return _LABELS.get(text.strip().lower().replace(" ", "_").replace("-", "_"), text)


def is_usable(text: str, finish: str, keep: Collection[str] = ()) -> bool:
    """Can a row be formed of an answer, where some kinds of incomplete ones are kept on purpose?"""
    kind = incomplete(text, finish)
    return kind is None or (kind in keep and kind is not FinishKind.TOOL_CALLS)


def incomplete(text: str, finish: str) -> FinishKind | None:
    """Why no row can be formed of an answer by default; None where it is whole.

    An empty answer that failed is counted as failed: the end says more than the missing text.
    """
    label = finish_label(finish)
    if label != STOP:
        return _KINDS.get(label, FinishKind.UNKNOWN)
    return None if without_reasoning(text).strip() else FinishKind.EMPTY
