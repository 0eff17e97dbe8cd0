"""The gateway's processes: workers that share one listening socket, and one that watches them and answers for their health.

The data port serves clients and nothing else; health, readiness and metrics have a port of their own. A worker that dies is
replaced; where the watcher dies, its workers drain and end.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import uvloop
from aiohttp import web

from stillhouse.clock import now
from stillhouse.errors import StillhouseError, UsageError
from stillhouse.home.ledger import gateway_queries, origin_queries
from stillhouse.home.open_home import Home
from stillhouse.nouns import TeacherKind
from stillhouse.teachers.anthropic import AnthropicDialect
from stillhouse.teachers.dialect import Dialect
from stillhouse.teachers.gateway.admission import Admission, Upstream
from stillhouse.teachers.gateway.counters import Counters, create
from stillhouse.teachers.gateway.keyring import Keyring
from stillhouse.teachers.gateway.server import Gateway, GatewayOptions
from stillhouse.teachers.openai import OpenAIDialect
from stillhouse.teachers.register import account_fingerprint, key_of

# Longer than nearly every answer takes; who is still served then is cut, and the log says so.
DRAIN_SECONDS = 30.0
# A connection that asks for nothing, or never finishes its headers, is closed after so long.
_IDLE_SECONDS = 75.0
_POLL_SECONDS = 0.2
_SECONDS_BETWEEN_DEATHS = 1.0
# The view need not be up to date for the gateway to work; commands that ask it bring it there.
_VIEW_SECONDS = 10.0
_BACKLOG = 1024


class GatewayAddress(NamedTuple):
    """Where to listen: clients at ``port``, watchers at ``ops_port``; 0 lets the system choose."""

    host: str
    port: int
    ops_port: int


def upstreams(home: Home) -> dict[str, Upstream]:
    """The teachers that can be asked over HTTP; one whose key is not set cannot."""
    found = {}
    for teacher in origin_queries.teachers(home.ledger):
        if teacher.kind in (TeacherKind.OPENAI, TeacherKind.ANTHROPIC):
            with contextlib.suppress(UsageError):
                secret = key_of(teacher)
                found[teacher.name] = Upstream(teacher, secret, account_fingerprint(secret))
    return found


def without_key(home: Home) -> dict[str, str]:
    """The teachers that cannot be asked, and the variable of each that is not set."""
    over_http = (TeacherKind.OPENAI, TeacherKind.ANTHROPIC)
    known = {
        teacher.name: teacher.key_env for teacher in origin_queries.teachers(home.ledger) if teacher.kind in over_http
    }
    usable = upstreams(home)
    return {name: variable for name, variable in known.items() if name not in usable}


def run_worker(home: Home, listening: int, counters: int, row: int, stall_seconds: float) -> None:
    """One worker: serve until told to stop, or until the watcher is gone."""
    uvloop.run(_work(home, listening, Counters(counters, row), stall_seconds))


async def _work(home: Home, listening: int, counters: Counters, stall_seconds: float) -> None:
    keyring = Keyring(lambda: gateway_queries.gateway_keys(home.ledger), home.marker, lambda: now()[:10])
    admission = Admission(home.doors, home.locks, lambda: upstreams(home), home.caps)
    dialects: dict[TeacherKind, Dialect] = {
        TeacherKind.OPENAI: OpenAIDialect(),
        TeacherKind.ANTHROPIC: AnthropicDialect(),
    }
    options = GatewayOptions(home.settings.durability, stall_seconds)
    gateway = Gateway(home.recorder, keyring, admission, dialects, counters, options, home.locks)
    await gateway.start()
    server = web.Server(
        gateway.handle,
        handler_cancellation=True,
        keepalive_timeout=_IDLE_SECONDS,
        access_log=None,
        auto_decompress=False,
        logger=_silent(),
    )
    runner = web.ServerRunner(server, shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    await web.SockSite(runner, socket.socket(fileno=listening), backlog=_BACKLOG).start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin.fileno(), lambda: stop.set() if not os.read(sys.stdin.fileno(), 1) else None)
    await stop.wait()
    loop.remove_reader(sys.stdin.fileno())
    gateway.drain()
    await runner.cleanup()
    await gateway.close(DRAIN_SECONDS)


def _silent() -> logging.Logger:
    """What the HTTP library would say of every malformed request is for nobody; what goes wrong here is said by the gateway."""
    logger = logging.getLogger("stillhouse.gateway.http")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


class _Worker:
    """A worker process, restarted when it dies."""

    def __init__(self, command: list[str], descriptors: tuple[int, ...]) -> None:
        self._command, self._descriptors = command, descriptors
        self._start()

    def _start(self) -> None:
        self._since = time.monotonic()
        self.process = subprocess.Popen(self._command, stdin=subprocess.PIPE, pass_fds=self._descriptors)

    def mind(self) -> bool:
        """Restart it where it has died; says whether it had."""
        if self.process.poll() is None:
            return False
        if time.monotonic() - self._since < _SECONDS_BETWEEN_DEATHS:
            return False
        self._start()
        return True


def serve_gateway(
    home: Home, address: GatewayAddress, workers: int, stall_seconds: float, on_ready: Callable[[str, str], None]
) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain. ``on_ready`` is called with the two URLs. Raises UsageError."""
    listening = _listen(address.host, address.port)
    try:
        uvloop.run(_watch(home, address, listening, workers, stall_seconds, on_ready))
    finally:
        listening.close()


