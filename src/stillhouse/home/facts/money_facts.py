"""Entries about what may be spent."""

from stillhouse.home.facts.declarations import Fact, Table


class BudgetLeased(Fact, frozen=True, tag="budget-leased"):
    """A process took a slice of some caps: what it asks under this lease is charged to them. Slices of a lease add up.

    ``holder`` is the file whose lock the process holds for as long as it lives.
    """

    lease: str
    holder: str
    scopes: tuple[str, ...]
    usd: str

    tables = (Table("leases", indexes=("lease", "scope"), each="scopes", columns={"scope": "scopes"}),)


class BudgetReturned(Fact, frozen=True, tag="budget-returned"):
    """A lease is over: from now on its caps are charged what it used, calls of unknown fate at their worst case.

    Where a call of an ended lease is settled later, another one corrects it by its ``used_usd``, which may be negative.
    """

    lease: str
    used_usd: str

    tables = (Table("lease_returns", indexes=("lease",)),)
