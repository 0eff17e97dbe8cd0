"""Forming: what it decides, that it is the same however often and by whatever it is done, and what a change costs."""

import itertools
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.datasets import findings, forming, version_files
from stillhouse.datasets.candidates import ListSource
from stillhouse.datasets.content_tree import ContentTree
from stillhouse.datasets.filter import Candidate, Examiner, Protected, protect
from stillhouse.datasets.fingerprint import code_digest
from stillhouse.datasets.forming import FormingRules, form
from stillhouse.datasets.shards import DROPPED, ROWS, read_rows
from stillhouse.datasets.version_files import store_version
from stillhouse.engine.inline_engine import InlineEngine
from stillhouse.engine.local_engine import LocalEngine
from stillhouse.errors import StorageError
from stillhouse.nouns import DatasetVersion, Decision, Ground, Message, Task, Use, Verdict, VerdictStatus
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects

NOTHING = protect([], [])
DECISIONS = {
    1: Decision(Use.TRAIN, True, "yes"),
    2: Decision(Use.TRAIN, False, "no"),
    3: Decision(Use.TRAIN, False, "gone", grounds=(Ground.REVOCATION,)),
}
STATUS = [VerdictStatus.PASSED, VerdictStatus.FAILED, VerdictStatus.NOT_JUDGED]


def candidate(number, text="an answer", code="", finish="stop", stamps=1, status=VerdictStatus.PASSED, sample=0):
    task = Task(id=f"t{number}é", messages=(Message("user", f"question {number % 3}"),), entry_point="f" * bool(code))
    key = f"blake3:{number:06}{sample}".ljust(71, "0")
    return Candidate(key, task, sample, text, code, finish, stamps, Verdict(status, "because"), tokens=number)


candidates = st.lists(
    st.builds(
        candidate,
        st.integers(0, 30),
        st.sampled_from(["one", "two", "three", "", "ten words in a row that are held out from every dataset"]),
        st.sampled_from(["", "def f(x): return x", "def f(y): return y", "def f(x): return 2"]),
        st.sampled_from(["stop", "length"]),
        st.sampled_from([1, 2, 3, 4]),
        st.sampled_from(STATUS),
        st.integers(0, 1),
    ),
    max_size=25,
    unique_by=lambda one: one.key,
)


def by_definition(found, rules):
    """Step by step over all that is left, in order, as the documentation has it: (key, step) of all, and the funnel's counts."""
    left = sorted(found, key=lambda one: (one.task.id, one.sample, one.key))
    ended, counts = {}, [len(left)]
    findings_of = {one.key: rules.examiner.examine([one])[0] for one in left}
    for step in rules.wanted:
        seen, kept = set(), []
        for one in left:
            finding = findings_of[one.key]
            dropped = {
                "complete": finding.incomplete,
                "verified": finding.unverified,
                "distinct": finding.same_as in seen,
                "not held out": finding.held_out,
                "allowed": one.stamps != 1,
            }[step]
            seen.add(finding.same_as)
            if dropped:
                ended[one.key] = step
            else:
                kept.append(one)
        left = kept
        counts.append(len(left))
    for place, one in enumerate(left):
        ended[one.key] = "wanted" if rules.most and place >= rules.most else ""
    return ended, counts


@settings(max_examples=60, deadline=None)
@given(candidates, st.integers(0, 3), st.integers(0, 25), st.booleans())
def test_forming_is_its_definition(tmp_path_factory, found, most, cut, verified):
    held = protect(
        [Task(id="h", messages=(Message("user", "ten words in a row that are held out from every dataset"),))], []
    )
    steps = forming.STEPS if verified else tuple(step for step in forming.STEPS if step != "verified")
    rules = FormingRules(Examiner(held), DECISIONS, steps, most)
    folder = tmp_path_factory.mktemp("cache")
    expected, counts = by_definition(found, rules)
    tree = ContentTree()
    for one in found:
        if not expected[one.key]:
            tree.add(rules.examiner.examine([one])[0].content)
    root = tree.root()
    for sources in ([ListSource(found)], [ListSource(found[:cut]), ListSource(found[cut:])]):
        for _ in range(2):  # the second time from what was found the first time
            with form(sources, rules, InlineEngine(), folder) as formed:
                assert {one.key: one.step for one in formed.placed()} == expected
                assert [step.kept for step in formed.funnel][: len(counts)] == counts
                assert formed.content_digest == root
                kept = [one for one in found if not expected[one.key]]
                assert formed.rows == len(kept) == formed.stamp_sets.total()
                assert formed.tokens.total() == sum(one.tokens for one in kept)
                assert [one for _, one in formed.with_texts()] == found, "in the order of the sources"