async def _watch(
    home: Home,
    address: GatewayAddress,
    listening: socket.socket,
    workers: int,
    stall_seconds: float,
    on_ready: Callable[[str, str], None],
) -> None:
    memory = create(workers)
    counters = Counters(memory)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    command = [sys.executable, "-m", "stillhouse", "gateway", "worker", "--home", str(home.folder)]
    command += ["--durability", str(home.settings.durability), "--stall-seconds", str(stall_seconds)]
    command += ["--listening", str(listening.fileno()), "--counters", str(memory)]
    descriptors = (listening.fileno(), memory)
    crew: list[_Worker] = []
    health = await _serve_health(address, counters, crew, stop)  # before any worker: its port may be taken
    try:
        crew += [_Worker([*command, "--row", str(row)], descriptors) for row in range(workers)]
        while counters.total("ready") < workers and not stop.is_set():
            if any(worker.process.poll() is not None for worker in crew):
                raise StillhouseError("A worker could not start; what it said stands above.")
            await asyncio.sleep(_POLL_SECONDS / 4)
        host, port = listening.getsockname()[:2]
        on_ready(f"http://{host}:{port}", f"http://{host}:{health.addresses[0][1]}")
        await _mind(home, crew, stop)
    finally:
        await _end(crew)
        await health.cleanup()
        os.close(memory)


async def _mind(home: Home, crew: list[_Worker], stop: asyncio.Event) -> None:
    """Replace workers that die, and bring the view up to date now and then."""
    viewed = time.monotonic()
    while not stop.is_set():
        for row, worker in enumerate(crew):
            if worker.mind():
                sys.stderr.write(f"gateway: worker {row} had died and was restarted\n")
        if time.monotonic() - viewed > _VIEW_SECONDS:
            await asyncio.to_thread(home.recorder.refresh)
            viewed = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _POLL_SECONDS)


async def _end(crew: list[_Worker]) -> None:
    for worker in crew:
        worker.process.terminate()
    for worker in crew:
        try:
            await asyncio.to_thread(worker.process.wait, 2 * DRAIN_SECONDS + 5)
        except subprocess.TimeoutExpired:
            worker.process.kill()


async def _serve_health(
    address: GatewayAddress, counters: Counters, crew: list[_Worker], stop: asyncio.Event
) -> web.ServerRunner:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        alive = sum(worker.process.poll() is None for worker in crew)
        ready = 0 < alive == len(crew) and counters.total("ready") == len(crew) and not stop.is_set()
        match request.path:
            case "/healthz":
                return web.Response(status=200 if alive else 503, text=f"{alive} of {len(crew)} workers alive\n")
            case "/readyz":
                return web.Response(status=200 if ready else 503, text="ready\n" if ready else "not ready\n")
            case "/metrics":
                return web.Response(text=counters.prometheus(), content_type="text/plain", charset="utf-8")
        return web.Response(status=404, text="/healthz, /readyz, /metrics\n")

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.ops_port).start()
    except OSError as failure:
        await runner.cleanup()
        raise UsageError(
            f"Nothing can listen at {address.host}:{address.ops_port}: {failure.strerror}.",
            next_step="Choose another --ops-port, or stop what listens there.",
        ) from failure
    return runner


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as failure:
        raise UsageError(
            f"Nothing can listen at {host}:{port}: {failure.strerror or failure}.",
            next_step="Choose another --host or --port, or stop what listens there.",
        ) from failure
    listening.set_inheritable(True)
    return listening
