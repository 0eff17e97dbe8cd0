"""One suite for every database of the ledger."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from stillhouse.conversations.prompts import prompt_digest
from stillhouse.errors import HomeNewer, LedgerUnavailable, UnknownName
from stillhouse.home import facts
from stillhouse.home.ledger import answer_queries, lineage_graph, money_queries, origin_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.lineage_graph import Edge, ancestry, impact
from stillhouse.home.ledger.projection import tables
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import Channel, Message, Stamp, Teacher, TeacherKind, Usage, Verdict, VerdictStatus
from stillhouse.permission.stamp_sets import stamp_set
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects
from tests.examples import examples
from tests.signers import somebody

WHEN = {"at": "2026-01-01T00:00:00.000Z", "by": "test"}


@pytest.fixture
def ledger(url):
    opened = Ledger(url)
    yield opened
    opened.close()


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log", Objects(MemoryBackend()))


@pytest.fixture
def recorder(log, ledger):
    made = Recorder(log, ledger, by="test", signatory=somebody)
    yield made
    made.close()


def answered(key: str, run: str = "r", cost: str = "0.010000") -> facts.Answered:
    return facts.Answered(
        **WHEN, run=run, teacher="t", key=key, task="task", prompt="p", sample=0, stamps=5, text=f"text of {key}\x00",
        finish="stop", usage=Usage(3, 4), cost_usd=cost, seconds=0.5, raw="",
    )  # fmt: skip


def asked(*keys: str, worst: str = "0.500000") -> facts.Asked:
    return facts.Asked(**WHEN, run="r", teacher="t", keys=keys, worst_case_usd=worst)


def failed(key: str, charged: bool) -> facts.CallFailed:
    return facts.CallFailed(**WHEN, run="r", teacher="t", key=key, reason="no", status=500, charged=charged)


FACTS = st.one_of(
    st.builds(answered, st.sampled_from("abc")),
    st.builds(lambda keys: asked(*keys), st.lists(st.sampled_from("abcd"), max_size=3)),
    st.builds(failed, st.sampled_from("abc"), st.booleans()),
    st.builds(
        lambda a, b: facts.Derived(**WHEN, parent=a, child=b, kind="k"), st.sampled_from("xyz"), st.sampled_from("uvw")
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(12), deadline=None)
@given(st.lists(FACTS, max_size=16))
def test_a_rebuilt_view_equals_the_old_row_for_row(recorder, ledger, log, found):
    recorder.record(*found) if found else None
    recorder.refresh()
    assert ledger.differences(log) == []
    before = ledger.counts()
    ledger.rebuild(log)
    assert ledger.counts() == before
    assert ledger.differences(log) == []


def test_a_difference_is_found(recorder, ledger, log):
    recorder.record(answered("a"), answered("b"))
    recorder.refresh()
    with ledger.engine.begin() as connection:
        connection.execute(tables.answers.update().where(tables.answers.c.key == "a").values(finish="forged"))
    assert ledger.differences(log) == ["answers: 2 rows here, 2 in the log's view, but not the same ones"]
    with ledger.engine.begin() as connection:
        connection.execute(tables.answers.delete())
    assert "0 rows here, 2 in the log's view" in ledger.differences(log)[0]
    ledger.rebuild(log)
    assert ledger.differences(log) == []


def test_an_answer_keeps_its_text(recorder, ledger, log, tmp_path):
    """An earlier answer of the same key arrives, from another home: who looked before reads what he looked at."""
    recorder.record(answered("a"))
    recorder.refresh()
    before = answer_queries.answers(ledger, ["a"])["a"]
    with log.writer() as other:
        other.append(
            facts.encode(msgspec.structs.replace(answered("a"), at="2025-01-01T00:00:00.000Z", text="earlier"))
        )
    recorder.refresh()
    assert answer_queries.texts(ledger, ["a"]) == {"a": "earlier"}, "the first of that key counts"
    assert [text for _, text in answer_queries.with_texts(ledger, [before])] == ["text of a\ufffd"]


def test_applying_twice_changes_nothing(recorder, ledger, log):
    recorder.record(answered("a"), asked("b"))
    recorder.refresh()
    with ledger.engine.begin() as connection:
        connection.execute(tables.cursors.delete())
    assert ledger.catch_up(log) == 2
    assert (ledger.counts()["answers"], ledger.counts()["asked"]) == (1, 1)


def test_a_view_that_knows_more_than_the_log_is_built_anew(tmp_path, ledger):
    """After power loss the log may have lost its last moments, while the database has kept them."""
    log = Log(tmp_path / "folder", Objects(MemoryBackend()))
    first = Recorder(log, ledger, by="x", signatory=somebody)
    first.record(answered("kept"))
    segment = next((tmp_path / "folder").rglob("*.segment"))
    size = segment.stat().st_size
    first.record(answered("lost1"), answered("lost2"))
    first.refresh()
    first.close()
    with segment.open("r+b") as file:
        file.truncate(size)
    log = Log(tmp_path / "folder", Objects(MemoryBackend()))
    again = Recorder(log, ledger, by="x", signatory=somebody)
    again.record(answered("new1"), answered("new2"), answered("new3"))
    again.refresh()
    found = answer_queries.answers(ledger, ["kept", "lost1", "lost2", "new1", "new2", "new3"])
    assert sorted(found) == ["kept", "new1", "new2", "new3"]
    fresh = Log(tmp_path / "folder", Objects(MemoryBackend()))
    assert ledger.differences(fresh) == []
    again.close()


def test_a_count_that_no_column_holds_is_clamped(recorder, ledger):
    recorder.record(msgspec.structs.replace(answered("a"), usage=Usage(2**63 - 1, 5)))
    recorder.refresh()
    assert answer_queries.answers(ledger, ["a"])["a"].usage == Usage(2**53, 5)


def test_two_processes_write_and_both_see_all(url, log, ledger):
    other = Ledger(url)
    first, second = (Recorder(log, view, by="x", signatory=somebody) for view in (ledger, other))
    for number in range(30):
        (first if number % 2 else second).record(answered(f"k{number}"))
        (second if number % 3 else first).refresh()
    first.close()
    second.close()
    assert len(answer_queries.answers(other, [f"k{n}" for n in range(30)])) == 30
    assert ledger.differences(log) == []
    other.close()


def test_answers_and_verdicts(recorder, ledger):
    verdict = Verdict(VerdictStatus.FAILED, "returned 1, not 2", "test 1", "separate", "x", 3, 2, 0.25)
    recorder.record(
        answered("a"), answered("a"), facts.Judged(**WHEN, run="r", key="a", task="t", judge="j", verdict=verdict)
    )
    recorder.refresh()
    found = answer_queries.answers(ledger, ["a", "b"])
    assert found.keys() == {"a"}
    assert answer_queries.texts(ledger, ["a", "b"]) == {"a": "text of a\ufffd"}, (
        "PostgreSQL stores no NUL; the log has it"
    )
    assert (found["a"].usage, found["a"].stamps) == (Usage(3, 4), 5)
    assert answer_queries.verdicts(ledger, ["a"]) == {("a", "j"): verdict}
    recorder.record(*(answered(f"n{number}") for number in range(2500)))
    recorder.refresh()
    assert len(answer_queries.answers(ledger, [f"n{number}" for number in range(2500)])) == 2500


def test_spending_counts_what_may_have_been_paid(recorder, ledger):
    recorder.record(asked("a", "b", "c", "d"), answered("a"), failed("b", False), failed("c", True))
    recorder.refresh()
    spent = money_queries.spending(ledger, "r")
    assert (str(spent.paid), str(spent.held), spent.unsettled) == ("0.010000", "1.000000", 2)
    recorder.record(asked("d"), answered("d"))
    recorder.refresh()
    assert money_queries.spending(ledger, "r").unsettled == 2, "the first call for d is still of unknown fate"


def test_interning(recorder, ledger):
    one, other = Stamp("teacher", lab="x"), Stamp("human")
    stamps = stamp_set([one, other])
    assert stamps == stamp_set([other, one, one])
    messages = (Message("user", "hi"),)
    for _ in range(2):
        recorder.intern([stamps], {prompt_digest(messages): messages})
    recorder.refresh()
    assert origin_queries.stamp_sets(ledger)[stamps.id].stamps == stamps.stamps
    assert origin_queries.prompt_digests(ledger) == {prompt_digest(messages)}
    assert (ledger.counts()["stamp_sets"], ledger.counts()["prompts"]) == (1, 1)
    assert Recorder(recorder.log, ledger, by="x", signatory=somebody)._interned[0] == {stamps.id}


def test_teachers_are_known_by_their_last_registration(recorder, ledger):
    teacher = Teacher(
        name="t", kind=TeacherKind.REPLAY, model="m", lab="l", channel=Channel.PUBLISHED, terms=("licence/mit",)
    )
    with pytest.raises(UnknownName, match="there is: none"):
        origin_queries.teacher(ledger, "t")
    recorder.record(facts.TeacherRegistered(**WHEN, teacher=teacher))
    recorder.refresh()
    assert origin_queries.teacher(ledger, "t") == teacher
    with pytest.raises(UnknownName, match="there is: t"):
        origin_queries.teacher(ledger, "u")


EDGES = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=10)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(25), deadline=None)
@given(EDGES, st.sampled_from("abcdef"))
def test_impact_and_ancestry_equal_brute_force(ledger, pairs, root):
    with ledger.engine.begin() as connection:
        connection.execute(tables.edges.delete())
        for number, (parent, child) in enumerate(pairs):
            row = {
                "writer": "x",
                "number": number,
                "place": 0,
                "at": "t",
                "by": "t",
                "parent": parent,
                "child": child,
                "kind": "k",
            }
            connection.execute(tables.edges.insert().values(row))

    def closure(start: str, step: "dict[str, set[str]]") -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for following in step.get(todo.pop(), set()) - seen:
                seen.add(following)
                todo.append(following)
        return seen

    down: dict[str, set[str]] = {}
    up: dict[str, set[str]] = {}
    for parent, child in pairs:
        down.setdefault(parent, set()).add(child)
        up.setdefault(child, set()).add(parent)
    assert set(impact(ledger, root).nodes) == closure(root, down)
    above = closure(root, up)
    expected = {Edge(parent, child, "k") for parent, child in pairs if child == root or child in above}
    assert set(ancestry(ledger, root)) == expected


def test_a_database_of_a_newer_version_is_refused(url, ledger):
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE stillhouse_view SET revision = 9999"))
    with pytest.raises(HomeNewer, match="9999"):
        Ledger(url)


def test_an_entry_of_an_unknown_kind_is_named(log, ledger):
    with log.writer() as writer:
        writer.append(b'{"fact":"from-the-future"}')
    with pytest.raises(HomeNewer, match="from-the-future"):
        ledger.catch_up(log)


@pytest.mark.parametrize(
    "bad",
    ["sqlite:////no/such/folder/ledger.db", "postgresql+psycopg://nobody@127.0.0.1:1/x", "nonsense", "nosuch://x"],
)
def test_a_database_that_is_not_there_is_said_so(bad):
    with pytest.raises(LedgerUnavailable):
        Ledger(bad)


def test_the_log_may_live_in_a_folder(tmp_path, url):
    log = Log(tmp_path / "l", Objects(LocalBackend(tmp_path / "o")), segment_bytes=2000)
    view = Ledger(url)
    recorder = Recorder(log, view, by="x", signatory=somebody)
    for number in range(50):
        recorder.record(answered(f"k{number}"))
        recorder.refresh()
    recorder.close()
    assert view.counts()["answers"] == 50
    view.rebuild(log)
    assert view.counts()["answers"] == 50
    view.close()


def test_what_a_revocation_asks_of_a_ledger(recorder, ledger):
    """Records by stamps, each once; everything below a node, over a cycle, with its records."""
    uncounted = msgspec.structs.replace(answered("c", "r2"), usage=Usage(-1, 4))
    edges = [
        ("teacher:t", "run:r"),
        ("run:r", "dataset:d@1"),
        ("dataset:d@1", "model:m@1"),
        ("model:m@1", "run:r2"),
        ("run:r2", "run:r"),
    ]
    recorder.record(answered("a"), answered("b"), answered("a"), uncounted)
    recorder.record(*(facts.Derived(**WHEN, parent=parent, child=child, kind="k") for parent, child in edges))
    recorder.refresh()
    tallies = {tally.run: (tally.records, tally.tokens) for tally in lineage_graph.records_by_stamps(ledger, {5, 6})}
    assert tallies == {"r": (2, 14), "r2": (1, 4)}
    assert lineage_graph.records_by_stamps(ledger, {6}) == []
    found = lineage_graph.impact(ledger, "teacher:t")
    assert found.nodes == ("dataset:d@1", "model:m@1", "run:r", "run:r2")
    assert found.records == 3
    assert lineage_graph.impact(ledger, "model:m@1").records == 3, "through the cycle"
    assert [edge.parent for edge in lineage_graph.parents_of(ledger, "dataset:d@1")] == ["run:r"]
