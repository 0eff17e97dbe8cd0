"""What a call can cost at worst, and what it did cost. Prices are dated facts; every amount is rounded up."""

import functools
import tomllib
from collections.abc import Sequence
from decimal import ROUND_UP, Decimal, InvalidOperation
from importlib import resources

import msgspec

from stillhouse.errors import RecipeError
from stillhouse.home.plans.bounds import bound_of
from stillhouse.nouns import Ask, Teacher, Usage

_MICRO = Decimal("0.000001")
_MILLION = Decimal(1_000_000)
# Tokens that a provider adds around a message: roles, separators. Generous, since a bound must not be passed.
_PER_MESSAGE = 16


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's prices since a day, in USD per million tokens; ``batch_share`` is the part of them that a batch costs.

    ``confidence`` is ``read`` or ``secondary``.
    """

    lab: str
    model: str
    since: str
    price_in: str
    price_out: str
    source: str
    confidence: str = "read"
    batch_share: str = ""

    @property
    def id(self) -> str:
        """How a registration names it."""
        return f"{self.lab}/{self.model}@{self.since}"


def price_of(lab: str, model: str, day: str, own: Sequence[Price] = ()) -> Price | None:
    """The latest price of a model on a day: of the organisation's ``own`` where they name the model, else of ours."""
    for prices in (own, _shipped_prices()):
        known = [price for price in prices if (price.lab, price.model) == (lab, model) and price.since <= day]
        if known:
            return max(known, key=lambda price: price.since)
    return None


@functools.cache
def _shipped_prices() -> tuple[Price, ...]:
    text = resources.files(__package__).joinpath("prices.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)["price"], tuple[Price, ...])


def parse_prices(data: bytes, name: str) -> tuple[Price, ...]:
    """The prices of a TOML document. Raises RecipeError, which calls it by ``name``."""
    try:
        prices = msgspec.convert(tomllib.loads(data.decode("utf-8")).get("price", []), tuple[Price, ...])
    except (ValueError, msgspec.ValidationError) as failure:
        raise RecipeError(f"{name}: {failure}.", next_step="Correct it; docs/teachers.md shows its form.") from failure
    for price in prices:
        for amount in (price.price_in, price.price_out):
            parse_usd(amount, f"{name}: the price of {price.model}")
    return prices


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
    if ask.parameters.more:
        prompt += len(msgspec.json.encode(ask.parameters.more)) + bound_of(ask.parameters.more).tokens
    return cost(teacher, Usage(prompt, ask.parameters.max_tokens + teacher.hidden_tokens))


def worst_case_of_request(
    teacher: Teacher, size: int, answer_tokens: int, answers: int = 1, beside: int = 0
) -> Decimal:
    """The most that a request of so many bytes can cost; ``beside`` are tokens of what its bytes do not bound.

    Twice the bytes: a provider may bill a cached prompt's first reading at up to twice its price.
    """
    if not is_metered(teacher):
        return Decimal(0)
    return cost(teacher, Usage(2 * (size + beside + _PER_MESSAGE), answers * (answer_tokens + teacher.hidden_tokens)))


def cost(teacher: Teacher, usage: Usage) -> Decimal:
    """What a call cost by the tokens that the teacher counted."""
    if not is_metered(teacher):
        return Decimal(0)
    parts = (
        Decimal(teacher.price_in or 0) * usage.prompt_tokens + Decimal(teacher.price_out or 0) * usage.completion_tokens
    )
    return (parts / _MILLION).quantize(_MICRO, rounding=ROUND_UP)