@given(st.integers(0, 30), st.integers(1, 6), st.randoms())
def test_examples_are_from_everywhere(tmp_path_factory, count, most, order):
    found = [candidate(number, f"answer {number}", stamps=1 + number % 2) for number in range(count)]
    order.shuffle(found)
    with form(
        [ListSource(found)], FormingRules(Examiner(NOTHING), DECISIONS), InlineEngine(), tmp_path_factory.mktemp("c")
    ) as formed:
        for condition, dropped in (("step IS NULL", False), ("step IS NOT NULL", True)):
            all_of_it = sorted((one for one in found if (one.stamps == 2) is dropped), key=lambda one: one.task.id)
            taken = [one for _, one in formed.spread(condition, most)]
            assert taken == sorted(taken, key=lambda one: one.task.id)
            assert len(taken) == min(most, len(all_of_it))
            assert {one.key for one in taken} <= {one.key for one in all_of_it}
            assert taken[:1] == all_of_it[:1]


def test_what_was_found_is_not_looked_for_again(tmp_path, monkeypatch):
    found = [candidate(number, f"answer {number}") for number in range(600)]
    rules = FormingRules(Examiner(NOTHING), DECISIONS)
    form([ListSource(found)], rules, InlineEngine(), tmp_path).database.close()
    looked = []
    monkeypatch.setattr(Examiner, "_finding", lambda self, one: looked.append(one) or pytest.fail("looked again"))
    with form([ListSource(found)], rules, InlineEngine(), tmp_path) as formed:
        assert (formed.rows, looked) == (600, [])


def test_other_things_that_are_held_out_are_looked_for(tmp_path):
    """A finding holds for what was held out then, and no more."""
    found = [candidate(1, "alpha beta gamma delta epsilon zeta eta theta iota kappa")]
    with form([ListSource(found)], FormingRules(Examiner(NOTHING), DECISIONS), InlineEngine(), tmp_path) as formed:
        assert formed.rows == 1
    held = protect([Task(id="h", messages=(Message("user", found[0].text),))], [])
    with form([ListSource(found)], FormingRules(Examiner(held), DECISIONS), InlineEngine(), tmp_path) as formed:
        assert formed.rows == 0


def test_a_damaged_file_of_findings_is_made_again(tmp_path):
    rules = FormingRules(Examiner(NOTHING), DECISIONS)
    found = [candidate(number, f"answer {number}") for number in range(50)]
    for _ in range(2):
        with form([ListSource(found)], rules, InlineEngine(), tmp_path) as formed:
            assert formed.rows == 50
        for file in tmp_path.glob("*.db"):
            file.write_bytes(b"no database" * 500)
    (tmp_path / "folder").write_text("")
    with form([ListSource(found)], rules, InlineEngine(), tmp_path / "folder" / "below") as formed:
        assert formed.rows == 50, "nowhere to keep them is no reason to stop"


def test_old_files_of_findings_go(tmp_path):
    for number in range(findings._MOST_FILES + 3):
        held = Protected({}, {f"blake3:{number}": "x"})
        form([ListSource([])], FormingRules(Examiner(held), {}), InlineEngine(), tmp_path).database.close()
    assert len(list(tmp_path.glob("*.db"))) == findings._MOST_FILES


def test_the_same_comes_of_any_number_of_workers(tmp_path):
    found = [candidate(number, f"answer {number % 2000}", stamps=1 + number % 3) for number in range(3000)]
    rules = FormingRules(Examiner(NOTHING), DECISIONS)
    made = []
    for number, engine in enumerate((InlineEngine(), LocalEngine(2))):
        with form([ListSource(found)], rules, engine, tmp_path / str(number)) as formed:
            made.append((formed.content_digest, formed.funnel, list(formed.placed())))
    assert made[0] == made[1]


