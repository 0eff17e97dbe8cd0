"""Answers that come as server-sent events: read as they pass, to the same ``Answer`` as whole ones. Pure.

Covered: any line ending, events over several lines, pieces split anywhere, counters that come early, late or in every event,
error frames. Not covered: an event larger than any answer is not looked at.
"""

import codecs
import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stillhouse.conversations.answers import (
    Answer,
    Read,
    Reader,
    began,
    finished,
    read_chat,
    read_completion,
    read_messages,
    read_response,
)
from stillhouse.conversations.content import Content, clean_text, decoded, read_content, read_message
from stillhouse.conversations.finishes import CANCELLED, ERROR, STOP
from stillhouse.conversations.troubles import BAD_GATEWAY, Trouble, trouble_in, trouble_named, trouble_of
from stillhouse.conversations.usage import anthropic_usage, largest, openai_usage

_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_EVENT = 40 << 20
_LONGEST_ERROR = 320


class Event(NamedTuple):
    """A server-sent event: its name, where it has one, and its data."""

    name: bytes
    data: bytes


class Events:
    """Cuts bytes into server-sent events (WHATWG HTML, 9.2.6)."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._name = b""
        self._begun = False
        self._size = 0
        self._ends_in_cr = False

    def feed(self, piece: bytes) -> list[Event]:
        """Every event that these bytes complete."""
        if self._ends_in_cr and piece[:1] == b"\n":  # the other half of a line end
            piece = piece[1:]
        self._ends_in_cr = piece.endswith(b"\r") if piece else self._ends_in_cr
        if not _LINE_END.search(piece):
            self._hold(piece)
            return []
        self._hold(piece)
        *lines, rest = _LINE_END.split(b"".join(self._rest))
        self._rest = [rest] if rest else []
        self._size = len(rest) + sum(map(len, self._data))
        return [event for line in lines if (event := self._line(line)) is not None]

    def close(self) -> list[Event]:
        """An event that ended with the stream, without its blank line."""
        last, self._rest = b"".join(self._rest), []
        ends = ([last] if last else []) + [b""]
        return [event for line in ends if (event := self._line(line)) is not None]

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > _LONGEST_EVENT:
            self._rest, self._data, self._size = [], [], 0
        elif piece:
            self._rest.append(piece)

    def _line(self, line: bytes) -> Event | None:
        if not self._begun:
            line, self._begun = line.removeprefix(codecs.BOM_UTF8), True
        if line:
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
            elif field == b"event":
                self._name = value.removeprefix(b" ").strip()
            return None
        event = Event(self._name, b"\n".join(self._data))
        self._name, self._data = b"", []
        return event if event.data else None


class StreamReader:
    """Reads one stream as it passes. ``ended``: its terminal event has come, so the answer is whole, closed or not."""

    def __init__(self, reader: Reader) -> None:
        readers: dict[Reader, Callable[[Mapping[str, Any]], None]] = {
            read_chat: self._chat, read_completion: self._chat, read_messages: self._messages,
            read_response: self._responses,
        }  # fmt: skip
        self._read = readers[reader]
        self._count = anthropic_usage if reader is read_messages else openai_usage
        self._events = Events()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls = False
        self._other: frozenset[str] = frozenset()
        self._usage: dict[str, Any] = {}
        self._finish: Any = None
        self._final: Read | None = None
        self.trouble: Trouble | None = None
        self.ended = False

    @property
    def whole(self) -> bool:
        """Did the answer come to its end, by the stream's own words?"""
        return self.ended or self._finish is not None or self.trouble is not None

    @property
    def answer(self) -> Read:
        """What was said so far. An error before anything was said is no answer."""
        read = Content("".join(self._text), "".join(self._reasoning), "".join(self._refusal), self._calls, self._other)
        usage = self._count(self._usage)
        if self.trouble is not None:
            return finished(read, ERROR, usage) if began(read, usage) else self.trouble
        if isinstance(self._final, Answer):
            final = self._final
            label = finished(read, STOP, usage).finish if final.finish == STOP and not final.text else final.finish
            text, reasoning = final.text or clean_text(read.text), final.reasoning or clean_text(read.reasoning)
            return Answer(text, label, usage, reasoning)
        # Only OpenAI's chat may leave out how an answer ended; elsewhere an end that is not said has not come.
        return finished(read, self._finish or (None if self._read == self._chat else CANCELLED), usage)

    def feed(self, piece: bytes) -> None:
        """Take in the next bytes."""
        for event in self._events.feed(piece):
            self._event(event)
        self.ended = self.ended or self.trouble is not None

    def close(self) -> None:
        """Nothing more comes."""
        for event in self._events.close():
            self._event(event)

    def _event(self, event: Event) -> None:
        if event.data.strip() == b"[DONE]":
            self.ended = True
            return
        try:
            said = decoded(event.data)
        except (ValueError, RecursionError):
            said = None  # not for us to judge: it passes as it is
        if event.name == b"error" and self.trouble is None:
            text = clean_text(event.data.decode("utf-8", "replace"))[:_LONGEST_ERROR]
            self.trouble = (trouble_in(said) if said else None) or Trouble(text, BAD_GATEWAY)
        elif isinstance(said, list):
            self.trouble = self.trouble or trouble_in(said)
        elif isinstance(said, Mapping):
            self.trouble = self.trouble or trouble_of(said)
            self._counted(said)
            with contextlib.suppress(KeyError, TypeError, IndexError, AttributeError, ValueError, RecursionError):
                self._read(said)

    def _counted(self, event: Mapping[str, Any]) -> None:
        """Counters, wherever an event of any dialect has them."""
        places = [event, *(event.get(name) for name in ("message", "response", "x_groq"))]
        choices = event.get("choices")
        places += choices if isinstance(choices, list) else []  # Moonshot counts there
        for place in places:
            if isinstance(place, Mapping):
                self._usage = largest(self._usage, place.get("usage"))

    def _chat(self, event: Mapping[str, Any]) -> None:
        for choice in event.get("choices") or ():
            if choice.get("index"):
                continue
            delta = choice.get("delta")
            self._add(read_message(delta) if isinstance(delta, Mapping) else read_content(choice.get("text")))
            if choice.get("finish_reason"):
                self._finish = choice["finish_reason"]
            self.trouble = self.trouble or trouble_named(choice)

    def _responses(self, event: Mapping[str, Any]) -> None:
        match event.get("type"):
            case "response.output_text.delta":
                self._text.append(str(event["delta"]))
            case "response.refusal.delta":
                self._refusal.append(str(event["delta"]))
            case "response.output_item.added" if event["item"].get("type") not in ("message", "reasoning"):
                self._calls = True
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                self.ended = True
                response = event["response"]
                self._finish = str(response.get("status") or str(event["type"]).partition(".")[2])
                final = read_response(response)
                if isinstance(final, Trouble):
                    self.trouble = final
                self._final = final

    def _messages(self, event: Mapping[str, Any]) -> None:
        match event.get("type"):
            case "content_block_start":
                self._add(read_content(event.get("content_block")))
            case "content_block_delta":
                delta = event["delta"]
                if delta.get("type") == "text_delta":
                    self._text.append(str(delta["text"]))
                elif delta.get("type") == "thinking_delta":
                    self._reasoning.append(str(delta["thinking"]))
            case "message_delta":
                self._finish = event["delta"].get("stop_reason") or self._finish
            case "message_stop":
                self.ended, self._finish = True, self._finish or STOP

    def _add(self, read: Content) -> None:
        self._text += [read.text] if read.text else []
        self._reasoning += [read.reasoning] if read.reasoning else []
        self._refusal += [read.refusal] if read.refusal else []
        self._calls, self._other = self._calls or read.calls, self._other | read.other
