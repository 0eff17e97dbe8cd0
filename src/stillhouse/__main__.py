"""``python -m stillhouse``."""

from stillhouse.cli.main import entry

entry()
