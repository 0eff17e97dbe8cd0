"""What the organisation says of its own compute: pools, owners, prices, what it would lend. Read from ``fleet.toml``. Pure.

Whoever can write the file decides what a GPU-hour costs and whether outsiders may use a pool; where there is a roster, it
counts as it was adopted (``policy adopt``), like the other documents.
"""

import tomllib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import msgspec

from stillhouse.errors import RuleError


class Team(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A team: whom to ask about its GPUs, how many of a pool it is never left without, what an hour of its waiting is worth."""

    contact: str = ""
    floor: int = 0
    waiting_hour: str = ""  # money for a GPU-hour that its jobs wait; "" is not known


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pool of GPUs of one kind. ``price`` is money for a GPU-hour; "" is unknown, which is not free.

    ``outside`` says whether tenants from outside may use it at all. ``idle_watts`` is what an idle GPU draws.
    ``billed_as`` are resources, accounts or tags by which bills name it.
    """

    gpus: int = 0
    gpu_type: str = ""
    owner: str = ""
    contact: str = ""
    price: str = ""
    currency: str = "USD"
    outside: bool = False
    floor: int = 0
    idle_watts: float = 0.0
    teams: tuple[str, ...] = ()
    billed_as: tuple[str, ...] = ()

    @property
    def cost(self) -> Decimal | None:
        """Money for a GPU-hour; None where it is not known."""
        return Decimal(self.price) if self.price else None


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is said of the fleet."""

    pools: dict[str, Pool] = {}
    teams: dict[str, Team] = {}

    def pool(self, name: str) -> Pool:
        """What is said of a pool; nothing is known of one that is not named."""
        return self.pools.get(name, Pool())

    def contact(self, team: str, pool: str) -> str:
        """Whom to ask about GPUs that a team holds: its own contact, else the pool's."""
        return self.teams.get(team, Team()).contact or self.pool(pool).contact or self.pool(pool).owner


def parse_fleet(data: bytes, called: str) -> Fleet:
    """Read ``fleet.toml``. Raises RuleError for what cannot be relied on."""
    try:
        fleet = msgspec.convert(tomllib.loads(data.decode("utf-8")), Fleet)
    except (ValueError, msgspec.ValidationError) as failure:
        raise RuleError(
            f"({called}: {failure})", next_step=f"Correct {called}; docs/compute.md lists its keys."
        ) from None
    for name, pool in fleet.pools.items():
        _check_money(pool.price, f"{called}: the price of the pool {name}")
        if not 0 <= pool.gpus <= 100_000 or pool.floor < 0:
            raise RuleError(
                f"({called}: the pool {name} has a number of GPUs that cannot be)", next_step=f"Correct {called}."
            )
    for name, team in fleet.teams.items():
        _check_money(team.waiting_hour, f"{called}: waiting_hour of the team {name}")
        if team.floor < 0:
            raise RuleError(f"({called}: the team {name} has a floor below 0)", next_step=f"Correct {called}.")
    return fleet


def _check_money(text: str, what: str) -> None:
    if not text:
        return
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise RuleError(f"({what} is {text!r}, which is no amount of money)", next_step='Write it like "2.10".')


def per_week(price: Decimal | None, gpus: Decimal) -> Decimal | None:
    """What so many GPUs cost in a week; None where the price is not known."""
    return None if price is None else (price * gpus * 24 * 7).quantize(Decimal("0.01"))


def owners(fleet: Fleet) -> Mapping[str, str]:
    """The owner of each pool."""
    return {name: pool.owner for name, pool in fleet.pools.items()}
