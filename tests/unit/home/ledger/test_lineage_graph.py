"""What a revocation reaches, compared with walking from record to record."""

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stillhouse.access.revocation_impact import impact_of_sets, touched_sets
from stillhouse.home import facts
from stillhouse.home.ledger.dataset_queries import manifest_digest
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.lineage_graph import impact
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import AccessChange, Channel, DatasetVersion, FunnelStep, Grade, Model, Origin, Stamp, Usage
from stillhouse.permission.decide import Policy
from stillhouse.permission.stamp_sets import stamp_set
from stillhouse.vault.log import Log
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects
from tests.examples import examples
from tests.signers import somebody

AT = "2026-05-01T00:00:00.000Z"
DAYS = ["2026-01-01", "2026-02-01", "2026-03-01"]


@pytest.fixture
def recorder(tmp_path_factory):
    made = []

    def make() -> Recorder:
        ledger = Ledger("sqlite://")
        log = Log(tmp_path_factory.mktemp("log") / "log", Objects(MemoryBackend()))
        made.append(Recorder(log, ledger, by="test", signatory=somebody))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.ledger.close()


class World:
    """A history: answers of labs, datasets of answers, models of datasets and of other models, answers of those models."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.records: dict[str, tuple[set[Stamp], set[str]]] = {}  # key -> own stamp, the models that it is by
        self.stamps: dict[str, int] = {}
        self.datasets: dict[str, list[str]] = {}
        self.models: dict[str, tuple[str, str]] = {}  # label -> dataset, base
        self.of_model: dict[str, set[Stamp]] = {}

    def answer(self, lab: str, day: str, model: str = "") -> None:
        key = f"blake3:{len(self.records):064x}"
        if model:
            own = Stamp(Origin.OWN_MODEL, "own", model, Channel.OFFICIAL, terms=("organisation/own",), day=day)
            stamps = {own, *self.of_model[model]}
        else:
            own = Stamp(
                Origin.TEACHER, lab, "m", Channel.OFFICIAL, terms=("licence/mit",), day=day, grade=Grade.OBSERVED
            )
            stamps = {own}
        known = stamp_set(stamps)
        self.recorder.intern([known], {})
        self.stamps[key] = known.id
        self.records[key] = ({own}, {model} if model else set())
        fact = facts.Answered(
            at=AT, by="t", run=f"r{lab}{model}", teacher=model or lab, key=key, task="t", prompt="p", sample=0,
            stamps=known.id, text="x", finish="stop", usage=Usage(1, 2), cost_usd="0", seconds=0.1, raw="",
        )  # fmt: skip
        parent = f"teacher:{model or lab}"
        edge = facts.Derived(at=AT, by="t", parent=parent, child=f"run:r{lab}{model}", kind="answered")
        self.recorder.record(fact, edge)

    def dataset(self, keys: list[str]) -> None:
        label = f"d@{len(self.datasets) + 1}"
        self.datasets[label] = keys
        counts: dict[str, int] = defaultdict(int)
        for key in keys:
            counts[str(self.stamps[key])] += 1
        version = DatasetVersion(
            name="d", version=len(self.datasets), rows=len(keys), content_digest="c", manifest_digest="m", recipe="r",
            funnel=(FunnelStep("answers", len(keys), {}),), files={}, stamp_sets=dict(counts), made=AT, tokens=dict(counts),
        )  # fmt: skip
        version = replace(version, manifest_digest=manifest_digest(version))
        placed = facts.RecordsPlaced(
            at=AT, by="t", dataset=label, records=tuple(facts.Placed(key, self.stamps[key]) for key in keys)
        )
        self.recorder.record(placed, facts.DatasetFormed(at=AT, by="t", run="r", dataset=version))

    def model(self, dataset: str, base: str) -> None:
        label = f"m@{len(self.models) + 1}"
        keys = self.datasets[dataset]
        sets = self._sets()
        stamps = {stamp for key in keys for stamp in sets[self.stamps[key]]} | self.of_model.get(base, set())
        self.of_model[label], self.models[label] = stamps, (dataset, base)
        known = stamp_set(stamps)
        self.recorder.intern([known], {})
        made = Model(
            name="m", version=len(self.models), weights_digest=f"blake3:{label}", files={}, folder="f", base=base or "b",
            base_digest="", dataset=dataset, dataset_digest="", training=f"t{label}", method={}, stamps=known.id,
            rows=len(keys), left_out={}, steps=len(keys), tokens=1, loss=0.0, made=AT,
        )  # fmt: skip
        steps = [
            facts.StepTaken(
                at=AT, by="t", training=made.training, step=n, records=(key,), tokens=1, answer_tokens=1, loss=0.0,
                learning_rate=0.1, seconds=1.0, shares={str(self.stamps[key]): 1},
            )
            for n, key in enumerate(keys, start=1)
        ]  # fmt: skip
        parents = [f"dataset:{dataset}"] + ([f"model:{base}"] if base else [])
        edges = [facts.Derived(at=AT, by="t", parent=p, child=f"model:{label}", kind="trained") for p in parents]
        self.recorder.record(*steps, *edges, facts.ModelTrained(at=AT, by="t", model=made))

    def _sets(self) -> dict[int, tuple[Stamp, ...]]:
        from stillhouse.home.ledger import origin_queries

        self.recorder.refresh()
        return {id: known.stamps for id, known in origin_queries.stamp_sets(self.recorder.ledger).items()}

    # Walking: a record is touched where it was given by the lab since that day, or by a model that is touched.

    def touched_records(self, lab: str, since: str) -> set[str]:
        return {
            key
            for key, (own, models) in self.records.items()
            if any(stamp.lab == lab and stamp.day >= since for stamp in own)
            or any(self.touched_model(model, lab, since) for model in models)
        }

    def touched_model(self, label: str, lab: str, since: str) -> bool:
        dataset, base = self.models[label]
        rows = self.touched_records_of(self.datasets[dataset], lab, since)
        return bool(rows) or bool(base and self.touched_model(base, lab, since))

    def touched_records_of(self, keys: list[str], lab: str, since: str) -> set[str]:
        return {
            key
            for key in keys
            if any(stamp.lab == lab and stamp.day >= since for stamp in self.records[key][0])
            or any(self.touched_model(model, lab, since) for model in self.records[key][1])
        }


STEPS = st.lists(
    st.tuples(st.sampled_from(["answer", "dataset", "model", "taught"]), st.integers(0, 10**6), st.integers(0, 10**6)),
    min_size=3,
    max_size=25,
)


def build(world: World, steps: list[tuple[str, int, int]]) -> None:
    for what, a, b in steps:
        keys, datasets, models = list(world.records), list(world.datasets), list(world.models)
        if what == "answer":
            world.answer("xy"[a % 2], DAYS[b % 3])
        elif what == "taught" and models:
            world.answer("", DAYS[b % 3], models[a % len(models)])
        elif what == "dataset" and keys:
            world.dataset(sorted({keys[(a + n * 7) % len(keys)] for n in range(1 + b % 4)}))
        elif what == "model" and datasets:
            world.model(datasets[a % len(datasets)], models[b % len(models)] if models and b % 3 else "")


@given(STEPS, st.sampled_from(["x", "y"]), st.sampled_from(["", *DAYS, "2027-01-01"]))
@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stamps_find_what_walking_finds(recorder, steps, lab, since):
    world = World(recorder())
    build(world, steps)
    world.recorder.refresh()
    ledger = world.recorder.ledger
    change = AccessChange(id="c", kind="revoke", lab=lab, since=since)
    policy = Policy(changes=(change,))
    from pathlib import Path

    from stillhouse.home.ledger import origin_queries

    sets = origin_queries.stamp_sets(ledger)
    found = impact_of_sets(ledger, policy, sets, touched_sets(policy, change, sets), Path("/nowhere"))
    records = world.touched_records(lab, since)
    assert found.records == len(records)
    assert found.tokens == 3 * len(records)
    rows = {label: len(world.touched_records_of(keys, lab, since)) for label, keys in world.datasets.items()}
    assert {share.dataset: share.rows for share in found.datasets} == {label: n for label, n in rows.items() if n}
    touched = {label for label in world.models if world.touched_model(label, lab, since)}
    assert {model.model for model in found.models} == touched
    for model in found.models:
        keys = world.datasets[world.models[model.model][0]]
        hit = world.touched_records_of(keys, lab, since)
        assert model.first_step == next((n for n, key in enumerate(keys, start=1) if key in hit), 0)
    assert found.usable["store"] == len(records), "nothing is deleted"
    assert found.usable["train"] == 0
    gone = world.touched_records(lab, "")
    assert found.irreplaceable == len(gone)


EDGES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40)


@given(EDGES, st.sets(st.integers(0, 12), max_size=2))
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_impact_is_the_closure_cycles_and_all(recorder, edges, roots):
    made = recorder()
    if edges:
        made.record(*(facts.Derived(at=AT, by="t", parent=f"n:{a}", child=f"n:{b}", kind="k") for a, b in edges))
    made.refresh()
    reached, changed = set(roots), True
    below: set[int] = set()
    while changed:
        new = {b for a, b in edges if a in reached}
        changed = not new <= reached
        below |= new
        reached |= new
    found = impact(made.ledger, *(f"n:{root}" for root in roots))
    assert set(found.nodes) == {f"n:{node}" for node in below}
    assert {(edge.parent, edge.child) for edge in found.edges} == {
        (f"n:{a}", f"n:{b}") for a, b in edges if a in reached
    }
