"""What an API counted. A count that is missing, null or none makes the usage unknown, never the answer."""

import math
from collections.abc import Mapping
from typing import Any

from stillhouse.nouns import Usage

_MOST_TOKENS = 2**40  # more is not a count of tokens


def count(value: Any) -> int:
    """A count of tokens; -1 where the value cannot be one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS else -1


def largest(first: Mapping[str, Any], second: Any) -> dict[str, Any]:
    """Two reports on one call as one: of every counter the larger value, whichever event named it."""
    merged = dict(first)
    for name, value in second.items() if isinstance(second, Mapping) else ():
        known = merged.get(name)
        if isinstance(value, Mapping):
            merged[name] = largest(known if isinstance(known, Mapping) else {}, value)
        elif isinstance(value, list):
            merged[name] = value if not isinstance(known, list) or len(value) >= len(known) else known
        elif count(value) >= 0:
            merged[name] = max(count(value), count(known))
        else:
            merged.setdefault(name, value)
    return merged


def openai_usage(usage: Any) -> Usage:
    """OpenAI's counts, of chat, completions (``prompt_tokens``) or responses (``input_tokens``)."""
    given = usage if isinstance(usage, Mapping) else {}
    prompt = count(given.get("prompt_tokens", given.get("input_tokens")))
    said = count(given.get("completion_tokens", given.get("output_tokens")))
    # Some servers bill hidden reasoning that stands in the total alone.
    hidden = count(given.get("total_tokens")) - prompt - said if min(prompt, said) >= 0 else 0
    return Usage(prompt, said + max(0, hidden))


def anthropic_usage(usage: Any) -> Usage:
    """Anthropic's counts, in tokens of the full price.

    Reading a prompt into a cache costs 1.25 or 2 times as much, reading it from there a tenth (Anthropic, "Prompt caching");
    all of it rounded up. Where the server ran several passes (``iterations``), it bills their sum.
    """
    given = usage if isinstance(usage, Mapping) else {}
    whole = Usage(_prompt(given), count(given.get("output_tokens")))
    passes = given.get("iterations")
    if isinstance(passes, list) and passes and all(isinstance(one, Mapping) for one in passes):
        prompts, said = [_prompt(one) for one in passes], [count(one.get("output_tokens")) for one in passes]
        if min(*prompts, *said) < 0:
            return Usage()
        whole = Usage(max(whole.prompt_tokens, sum(prompts)), max(whole.completion_tokens, sum(said)))
    return whole


def _prompt(usage: Mapping[str, Any]) -> int:
    fresh = count(usage.get("input_tokens"))
    if fresh < 0:
        return -1
    lifetimes = usage.get("cache_creation")
    an_hour = max(0, count(lifetimes.get("ephemeral_1h_input_tokens"))) if isinstance(lifetimes, Mapping) else 0
    minutes = max(0, count(usage.get("cache_creation_input_tokens"))) - an_hour
    read = max(0, count(usage.get("cache_read_input_tokens")))
    return fresh + 2 * an_hour + math.ceil(max(0, minutes) * 1.25) + math.ceil(read / 10)
