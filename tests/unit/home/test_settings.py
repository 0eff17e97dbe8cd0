"""Settings: from the file and the environment."""

import pytest

from stillhouse.errors import HomeError
from stillhouse.home.settings import read_settings


def test_settings_come_from_file_and_environment(tmp_path):
    (tmp_path / "config.toml").write_text(
        '[organisation]\ncompetes_with = ["openai"]\n[log]\ncheckpoints = "elsewhere"\n'
    )
    read = read_settings(tmp_path, {"STILLHOUSE_LEDGER_URL": "postgresql://x", "STILLHOUSE_DURABILITY": "power"})
    assert (read.ledger_url, read.durability) == ("postgresql://x", "power")
    assert read.organisation.competes_with == ("openai",)
    assert read.checkpoints == tmp_path / "elsewhere"
    assert read_settings(None, {"STILLHOUSE_HOME": str(tmp_path / "h")}).home == tmp_path / "h"
    with pytest.raises(HomeError, match="STILLHOUSE_DURABILITY"):
        read_settings(tmp_path, {"STILLHOUSE_DURABILITY": "maybe"})
    (tmp_path / "config.toml").write_text("[organisation]\ncompetes = []\n")
    with pytest.raises(HomeError, match="unknown field"):
        read_settings(tmp_path, {})