class Store:
    """Versions of one name, as ``write_version`` makes them, without a log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.objects = folder, Objects(MemoryBackend())
        self.newest: DatasetVersion | None = None

    def form(self, found, decisions=DECISIONS, parts=1):
        """A version of these; returns how many bytes it wrote."""
        before = set(self.objects.list())
        size = max(1, -(-len(found) // parts))
        sources = [ListSource(found[at : at + size]) for at in range(0, len(found), size)]
        with form(sources, FormingRules(Examiner(NOTHING), decisions), InlineEngine(), self.folder) as formed:
            stored = store_version(formed, self.objects, self.objects, self.newest, "")
            self.newest = DatasetVersion(
                name="d", version=1, rows=formed.rows, content_digest=formed.content_digest, manifest_digest="", recipe="",
                funnel=formed.funnel, files=stored.files, stamp_sets={}, made="", index=stored.index_objects,
            )  # fmt: skip
        return sum(self.objects.size(digest) for digest in set(self.objects.list()) - before)

    def keys(self, kind=ROWS):
        return sorted(row["key"] for row in read_rows(self.objects, self.newest, kind))

    def indexed(self):
        """What the index says: (key, step)."""
        tables = [version_files.read_shard_index(self.objects, digest)[1] for digest in self.newest.index]
        return sorted(
            line for table in tables for line in zip(table["row"].to_pylist(), table["step"].to_pylist(), strict=True)
        )


class Keyed(ListSource):
    """As real sources are: what a row is made of does not hang on its place."""

    def heads(self):
        for head in super().heads():
            yield head._replace(row=self._candidates[head.place].key[7:23].encode())


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.unit.datasets.test_forming.ListSource", Keyed)
    return Store(tmp_path)


def test_a_row_more_costs_that_row(store):
    found = [candidate(number, f"{number} " * 200) for number in range(2000)]
    first = store.form(found)
    second = store.form([*found, candidate(2001, "one more")])
    assert first > 50_000
    assert second < 8_000
    assert len(store.newest.files) == 3
    assert store.keys() == sorted(one.key for one in [*found, candidate(2001, "one more")])


def test_a_parent_whose_index_is_damaged(store):
    found = [candidate(number, f"answer {number}") for number in range(20)]
    store.form(found)
    store.objects.discard(store.newest.index[0])
    store.form([*found, candidate(20, "one more")])
    assert store.keys() == sorted(one.key for one in [*found, candidate(20, "one more")])
    assert len(store.indexed()) == 21


def test_forming_says_how_far_it_is(tmp_path):
    found = [candidate(number, f"answer {number}") for number in range(600)]
    for _ in range(2):  # the second time all of it is known
        told = []
        form(
            [ListSource(found)], FormingRules(Examiner(NOTHING), DECISIONS), InlineEngine(), tmp_path, told.append
        ).database.close()
        assert told[-1] == 600 and len(told) > 2 and told == sorted(told)


def test_a_row_that_is_no_longer_allowed_is_in_no_shard(store):
    found = [candidate(number, f"answer {number}", stamps=1 + number % 2) for number in range(100)]
    store.form(found, {1: DECISIONS[1], 2: DECISIONS[1]})
    assert len(store.keys()) == 100
    before = set(store.newest.files.values())
    store.form(found)
    assert len(store.keys()) == len(store.keys(DROPPED)) == 50
    assert not before & set(store.newest.files.values()), "not even in one that hides it"


def test_many_small_shards_become_one(store):
    found = []
    for number in range(40):
        found.append(candidate(number, f"answer {number}"))
        store.form(found)
        assert len(store.newest.files) <= version_files._MOST_SMALL + 2
    assert store.keys() == sorted(one.key for one in found)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(candidates, st.booleans()), min_size=1, max_size=6))
def test_whatever_came_before_a_version_holds_what_it_should(tmp_path_factory, versions):
    """Rows come, go, change their place and come back: files and index say what they say of a version without a parent."""
    pytest.MonkeyPatch().setitem(globals(), "ListSource", Keyed)
    store = Store(tmp_path_factory.mktemp("cache"))
    for found, strict in versions:
        decisions = DECISIONS if strict else dict.fromkeys(DECISIONS, DECISIONS[1])
        store.form(found, decisions)
        alone = Store(store.folder)
        alone.form(found, decisions)
        for kind in (ROWS, DROPPED):
            assert store.keys(kind) == alone.keys(kind)
        assert store.indexed() == alone.indexed()
        assert store.newest.content_digest == alone.newest.content_digest


def test_a_candidate_that_comes_twice_makes_up_for_no_other(store):
    """Two versions that share a file are mixed: every line of the parent's index is a line of the new one, or its file goes."""
    cut, denied = candidate(1, finish="length"), candidate(2, "two", stamps=2)
    store.form([cut, denied])
    allowed = dict.fromkeys(DECISIONS, DECISIONS[1])
    store.form([cut, denied, cut], allowed)
    assert store.keys() == [denied.key]
    assert store.keys(DROPPED) == [cut.key, cut.key]
    assert len(store.indexed()) == 3


