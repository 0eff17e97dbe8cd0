"""A signer for tests of parts below the composition root."""

from pathlib import Path
from tempfile import TemporaryDirectory

from stillhouse.home.recorder import Sign
from stillhouse.permission.signatures import HOME, Signatory
from stillhouse.permission.signing_keys import home_signer


def somebody() -> Sign:
    """Signs with a key of its own."""
    with TemporaryDirectory() as folder:
        return Signatory(HOME, home_signer(Path(folder)), 0).sign
