"""Entries about compute: what was read of schedulers, metrics and bills, and what is lent to whom."""

from stillhouse.home.facts.declarations import Fact, Kept, Table, table_of_acts
from stillhouse.nouns import Lease, Signature


class ComputeImported(Fact, frozen=True, tag="compute-imported"):
    """A file of a scheduler, a metrics server or a bill was read. ``digest`` is that of its bytes, ``files`` are its tables.

    ``first`` and ``last`` are the times that it speaks of, in seconds since 1970; 0 where it has none.
    """

    kind: str
    source: str
    digest: str
    files: dict[str, str]
    rows: int
    left_out: dict[str, int]
    first: int
    last: int

    tables = (Table("compute_imports", indexes=("digest",)),)
    keeps = (Kept("compute", "files"),)


class LeaseGiven(Fact, frozen=True, tag="lease-given"):
    """GPUs of a pool are lent until a moment, to a team or to a tenant from outside."""

    lease: Lease
    plan: str
    previous: str
    signatures: tuple[Signature, ...]

    tables = (table_of_acts("Lease", "lease"),)
    act = "lease"
