"""A teacher for benchmarks: an OpenAI-compatible server with settable latency, tail, errors and size of its answers.

It parses no more than it must, so that what is measured is the client. ``paid`` counts completed answers by prompt.

    python benchmarks/loopback.py --latency 0.2 --tail-share 0.02 --tail 2 --errors 0.01 --size 30000

prints its port, and serves until its standard input ends. ``GET /stats`` says what was paid for; ``POST /reset`` forgets it.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

_SENTENCE = "The quick brown fox jumps over the lazy dog. "


class Mock:
    """What all connections share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.paid, self.random = options, Counter(), random.Random(0)
        self.in_flight = self.most = self.refused = 0
        text = (_SENTENCE * (options.size // len(_SENTENCE) + 1))[: options.size]
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 10, "completion_tokens": max(1, options.size // 4), "total_tokens": 0}
        body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "usage": usage}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.answer = _response(200, json.dumps({**body, "choices": [choice]}).encode())
        self.error = _response(429, b'{"error":{"message":"slow down"}}', b"Retry-After: 0.1\r\n")
        pieces = [text[start : start + 200] for start in range(0, len(text), 200)]
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        deltas = [{**chunk, "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        deltas.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.events = [b"data: " + json.dumps(delta).encode() + b"\n\n" for delta in deltas] + [b"data: [DONE]\n\n"]

    def stats(self) -> dict[str, Any]:
        return {"paid": self.paid.total(), "prompts": len(self.paid), "most_in_flight": self.most, "by": self.paid}

    def wait(self) -> float:
        slow = self.options.tail_share and self.random.random() < self.options.tail_share
        return self.options.tail if slow else self.options.latency


def _response(status: int, body: bytes, more: bytes = b"", kind: bytes = b"application/json") -> bytes:
    head = b"HTTP/1.1 %d X\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n" % (status, kind, more, len(body))
    return head + body


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests are answered one after the other."""

    def __init__(self, mock: Mock) -> None:
        self.mock, self.data = mock, b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.data) < end + 4 + length:
                return
            body, self.data = self.data[end + 4 : end + 4 + length], self.data[end + 4 + length :]
            self.handle(head.split(b" ", 2)[1], body)

    def handle(self, path: bytes, body: bytes) -> None:
        mock = self.mock
        if path == b"/stats":
            self.transport.write(_response(200, json.dumps(mock.stats()).encode()))
        elif path == b"/reset":
            mock.paid.clear()
            mock.most = 0
            self.transport.write(_response(200, b"{}"))
        else:
            mock.in_flight += 1
            mock.most = max(mock.most, mock.in_flight)
            wait = mock.wait()
            if wait:
                asyncio.get_running_loop().call_later(wait, self.reply, body)
            else:
                self.reply(body)

    def reply(self, body: bytes) -> None:
        mock = self.mock
        mock.in_flight -= 1
        if self.transport.is_closing():
            return
        if mock.options.errors and mock.random.random() < mock.options.errors:
            self.transport.write(mock.error)
            return
        # The prompt stands last in every client's body that is measured here, and is short.
        at = body.rfind(b'"content"')
        mock.paid[body[at : at + 60].decode("utf-8", "replace")] += 1
        if b'"stream":true' in body or b'"stream": true' in body:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in mock.events)
            self.transport.write(head + chunks + b"0\r\n\r\n")
        else:
            self.transport.write(mock.answer)


class Running:
    """The server in a process of its own."""

    def __init__(self, **options: float) -> None:
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        command = [sys.executable, str(Path(__file__)), *words]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats") as response:
            return dict(json.load(response))

    def reset(self) -> None:
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/reset", data=b"").close()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


async def serve(options: argparse.Namespace) -> None:
    mock = Mock(options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(mock), "127.0.0.1", options.port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("latency", 0.0), ("tail_share", 0.0), ("tail", 0.0), ("errors", 0.0)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default)
    parser.add_argument("--size", type=int, default=60)
    parser.add_argument("--port", type=int, default=0)
    import uvloop

    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
