"""How many examples a generated test tries: all in `make test`, a quarter in `make test-fast`."""

import hypothesis


def examples(number: int) -> int:
    """Of ``number``, what the profile in use asks for."""
    return max(1, number * hypothesis.settings.default.max_examples // 100)
