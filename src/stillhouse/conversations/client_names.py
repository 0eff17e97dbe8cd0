"""What a client says of the session that a call belongs to: in headers, in metadata, in ids of answers. Pure.

Claude Code names its session in ``metadata.user_id``, Codex in headers and in ``prompt_cache_key``; others use headers that
became usual. What a client says is a hint: sessions are made of what was said (``sessions``).
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_HEADERS = (
    "x-claude-code-session-id", "session_id", "session-id", "conversation_id", "conversation-id", "x-session-id",
    "x-conversation-id", "x-session-affinity", "helicone-session-id", "x-litellm-session-id", "thread-id",
)  # fmt: skip
_METADATA = ("session_id", "sessionId", "conversation_id", "thread_id")
_IN_USER = re.compile(r"_session_([0-9A-Za-z-]{8,64})$")
_LONGEST = 200


class Client(NamedTuple):
    """Of a call: its session, as the client names it; the answer that it goes on from, and the id of its own answer."""

    session: str = ""
    goes_on_from: str = ""
    response: str = ""


def client_of(headers: Mapping[str, str], body: Mapping[str, Any], answer_id: str = "") -> Client:
    """What is said of a call by its request, and by the id of its answer."""
    given = {name.lower(): value for name, value in headers.items()}
    session = next((given[name] for name in _HEADERS if given.get(name)), "") or _in_body(body)
    before = body.get("previous_response_id")
    return Client(session[:_LONGEST], before if isinstance(before, str) else "", answer_id)


def _in_body(body: Mapping[str, Any]) -> str:
    for place in ("metadata", "client_metadata"):
        said = body.get(place)
        if not isinstance(said, Mapping):
            continue
        named = next((said[name] for name in _METADATA if isinstance(said.get(name), str)), "")
        named = named or _in_user(said.get("user_id"))
        if named:
            return str(named)
    conversation = body.get("conversation")
    named = conversation.get("id") if isinstance(conversation, Mapping) else conversation
    for value in (named, body.get("prompt_cache_key")):
        if isinstance(value, str) and value:
            return value
    return ""


def _in_user(user: Any) -> str:
    """The session in Claude Code's user id: at its end, or in its JSON."""
    if not isinstance(user, str):
        return ""
    if user.startswith("{"):
        try:
            said = json.loads(user)
        except (ValueError, RecursionError):
            return ""
        named = said.get("session_id") if isinstance(said, dict) else None
        return named if isinstance(named, str) else ""
    found = _IN_USER.search(user)
    return found[1] if found else ""
