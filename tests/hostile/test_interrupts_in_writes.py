"""An interrupt between any two calls of a write to the view, or under a lock, leaves no transaction open and no lock held."""

import os
import signal
import sys

import pytest
from sqlalchemy import text

from stillhouse import interrupts
from stillhouse.home.ledger.databases import open_database, writing
from stillhouse.vault.locks import locked, try_for, wait_for


class _AtCall:
    """Sends this process an interrupt at its n-th call of a function, Python's or C's."""

    def __init__(self, number: int) -> None:
        self.left, self.sent = number, False

    def __call__(self, frame, event, argument):
        if event in ("call", "c_call", "return", "c_return") and not self.sent:
            self.left -= 1
            if self.left < 0:
                self.sent = True
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def handled():
    before = signal.signal(signal.SIGINT, interrupts.handle)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(number, block) -> tuple[bool, bool]:
    """Run a block with an interrupt at its n-th call: was one sent, and did it come?"""
    at, came = _AtCall(number), False
    try:
        try:
            sys.setprofile(at)
            block()
        finally:
            sys.setprofile(None)
    except KeyboardInterrupt:
        came = True
    return at.sent, came


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the interrupt came before anyone could close it
@pytest.mark.parametrize("take", [wait_for, lambda path: locked(path, "x")])
def test_no_lock_is_left_held(tmp_path, handled, take):
    """Nor its file left open: the next one who waits for it, this process among them, would wait for ever."""

    def block():
        with take(tmp_path / "lock"):
            pass

    number, sent = 0, True
    while sent:
        sent, came = interrupted(number, block)
        assert sent == came, number
        free = try_for(tmp_path / "lock")
        assert free is not None, number
        free.release()
        number += 1
    assert number > 10


def test_no_write_is_left_open(tmp_path, handled):
    engine = open_database(f"sqlite:///{tmp_path / 'view.db'}")
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))

    def block():
        with writing(engine) as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")

    number, written, sent = 0, 0, True
    while sent:
        sent, came = interrupted(number, block)
        assert sent == came, number
        assert interrupts._Gate.depth == 0, number
        assert engine.pool.checkedout() == 0, number  # a connection that is out may hold a transaction
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=0")
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # fails at once where a write is still open
            connection.rollback()
            rows = connection.exec_driver_sql("SELECT count(*) FROM t").scalar_one()
        assert rows - written in (0, 1), number
        written = rows
        number += 1 if number < 50 else 3
    assert number > 100
    engine.dispose()
