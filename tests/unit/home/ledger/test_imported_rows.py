"""Rows of imports, found by key and by mark: equal to looking at every line, however the index is cut into objects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.canon import digest_bytes
from stillhouse.home import facts
from stillhouse.home.facts import ImportedShare
from stillhouse.home.ledger import imported_rows
from stillhouse.home.ledger.imported_rows import ALIAS, ANSWER, CODE, KEY
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.row_index import IndexLine, encode_index
from stillhouse.vault.durability import Durability
from stillhouse.vault.log import Log
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects


def mark(number):
    """Marks of which some begin alike for eight bytes, and one is all zeros."""
    return "0" * 32 if number == 0 else f"{number // 3:016x}{number:016x}"


def digest(number):
    return digest_bytes(str(number).encode())


NUMBERS = st.integers(0, 12)
LINES = st.builds(
    lambda key, stamps, question, answer, code, aliases: IndexLine(
        digest(key), digest(-key), stamps, question=mark(question), answer=mark(answer) if answer is not None else "",
        code=mark(code) if code is not None else "", aliases=tuple(map(digest, aliases)),
    ),
    NUMBERS, st.integers(-(2**62), 2**62), NUMBERS, NUMBERS | st.none(), NUMBERS | st.none(), st.lists(NUMBERS, max_size=3),
)  # fmt: skip
IMPORTS = st.lists(st.lists(LINES, max_size=9), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    def make(imports, cut):
        folder = tmp_path_factory.mktemp("rows")
        objects = Objects(MemoryBackend())
        log, ledger = Log(folder / "log", objects), Ledger("sqlite://", vault=objects, cache=folder / "cache")
        writer = log.writer(Durability.KILL)
        for number, lines in enumerate(imports):
            index = tuple(objects.put(encode_index(lines[at : at + cut])) for at in range(0, len(lines), cut))
            counts = {line.stamps: 0 for line in lines}
            for line in lines:
                counts[line.stamps] += 1
            shares = tuple(ImportedShare(stamps, rows, rows, 2 * rows, True) for stamps, rows in counts.items())
            fact = facts.RowsImported(
                at=f"2026-01-0{number + 1}", by="me", run=f"r{number}", source="", digest="", shapes={},
                rows=len(lines), skipped={}, recognised={}, know="", shares=shares, index=index, contents=(),
            )  # fmt: skip
            writer.append_many([facts.encode(fact)] * (1 + number % 2))  # one of two processes that did the same
        writer.close()
        ledger.catch_up(log)
        return ledger

    return make


@given(IMPORTS, st.integers(1, 4), st.sets(NUMBERS))
def test_what_is_found_is_what_stands_there(world, imports, cut, wanted):
    ledger = world(imports, cut)
    try:
        for by, name in ((ANSWER, mark), (CODE, mark), (ALIAS, digest), (KEY, digest)):
            names = {name(number) for number in wanted}
            expected = sorted(
                (one, f"2026-01-0{number + 1}", line.question, line.stamps)
                for number, lines in enumerate(imports)
                for line in lines
                for one in (line.aliases if by == ALIAS else [getattr(line, by)])
                if one in names
            )
            assert sorted(map(tuple, imported_rows.found(ledger, by, names))) == expected
            others = [row for row in expected if row[1] != "2026-01-01"]
            assert sorted(map(tuple, imported_rows.found(ledger, by, names, "r0"))) == others
        stamps = {line.stamps for lines in imports for line in lines[:2]}
        expected = sorted(
            (line.question, line.answer) for lines in imports for line in lines if line.answer and line.stamps in stamps
        )
        assert sorted(imported_rows.of_stamps(ledger, ANSWER, stamps)) == expected
        counted = {}
        for number, lines in enumerate(imports):
            for line in lines:
                rows, tokens = counted.get((line.stamps, f"r{number}"), (0, 0))
                counted[line.stamps, f"r{number}"] = (rows + 1, tokens + 2)
        assert imported_rows.rows_by_stamps(ledger) == counted
    finally:
        ledger.close()