def test_what_is_known_is_not_held(tmp_path, monkeypatch):
    """A few new candidates before many known ones: what an engine works on is in memory, and nothing else."""
    monkeypatch.setattr(forming, "_AT_ONCE", 10)
    known = [candidate(number, f"answer {number}") for number in range(2000)]
    rules = FormingRules(Examiner(NOTHING), DECISIONS)
    form([Keyed(known)], rules, InlineEngine(), tmp_path).database.close()
    written, most = [], []
    write = forming._write
    monkeypatch.setattr(
        forming,
        "_write",
        lambda formed, source, found: (written.append(len(list(found))), write(formed, source, found)),
    )

    class Patient:
        """Takes all batches before it gives a result."""

        def map(self, work, batches):
            taken = list(batches)
            most.append(sum(written))
            return map(work, taken)

    fresh = [candidate(5000 + number, f"new {number}") for number in range(50)]
    with form([Keyed(fresh), Keyed(known)], rules, Patient(), tmp_path) as formed:
        assert formed.rows == 2050
    assert most == [2000], "what is known was written before anything was examined"


def test_a_row_that_is_garbled_is_found_anew(tmp_path):
    rules = FormingRules(Examiner(NOTHING), DECISIONS)
    found = [candidate(1), candidate(2, "two", finish="length")]
    for change in ("found = '['", "found = '[1]'", "content = x'00'", "same_as = 'text'", "content = NULL"):
        form([ListSource(found)], rules, InlineEngine(), tmp_path).database.close()
        (file,) = tmp_path.glob("*.db")
        with sqlite3.connect(file) as database:
            database.execute(f"UPDATE findings SET {change}")
        database.close()
        with form([ListSource(found)], rules, InlineEngine(), tmp_path) as formed:
            assert (formed.rows, len(list(formed.placed()))) == (1, 2)


def test_how_deep_the_caller_is_decides_nothing():
    """Python gives up on deep programs, sooner where it is deep already; the normal form must not hang on that."""

    def deeper(levels, code):
        return deeper(levels - 1, code) if levels else code_digest(code)

    for terms in (10, 150, 250, 400, 476, 800, 3000):
        code = "def f(x):\n    return " + " + ".join(["x"] * terms)
        assert len({deeper(levels, code) for levels in (0, 40, 120)}) == 1


def test_a_full_temporary_folder_is_told(monkeypatch, tmp_path):
    rules = FormingRules(Examiner(NOTHING), DECISIONS)

    def full(formed, *_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(forming, "_write", full)
    with pytest.raises(StorageError, match="temporary file"):
        form([ListSource([candidate(1)])], rules, InlineEngine(), tmp_path)


def test_text_that_is_in_two_versions_is_stored_once(store):
    found = [candidate(number, f"{number} " * 100) for number in range(500)]
    store.form(found)
    assert store.form(found) == 0
    assert store.form(found[::-1]) == 0, "in another order they are the same rows"
    assert list(itertools.islice(store.keys(), 1)) == [found[0].key]
