"""Every format that is read and written here, found by what is in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from stillhouse.conversations import claude_tap
from stillhouse.conversations.formats import (
    alpaca,
    anthropic_messages,
    atif,
    claude_code,
    codex_rollout,
    mini_swe_agent,
    openai_chat,
    pi_session,
    prompt_completion,
    responses,
    share_gpt,
    swe_agent,
    swe_smith,
)
from stillhouse.conversations.formats.format import CannotRead, Format, items
from stillhouse.conversations.record import Conversation

# One JSON object holds a conversation, and a file holds many.
ROW_FORMATS = (
    openai_chat.FORMAT, anthropic_messages.FORMAT, responses.FORMAT, share_gpt.FORMAT, alpaca.FORMAT, prompt_completion.FORMAT,
    atif.FORMAT, swe_smith.FORMAT, mini_swe_agent.FORMAT, swe_agent.FORMAT,
)  # fmt: skip
# A file's lines are one session.
SESSION_FORMATS = (claude_code.FORMAT, codex_rollout.FORMAT, pi_session.FORMAT, claude_tap.FORMAT)
EVERY_FORMAT = (*ROW_FORMATS, *SESSION_FORMATS)
# A file that is a list of messages is what an agent wrote down.
MESSAGES_ALONE = mini_swe_agent.FORMAT.name
# "image" is one that names its source.
# What entries of Claude Code are called that are no turns.
_CLAUDE_CODE = frozenset({"queue-operation", "last-prompt", "summary", "file-history-snapshot", "user", "assistant", "system",
                          "attachment", "progress", "cost-state", "api-request", "custom-title", "agent-name"})  # fmt: skip
_BLOCKS = frozenset({"image", "tool_use", "tool_result", "thinking", "redacted_thinking"})


def read_row(row: Any) -> tuple[Format, Sequence[Conversation]]:
    """What one JSON object says, by the format that it is of. Raises CannotRead."""
    format = format_of_row(row)
    if format is None:
        raise CannotRead("of no known format")
    return format, format.read(row)


def format_of_row(row: Any) -> Format | None:
    """Of which format an object is; None where it is of none."""
    if not isinstance(row, Mapping):
        return None
    if str(row.get("schema_version") or "").startswith("ATIF"):
        return atif.FORMAT
    if "history" in row and "trajectory" in row:
        return swe_agent.FORMAT
    if row.get("messages"):
        return _of_messages(row)
    if _is_history(row.get("history")) and "instruction" not in row:
        return swe_agent.FORMAT
    if row.get("conversations") or row.get("conversation"):
        return share_gpt.FORMAT
    if "instruction" in row and "output" in row:
        return alpaca.FORMAT
    if isinstance(row.get("input"), list) or isinstance(row.get("output"), list):
        return responses.FORMAT
    return prompt_completion.FORMAT if row.get("prompt") and (row.get("completion") or row.get("response")) else None


def _is_history(history: Any) -> bool:
    """Messages, and not the pairs that Alpaca has under this name."""
    return isinstance(history, list) and bool(history) and isinstance(history[0], Mapping) and "role" in history[0]


def _of_messages(row: Mapping[str, Any]) -> Format:
    if "trajectory_format" in row or (isinstance(row.get("info"), Mapping) and "exit_status" in row["info"]):
        return mini_swe_agent.FORMAT
    try:
        messages = items(row["messages"])
        tools = items(row.get("tools"))
    except CannotRead:
        return openai_chat.FORMAT
    if any(isinstance(message, Mapping) and message.get("role") == "exit" for message in messages):
        return mini_swe_agent.FORMAT
    blocks = [
        "image" if "source" in one else one.get("type")
        for message in messages
        if isinstance(message, Mapping) and isinstance(message.get("content"), list)
        for one in message["content"]
        if isinstance(one, Mapping)
    ]
    defined = [one for one in tools if isinstance(one, Mapping) and "input_schema" in one]
    of_openai = any(
        message.get("tool_calls") or message.get("role") in ("tool", "system", "developer")
        for message in messages
        if isinstance(message, Mapping)
    )
    if not _BLOCKS.isdisjoint(map(str, blocks)) or defined or (row.get("system") and not of_openai):
        return anthropic_messages.FORMAT
    return swe_smith.FORMAT if swe_smith.is_told(messages) else openai_chat.FORMAT


def may_begin_session(entry: Mapping[str, Any]) -> bool:
    """Can a file that begins with this object be one session? Rows of datasets have their turns in themselves."""
    return ("type" in entry or claude_tap.is_trace(entry)) and not any(
        entry.get(name) for name in ("messages", "conversations", "conversation", "instruction", "prompt", "steps")
    )


def format_of_lines(entries: Sequence[Any]) -> Format | None:
    """Of which session format the first lines of a file are; None where each line is a row of its own."""
    for entry in entries:
        if not isinstance(entry, Mapping):
            continue
        if claude_tap.is_trace(entry):
            return claude_tap.FORMAT
        if entry.get("type") == "session_meta" or (entry.get("type") == "response_item" and "payload" in entry):
            return codex_rollout.FORMAT
        if entry.get("type") == "session" and "id" in entry:
            return pi_session.FORMAT
        if "sessionId" in entry and ("uuid" in entry or entry.get("type") in _CLAUDE_CODE):
            return claude_code.FORMAT
    return None
