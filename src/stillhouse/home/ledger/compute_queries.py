"""What was imported about compute, and what is lent."""

from stillhouse.home import facts
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.selecting import recorded


def compute_imports(ledger: Ledger) -> list[facts.ComputeImported]:
    """Every import, oldest first."""
    return recorded(ledger, facts.ComputeImported)
