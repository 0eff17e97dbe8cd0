"""What a collection shows while it runs: progress, rate, cost, problems, time left."""

import time
from collections import deque
from decimal import Decimal
from typing import Any

from stillhouse.home.progress import Progress
from stillhouse.teachers.collect import Collected, Collection

# Rates are those of the last moments: long enough to be steady, short enough to show a change.
_RATE_SECONDS = 10.0


class LiveView:
    """Turns counts into a line for people and a state for programs."""

    def __init__(self, progress: Progress, teacher: str, collection: Collection, cap: Decimal | None) -> None:
        self._progress, self._cap = progress, cap
        self._total = len(collection.asks)
        self._seen: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)])
        self._tokens = 0
        self._collected: Collected | None = None
        self._more_to_come = "and_more" in collection.plan.does
        progress.start(f"ask {teacher}", 0 if self._more_to_come else self._total)
        progress.update(self._total - len(collection.missing))

    def tokens(self, count: int) -> None:
        """A local model has said so many tokens."""
        self._tokens += count
        # Answers of a batch come all at once, and are looked at before the last is counted.
        done = _done(self._collected) if self._collected is not None else -1
        self._progress.update(done, f"{self._tokens:,} tokens")

    def show(self, collected: Collected) -> None:
        """Bring what is shown up to date."""
        self._collected, state = collected, self.state(collected)
        self._progress.update(_done(collected), describe(collected, state), state)

    def finish(self, collected: Collected) -> None:
        """Report the result."""
        self._progress.finish(describe(collected, {}))

    def state(self, collected: Collected) -> dict[str, Any]:
        """Everything there is to see, under names that programs may rely on."""
        moment, done = time.monotonic(), _done(collected)
        self._seen.append((moment, collected.paid + collected.failed, collected.tokens))
        while len(self._seen) > 2 and moment - self._seen[0][0] > _RATE_SECONDS:
            self._seen.popleft()
        since, calls, tokens = self._seen[0]
        seconds = max(1e-6, moment - since)
        rate = (collected.paid + collected.failed - calls) / seconds
        asked = max(collected.asked, self._total)
        return {
            "done": done,
            "asked": asked,
            "answers": collected.answers,
            "reused": collected.reused,
            "in_flight": collected.load.in_flight,
            "waiting": collected.load.waiting,
            "at_a_time": collected.load.limit,
            "requests_a_second": round(rate, 2),
            "tokens_a_second": round((collected.tokens - tokens) / seconds, 1),
            "spent": collected.spent,
            "cap": str(self._cap) if self._cap is not None else None,
            "failed": collected.failed,
            "unsettled": collected.unsettled,
            "errors": dict(sorted(collected.reasons.items(), key=lambda item: -item[1])[:5]),
            "finishes": dict(collected.finishes),
            "eta_seconds": round((asked - done) / rate, 1) if rate and not self._more_to_come else None,
        }


def _done(collected: Collected) -> int:
    return collected.answers + collected.failed


def describe(collected: Collected, state: dict[str, Any]) -> str:
    """Counts as a line: what is nothing is left out."""
    parts = [f"{collected.answers} answers"]
    parts += [f"{collected.reused} of them kept from before"] if collected.reused else []
    parts += [f"{collected.failed} failed"] if collected.failed else []
    parts += [f"{collected.unsettled} unsettled"] if collected.unsettled else []
    parts += [f"{count} {finish}" for finish, count in collected.finishes.items() if finish != "stop"]
    if state.get("in_flight") or state.get("waiting"):
        parts += [f"{state['in_flight']} in flight", f"{state['waiting']} waiting"]
        parts += [f"{state['requests_a_second']:.1f} requests/s, {state['tokens_a_second']:,.0f} tokens/s"]
    if Decimal(collected.spent):
        parts += [f"${collected.spent}" + (f" of ${state['cap']}" if state.get("cap") else "")]
    worst = next(iter(state.get("errors", {}).items()), None)
    parts += [f"{worst[1]} x {worst[0][:60]}"] if worst else []
    if state.get("eta_seconds") is not None:
        parts += [f"about {state['eta_seconds']:.0f} s to go"]
    return ", ".join(parts)
