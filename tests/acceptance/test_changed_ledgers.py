"""The ledger is a view of the log: what was changed in it decides nothing."""

import contextlib
import sqlite3

from tests.acceptance.test_recognition import OWN, answers, bring, check, revoked, write  # noqa: F401


def test_stamps_that_were_changed_in_the_ledger_decide_nothing(home):
    """The ledger is a view of the log, and a file that anybody in the home's group may write."""
    path = write(home, "rival.jsonl", answers(3))
    bring(home, path, "d", "--lab", "rival", "--model", "rival-1", "--channel", "official", use="store")
    home("policy", "check", "d", "--use", "train", code=3)
    with contextlib.closing(sqlite3.connect(home.home / "ledger.db")) as ledger, ledger:
        [(table,)] = ledger.execute("select name from sqlite_master where name like 'stamp_sets_%' and type = 'table'")
        [(stamps,)] = ledger.execute(f"select stamps from {table}").fetchall()
        own = stamps.replace('"teacher"', '"human"').replace('"official"', '"unknown"').replace("rival", "")
        assert ledger.execute(f"update {table} set stamps = ?", (own,)).rowcount == 1
    for words in (["policy", "check", "d", "--use", "train"], ["access", "gate", "d", "--use", "train"]):
        assert "doctor --rebuild" in home(*words, code=4).err
    assert "dataset" not in home("dataset", "export", "d", "out.jsonl", code=4).out
    home("doctor", code=4)
    home("doctor", "--rebuild")
    home("policy", "check", "d", "--use", "train", code=3)


def test_rows_that_were_moved_to_other_stamps_in_the_ledger_decide_nothing(revoked):  # noqa: F811
    home = revoked
    bring(home, write(home, "own.jsonl", answers(1, "tree")), "own", *OWN)
    sets = [next(iter(home("dataset", "show", name, "--json").json["stamp_sets"])) for name in ("rival", "own")]
    with contextlib.closing(sqlite3.connect(home.home / "ledger.db")) as ledger, ledger:
        [(table,)] = ledger.execute("select name from sqlite_master where name like 'datasets_%' and type = 'table'")
        assert ledger.execute(f"update {table} set dataset = replace(dataset, ?, ?)", sets).rowcount == 2
    for words in (["policy", "check", "rival", "--use", "train"], ["access", "gate", "rival"], ["dataset", "list"]):
        assert "doctor --rebuild" in home(*words, code=4).err
    home("doctor", "--rebuild")
    home("access", "gate", "rival", code=3)
