"""The batch APIs of OpenAI and Anthropic in small: batches end when the test says so, and can be lost on the way."""

import json
import re
import threading
from datetime import UTC, datetime

from aiohttp import web

from tests.server import Server


class BatchServer:
    """``batches`` maps an id to its calls; ``lose`` takes the next batch and never says so; ``refuse`` does not take it."""

    def __init__(self, serve, *, ends: bool = True) -> None:
        self.ends, self.lose, self.refuse = ends, False, False
        self.batches: dict[str, list[dict]] = {}
        self.metadata: dict[str, dict] = {}
        self.files: dict[str, bytes] = {}
        self.broken: set[int] = set()
        self.written = b"".join  # how the lines of results stand in their file
        self.failed = ""  # why the provider gave up every batch, in its words
        self.taken = threading.Event()
        self.server: Server = serve(self.answer)
        self.server.batches = self

    @property
    def url(self) -> str:
        return self.server.url

    def paid(self) -> list[str]:
        return [call["custom_id"] for calls in self.batches.values() for call in calls]

    async def answer(self, server, body):
        path, method = server.request.path, server.request.method
        if method == "POST" and path == "/v1/files":
            raw = server.bodies[-1]
            name = f"file-{len(self.files)}"
            self.files[name] = raw
            return web.json_response({"id": name})
        if method == "POST":
            if self.refuse:
                server.transport.abort()
                return web.Response()
            return await self._create(server, body, path)
        return self._read(server, path)

    async def _create(self, server, body, path):
        name = f"batch-{len(self.batches)}"
        if path == "/v1/batches":
            lines = re.findall(rb'^\{"custom_id".*\}\r?$', self.files[body["input_file_id"]], flags=re.MULTILINE)
            self.batches[name] = [json.loads(line) for line in lines]
            self.metadata[name] = body["metadata"]
        else:
            self.batches[name] = body["requests"]
        self.taken.set()
        if self.lose:
            server.transport.abort()
        return web.json_response(self._state(name))

    def _state(self, name):
        created = datetime.now(UTC)
        value = {
            "id": name,
            "status": "completed" if self.ends else "in_progress",
            "created_at": int(created.timestamp()),
        }
        value |= {"metadata": self.metadata.get(name), "output_file_id": f"out-{name}", "error_file_id": None}
        if self.failed:
            said = {"code": "token_limit_exceeded", "message": self.failed, "line": None}
            value |= {"status": "failed", "output_file_id": None, "errors": {"object": "list", "data": [said]}}
        if name not in self.metadata:
            value |= {"processing_status": "ended" if self.ends else "in_progress", "created_at": created.isoformat()}
        return value

    def _read(self, server, path):
        name = path.rsplit("/", 1)[-1]
        if name in self.batches:
            return web.json_response(self._state(name))
        if path.endswith("/content"):
            return web.Response(body=self._lines(path.split("/")[-2].removeprefix("out-"), self._openai))
        if path.endswith("/results"):
            return web.Response(body=self._lines(path.split("/")[-2], self._anthropic))
        return web.json_response({"data": [self._state(name) for name in reversed(self.batches)], "has_more": False})

    def _lines(self, name, shape):
        return self.written(
            [json.dumps(shape(number, call)).encode() + b"\n" for number, call in enumerate(self.batches[name])]
        )

    def _openai(self, number, call):
        if number in self.broken:
            error = {"error": {"message": "no such thing"}}
            return {"custom_id": call["custom_id"], "response": {"status_code": 400, "body": error}, "error": None}
        text = call["body"]["messages"][-1]["content"]
        choice = {"message": {"role": "assistant", "content": f"to {text}"}, "finish_reason": "stop"}
        body = {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 5}}
        return {"custom_id": call["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}

    def _anthropic(self, number, call):
        if number in self.broken:
            error = {"type": "error", "error": {"type": "invalid_request", "message": "no such thing"}}
            return {"custom_id": call["custom_id"], "result": {"type": "errored", "error": error}}
        text = call["params"]["messages"][-1]["content"]
        message = {"content": [{"type": "text", "text": f"to {text}"}], "stop_reason": "end_turn"}
        message |= {"usage": {"input_tokens": 1, "output_tokens": 5}}
        return {"custom_id": call["custom_id"], "result": {"type": "succeeded", "message": message}}
