"""From a row, or the file of a session, to the conversations in it, where it says more than text: tools, calls and their results,
reasoning of earlier turns. Pure.

Read: every format of ``conversations.formats``, and an API's own answer beside its question (OpenRouter, OpenAI, Anthropic,
curator). Columns beside the conversation are taken into it (a system text, tools, reasoning) or, where it cannot hold them,
leave the row out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stillhouse.conversations.answer_turns import Api, turn_of_value
from stillhouse.conversations.every_format import EVERY_FORMAT, format_of_row
from stillhouse.conversations.finishes import STOP, TOOL_CALLS
from stillhouse.conversations.formats import openai_chat
from stillhouse.conversations.formats.format import CannotRead, items
from stillhouse.conversations.record import (
    Call,
    Conversation,
    Reasoning,
    Role,
    Text,
    Tool,
    Turn,
    decode,
    encode,
    is_plain,
)
from stillhouse.conversations.row_turns import as_text_row, last_answer, messages_of, own_usage, spoken
from stillhouse.datasets.corpora.columns import (
    ABOUT,
    SYSTEM,
    CannotHold,
    calls_beside,
    check_media,
    history_of,
    reasoning_of,
    tools_beside,
)
from stillhouse.datasets.corpora.named_models import named_model
from stillhouse.datasets.corpora.row_shapes import (
    UNKNOWN_SHAPE,
    ParsedRow,
    Skipped,
    day_of,
    read_row,
    response_of,
    told_of,
)
from stillhouse.permission.known_names import closed_labs

# What an agent did, which is no question with its answer: the end need not be an answer.
_TRAJECTORIES = ("atif", "swe-smith", "mini-swe-agent", "swe-agent")
# The columns that each format has in the conversation.
_COLUMNS = {
    "openai": {"messages", "tools", "functions"},
    "anthropic": {"messages", "tools", "system"},
    "responses": {"input", "output", "tools", "instructions"},
    "sharegpt": {"conversations", "conversation", "tools", "system"},
    "alpaca": {"instruction", "input", "output", "history", "system"},
    "prompt-completion": {"prompt", "completion", "response", "tools"},
    "atif": {"steps"},
    "swe-smith": {"messages", "tools"},
    "mini-swe-agent": {"messages"},
    "swe-agent": {"history", "trajectory"},
}
# What rows of text cannot hold, and conversations can.
_HELD_HERE = ("calls of tools", "definitions of tools", "reasoning")
_GIVEN = ("generation", "response", "completion")
_WRITTEN = ("generation", "response", "completion", "answer", "output")
_BROKEN = (
    CannotRead,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    ValueError,
    OverflowError,
)


def read_rows(row: Mapping[str, Any]) -> Sequence[ParsedRow] | Skipped:
    """The rows that an object holds: one of text where that is all that it says, else its conversations."""
    try:
        format = format_of_row(row)
    except (*_BROKEN, RecursionError):
        format = None
    text: Skipped | None = None
    if format is None or format.name not in _TRAJECTORIES:
        read = read_row(row)
        if isinstance(read, ParsedRow):
            return [read]
        text = read
    try:
        found = _answered_row(row) or _written_beside(row) or _rows_of(row)
    except CannotHold as failure:
        return Skipped(f"a row cannot hold {failure} yet")
    except RecursionError:
        return Skipped("nested too deeply")
    except _BROKEN as failure:
        said_already = text is not None and (format is None or not any(what in text.reason for what in _HELD_HERE))
        return text if text is not None and said_already else Skipped(_reason(failure))
    if format is not None and format.name in _TRAJECTORIES:
        return found
    plain = all(one.conversation is None or is_plain(one.conversation) for one in found)
    if text is None or text.reason == UNKNOWN_SHAPE or not plain or all(map(_goes_on, found)):
        return found
    return text  # of text alone, the reader of texts has said why not


def _goes_on(said: ParsedRow) -> bool:
    """Does a conversation end with what an answer was not given to, after others that were?"""
    turns = said.conversation.turns if said.conversation is not None else ()
    last = turns[-1].role if turns else Role.ASSISTANT
    return last is not Role.ASSISTANT and any(turn.role is Role.ASSISTANT for turn in turns)


def read_session(name: str, entries: Sequence[Any]) -> Sequence[ParsedRow] | Skipped:
    """The conversations of a session file: of the format with this ``name``."""
    format = next(one for one in EVERY_FORMAT if one.name == name)
    try:
        return [with_conversation(ParsedRow((), "", name), _storable(said)) for said in format.read(list(entries))]
    except RecursionError:
        return Skipped("nested too deeply")
    except _BROKEN as failure:
        return Skipped(_reason(failure))


def _storable(said: Conversation) -> Conversation:
    """A conversation that is read again as it is written. Raises CannotRead."""
    try:
        if decode(encode(said)) == said and 0 <= said.fork <= len(said.turns):
            return said
    except (msgspec.MsgspecError, UnicodeEncodeError, ValueError, OverflowError):
        pass
    raise CannotRead("it holds half of a surrogate pair, or a value of another type than its field")


def _reason(failure: Exception) -> str:
    return str(failure) if isinstance(failure, CannotRead) else "of another form than its format's"


def with_conversation(said: ParsedRow, conversation: Conversation) -> ParsedRow:
    """A row with this conversation, in the form that its own words need: text alone, or all of it."""
    place = last_answer(conversation)
    if place < 0:
        return said._replace(messages=messages_of(conversation.turns), text="", conversation=conversation)
    last = conversation.turns[place]
    calls = any(isinstance(part, Call) for part in last.parts)
    finish = last.finish or (TOOL_CALLS if calls else said.finish)
    if finish != last.finish and (calls or finish != STOP):
        last = msgspec.structs.replace(last, finish=finish)
        turns = (*conversation.turns[:place], last, *conversation.turns[place + 1 :])
        conversation = msgspec.structs.replace(conversation, turns=turns)
    speakers = tuple(
        (_model(turn.model, said.model), day_of(turn.time) or said.day)
        for turn in conversation.turns
        if turn.role is Role.ASSISTANT
    )
    counted = own_usage(conversation)
    usage = counted if counted.completion_tokens >= 0 else said.usage
    model, day = speakers[-1]
    one_model = model if len({name for name, _ in speakers}) == 1 else ""
    row = said._replace(
        finish=finish, model=said.model or one_model, day=said.day or day, usage=usage, speakers=speakers,
        id=said.id or conversation.id,
    )  # fmt: skip
    text = as_text_row(conversation)
    if text is not None and len(set(speakers)) == 1:
        return row._replace(
            messages=text.messages, text=text.text, reasoning=text.reasoning, conversation=None, outcome=conversation.outcome
        )  # fmt: skip
    return row._replace(
        messages=messages_of(conversation.turns[:place]), text=spoken(last), conversation=conversation,
        outcome=conversation.outcome,
    )  # fmt: skip


def _model(turn: str, row: str) -> str:
    """The model of an answer: as it says itself, unless the row names one of a closed model."""
    return row if row and closed_labs(row) and not closed_labs(turn) else turn or row


def _rows_of(row: Mapping[str, Any]) -> Sequence[ParsedRow]:
    """The conversations of a row in one of the formats, with what its columns say beside them."""
    format = format_of_row(row)
    if format is None:
        raise CannotRead("of no known shape")
    check_media(row)
    columns = frozenset(_COLUMNS[format.name])
    said = _said(row, format.name)._replace(columns=columns)
    return [with_conversation(said, _storable(_with_columns(one, row, columns))) for one in format.read(row)]


def _said(row: Mapping[str, Any], shape: str) -> ParsedRow:
    """What a row says of itself, its conversation left out."""
    metadata = row.get("metadata")
    told = told_of({**(metadata if isinstance(metadata, Mapping) else {}), **row})
    said = ParsedRow((), "", shape, **told)
    return said._replace(model=named_model(said.model, row))


def _with_columns(said: Conversation, row: Mapping[str, Any], columns: frozenset[str]) -> Conversation:
    """A conversation with what stands beside it. Raises CannotHold, CannotRead."""
    beside = {name: value for name, value in row.items() if name not in columns}
    if calls_beside(beside):
        raise CannotHold("calls of tools beside the conversation")
    if "history" not in columns and history_of(beside):
        raise CannotHold("a history beside the conversation")
    turns, tools = list(said.turns), said.tools or _tools(tools_beside(beside))
    texts = [spoken(turn) for turn in turns]
    about = next((beside[name] for name in ABOUT if beside.get(name)), "")
    if about and not (isinstance(about, str) and any(about.strip() in text for text in texts)):
        raise CannotHold("a context beside the conversation")
    system = next((beside[name] for name in SYSTEM if beside.get(name)), "")
    if system and not any(turn.role in (Role.SYSTEM, Role.DEVELOPER) for turn in turns):
        if not isinstance(system, str):
            raise CannotHold("a system text of an unknown form")
        turns.insert(0, Turn(Role.SYSTEM, (Text(system),)))
    thought, place = reasoning_of(beside), last_answer(said)
    if thought and place >= 0 and not any(isinstance(part, Reasoning) for part in said.turns[place].parts):
        at = len(turns) - len(said.turns) + place
        turns[at] = msgspec.structs.replace(turns[at], parts=(Reasoning(thought), *turns[at].parts))
    return msgspec.structs.replace(said, turns=tuple(turns), tools=tools)


def _tools(defined: Any) -> tuple[Tool, ...]:
    return tuple(map(openai_chat.read_tool, items(defined))) if defined else ()


def _written_beside(row: Mapping[str, Any]) -> Sequence[ParsedRow]:
    """Turns whose answer is text in a column of its own (distilabel's generation); nothing where the row holds none."""
    turns = items(row.get("messages")) if isinstance(row.get("messages"), list) else []
    last = turns[-1] if turns and isinstance(turns[-1], Mapping) else {}
    name = next((name for name in _WRITTEN if isinstance(row.get(name), str) and row[name]), "")
    if not name or last.get("role") not in (("user", "human", "tool") if name in _GIVEN else ("user", "human")):
        return []  # behind results of tools, an answer in a column may be what was expected, and not what was said
    whole = {**row, "messages": [*turns, {"role": "assistant", "content": row[name]}]}
    return [one._replace(columns=one.columns | {name}) for one in _rows_of(whole)]


def _answered_row(row: Mapping[str, Any]) -> Sequence[ParsedRow]:
    """An API's own answer with its question; nothing where the row holds none."""
    named = (response_of(row.get(name)) for name in
             ("raw_response", "response_message", "response", "answer", "completion"))  # fmt: skip
    response = next((found for found in named if found is not None), None)
    message = row.get("response_message")
    if response is None and not (isinstance(message, Mapping) and isinstance(row.get("generic_request"), Mapping)):
        return []
    if response is None:
        response = {"choices": [{"message": message, "finish_reason": row.get("finish_reason")}]}
    if len(items(response.get("choices"))) > 1:
        raise CannotHold("several answers to one question")
    requests = (row.get(name) for name in ("generic_request", "request", "raw_request"))
    request: Mapping[str, Any] = next((one for one in requests if isinstance(one, Mapping)), row)
    check_media(request)
    check_media(row)
    api = Api.CHAT if "choices" in response else Api.MESSAGES if "content" in response else Api.RESPONSES
    answer = turn_of_value(api, response)
    asked = _asked(request, row)
    said = _said(row, "raw API responses" if request is not row.get("generic_request") else "curator")
    via = said.via or ("openrouter" if response.get("provider") else "")
    provider = said.provider or str(response.get("provider") or "")
    model = named_model(answer.model or str(request.get("model") or ""), row)
    day = said.day or day_of(response.get("created"))
    id = str(row.get("question_id") or said.id or request.get("original_row_idx", "") or answer.key)
    whole = msgspec.structs.replace(
        asked, turns=(*asked.turns, msgspec.structs.replace(answer, key="", model=answer.model or model))
    )
    columns = frozenset(name for name, value in row.items() if value is request or _holds(value, response)) | (
        frozenset({"messages", "question", "prompt", "tools", "functions"}) if request is row else frozenset({"tools"})
    )
    columns |= {"messages"} if not request.get("messages") and not request.get("input") else frozenset()
    read = said._replace(via=via.lower(), provider=provider, model=model, day=day, id=id, columns=columns)
    beside = {name: value for name, value in row.items() if value is not message}
    return [with_conversation(read, _storable(_with_columns(whole, beside, columns)))]


def _holds(value: Any, response: Mapping[str, Any]) -> bool:
    """Is a column's value the answer, as an object or as its JSON, or the message in it?"""
    if response_of(value) == response:
        return True
    choices = response.get("choices")
    return (
        isinstance(value, Mapping) and isinstance(choices, list) and any(value is one.get("message") for one in choices)
    )


def _asked(request: Mapping[str, Any], row: Mapping[str, Any]) -> Conversation:
    """What was asked: by the request, or in the row beside it."""
    messages = next(
        (one for one in (request.get("messages"), row.get("messages"), request.get("input")) if one),
        row.get("question") or row.get("prompt") or request.get("prompt"),
    )
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    given = {name: request[name] for name in ("tools", "functions", "system", "instructions") if request.get(name)}
    form = {"input": messages, **given} if messages is request.get("input") else {"messages": messages, **given}
    format = format_of_row(form)
    if format is None:
        raise CannotRead("there is no question")
    tools = given.get("tools") or given.get("functions") or row.get("tools")
    return format.read({**form, **({"tools": tools} if tools and "functions" not in given else {})})[0]
