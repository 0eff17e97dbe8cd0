"""Put calls together into sessions: how the time grows with the calls, and with the history that they repeat.

Each call repeats all of its session: ``--shared`` bytes at its start (system text, first results), and what was said since.
The peer parses each request as JSON and keeps nothing, which is the least that reads them all.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator

from stillhouse.conversations.answer_turns import Api
from stillhouse.conversations.client_names import Client
from stillhouse.conversations.histories import Histories
from stillhouse.conversations.record import Call, Role, Text, Turn
from stillhouse.conversations.sessions import Assembly, Exchange

_CALLS_OF_SESSION = 50


def requests(calls: int, shared: int) -> Iterator[tuple[str, bytes, Turn]]:
    """Requests of agents one after the other, with the answer to each."""
    pieces = max(1, shared // 2000)
    for number in range(calls):
        session, place = divmod(number, _CALLS_OF_SESSION)
        if place == 0:
            said = [{"role": "system", "content": "You are an agent. " * 50}]
            said += [{"role": "user", "content": f"file {piece}: " + "line of code\n" * 150} for piece in range(pieces)]
            said.append({"role": "user", "content": f"task {session}"})
        arguments = json.dumps({"cmd": f"step {place} of {session}"})
        answer = Turn(
            Role.ASSISTANT,
            (Text(f"Step {place}."), Call("run", arguments, f"c{number}")),
            1,
            "tool calls",
            key=f"k{number}",
        )
        yield f"call{number}", json.dumps({"model": "m", "messages": said}).encode(), answer
        call = {"id": f"c{number}", "type": "function", "function": {"name": "run", "arguments": arguments}}
        said.append({"role": "assistant", "content": f"Step {place}.", "tool_calls": [call]})
        said.append({"role": "tool", "tool_call_id": f"c{number}", "content": f"output of step {place}\n" * 20})


def ours(calls: int, shared: int) -> tuple[float, int, int]:
    """CPU seconds, bytes and sessions."""
    assembly, histories, size, seconds = Assembly(), Histories(), 0, 0.0
    for call, body, answer in requests(calls, shared):
        began = time.process_time()
        asked, _ = histories.read(Api.CHAT, body)
        assembly.take(Exchange(call, asked, answer, Client(), "key"))
        seconds += time.process_time() - began
        size += len(body)
    began = time.process_time()
    found = len(assembly.sessions())
    return seconds + time.process_time() - began, size, found


def peer(calls: int, shared: int) -> float:
    """CPU seconds."""
    seconds = 0.0
    for _, body, _ in requests(calls, shared):
        began = time.process_time()
        json.loads(body)
        seconds += time.process_time() - began
    return seconds


def main() -> None:
    """Measure, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--calls", type=int, nargs="+", default=[1000, 10_000])
    arguments.add_argument("--shared", type=int, nargs="+", default=[20_000, 200_000])
    chosen = arguments.parse_args()
    print(
        "| calls | shared | bytes | sessions | CPU s | ms a call | peer CPU s | ratio |\n|---|---|---|---|---|---|---|---|"
    )
    for calls in chosen.calls:
        for shared in chosen.shared:
            seconds, size, found = ours(calls, shared)
            plain = peer(calls, shared)
            cells = [f"{calls:,}", f"{shared // 1000} kB", f"{size / 1e6:,.0f} MB", str(found), f"{seconds:.2f}"]
            cells += [f"{1000 * seconds / calls:.2f}", f"{plain:.2f}", f"{seconds / plain:.2f}"]
            print(f"| {' | '.join(cells)} |")
    print(f"\npeak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")


if __name__ == "__main__":
    main()
