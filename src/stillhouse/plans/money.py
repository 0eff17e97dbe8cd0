"""Money: what a call can cost at worst, and a cap that nothing passes.

Covered: the cap holds within this process whatever the concurrency, and across restarts, since calls of unknown fate
stay charged at their worst case. Not covered yet: one cap shared by several processes at the same time.
"""

import threading
from decimal import ROUND_UP, Decimal, InvalidOperation

from stillhouse.errors import BudgetReached, RecipeError
from stillhouse.nouns import Ask, Teacher, Usage

_MICRO = Decimal("0.000001")
_MILLION = Decimal(1_000_000)
# Tokens that a provider adds around a message: roles, separators. Generous, since a bound must not be passed.
_PER_MESSAGE = 16


def is_metered(teacher: Teacher) -> bool:
    """Does a call to this teacher cost money?"""
    return bool(teacher.price_in or teacher.price_out)


def usd(amount: Decimal) -> str:
    """An amount as text, to the millionth of a dollar, rounded up."""
    return str(amount.quantize(_MICRO, rounding=ROUND_UP))


def parse_usd(text: str, what: str) -> Decimal:
    """An amount from text. Raises RecipeError."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise RecipeError(f'{what} must be an amount in USD such as "5.00", not {text!r}.') from None
    if not amount.is_finite() or amount < 0:
        raise RecipeError(f"{what} must be an amount of at least 0, not {text!r}.")
    return amount


def worst_case(teacher: Teacher, ask: Ask) -> Decimal:
    """The most that a call can cost. No tokenizer makes more tokens than there are bytes."""
    if not is_metered(teacher):
        return Decimal(0)
    prompt = sum(len(message.content.encode()) + _PER_MESSAGE for message in ask.messages)
    return cost(teacher, Usage(prompt, ask.parameters.max_tokens))


def cost(teacher: Teacher, usage: Usage) -> Decimal:
    """What a call cost by the tokens that the teacher counted."""
    if not is_metered(teacher):
        return Decimal(0)
    parts = (
        Decimal(teacher.price_in or 0) * usage.prompt_tokens + Decimal(teacher.price_out or 0) * usage.completion_tokens
    )
    return (parts / _MILLION).quantize(_MICRO, rounding=ROUND_UP)


class Budget:
    """A cap in USD: reserve the worst case before a call, settle at what it cost."""

    def __init__(self, cap: Decimal | None, spent: Decimal) -> None:
        """``cap`` None means that nothing here costs money; ``spent`` counts what earlier processes paid or hold."""
        self.cap, self.spent = cap, spent
        self._held: dict[str, Decimal] = {}
        self._mutex = threading.RLock()  # calls are admitted by the sender's thread and settled by the reader's

    @property
    def committed(self) -> Decimal:
        """Spent and held together: never more than the cap."""
        with self._mutex:
            return self.spent + sum(self._held.values(), Decimal(0))

    def reserve(self, key: str, amount: Decimal) -> None:
        """Hold an amount for a call. Raises BudgetReached where it does not fit."""
        with self._mutex:
            self._reserve(key, amount)

    def _reserve(self, key: str, amount: Decimal) -> None:
        if self.cap is not None and self.committed + amount > self.cap:
            raise BudgetReached(
                f"${usd(self.committed)} of ${self.cap} is spent or held, and the next call may cost ${usd(amount)}."
            )
        self._held[key] = self._held.get(key, Decimal(0)) + amount

    def settle(self, key: str, actual: Decimal) -> None:
        """A call's cost is known; what was held for it is free again."""
        with self._mutex:
            self._held.pop(key, None)
            self.spent += actual

    def keep(self, key: str) -> None:
        """Nobody knows whether a call was charged: it stays charged at its worst case."""
        with self._mutex:
            self.spent += self._held.pop(key, Decimal(0))
