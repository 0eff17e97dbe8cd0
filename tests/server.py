"""A real HTTP server on loopback that speaks the dialects of teachers, and misbehaves on request."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Answer = Callable[["Server", dict[str, Any]], Awaitable[web.StreamResponse]]


def prompt_of(body: dict[str, Any]) -> str:
    return str(body.get("messages", [{"content": body.get("input") or body.get("prompt")}])[-1]["content"])


def code_answer(body: dict[str, Any]) -> str:
    """Different for every sample, right for half of them."""
    seed = body.get("seed", 0)
    return f"```python\ndef f(x):\n    return x + {seed % 2}  # {seed}\n```"


def chat(text: str, **usage: int) -> dict[str, Any]:
    counted = {"prompt_tokens": 10, "completion_tokens": 5, **usage}
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}], "usage": counted}


async def friendly(server: "Server", body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(server.delay)
    return web.json_response(chat(code_answer(body)))


class Server:
    """Runs in a thread; ``answered`` counts completed answers by (prompt, seed)."""

    def __init__(self, answer: Answer = friendly, delay: float = 0.0) -> None:
        self.answer, self.delay = answer, delay
        self.answered: Counter[tuple[str, int]] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.in_flight = self.most_in_flight = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(self._runner.setup())
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = site._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        is_json = request.content_type == "application/json"
        self.request, body = request, json.loads(self.bodies[-1]) if is_json and self.bodies[-1] else {}
        self.paths.append(request.path_qs)
        self.transport = request.transport
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            response = await self.answer(self, body)
        finally:
            self.in_flight -= 1
        if response.status == 200:
            self.answered[prompt_of(body), body.get("seed", 0)] += 1
        return response

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
