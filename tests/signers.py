"""A signer for tests of parts below the composition root."""

from pathlib import Path
from tempfile import TemporaryDirectory

from stillhouse.identity.keys import home_signer
from stillhouse.identity.signatures import HOME, Signatory
from stillhouse.recorder import Sign


def somebody() -> Sign:
    """Signs with a key of its own."""
    with TemporaryDirectory() as folder:
        return Signatory(HOME, home_signer(Path(folder)), 0).sign
