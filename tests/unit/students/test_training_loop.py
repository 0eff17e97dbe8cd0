"""The training loop: it learns, it resumes exactly, alone or in company."""

import contextlib
import functools
import shutil
from pathlib import Path

import msgspec
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("peft")


from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from stillhouse.errors import CheckpointForeign, LossNotFinite, ModelUnusable, NothingToLearn, TeacherContradiction  # noqa: E402
from stillhouse.generation.load_model import load  # noqa: E402
from stillhouse.generation.weights import weights_digest  # noqa: E402
from stillhouse.nouns import Message, Method, Signal  # noqa: E402
from stillhouse.students import training_checkpoints, training_loop  # noqa: E402
from stillhouse.students.documents import Document, DocumentPack, Record  # noqa: E402
from stillhouse.students.student import keep_layers, load_student, make_trainable, save_model, trained_model  # noqa: E402
from stillhouse.students.training_loop import Job, Resumed, Saved, StepDone, make_ready, share  # noqa: E402


@pytest.fixture
def job(tiny_model, tmp_path, monkeypatch):
    records = tuple(
        Record(f"r{n}", (Message("user", f"say {n} " + "again " * (n % 3)),), f"{n} and " + "more " * (n % 7), 1)
        for n in range(40)
    )
    made = Job(
        training="t", folder=str(tmp_path / "t"), cache=str(tmp_path / "cache"), weights=str(tiny_model),
        weights_digest=weights_digest(tiny_model), teacher_weights="", teacher_digest="", logged=10**9,
        dtype="float32", keeps_tokens=False, method=Method.LORA, rank=4, learning_rate=5e-3, epochs=3, seed=0,
        signal=Signal.TEXT, layers=0, gradient_checkpointing=False, processes=1,
    )  # fmt: skip
    monkeypatch.setattr(training_loop, "make_ready", functools.partial(_ready, records))
    return made


def _ready(records, job, those=None):
    return make_ready(job, lambda: records if those is None else those(records))


def run(job, *, stop_after=0, those=None):
    """The losses by step, and the events; ``stop_after`` ends it as a kill between two steps would."""
    events = []

    class Killed(Exception):
        pass

    def hear(event):
        events.append(event)
        if isinstance(event, StepDone) and event.step == stop_after:
            raise Killed

    with contextlib.suppress(Killed):
        training_loop.train(job, training_loop.make_ready(job, those), hear)
    return {event.step: event.loss for event in events if isinstance(event, StepDone)}, events


def changed(job, tmp_path, **values):
    return msgspec.structs.replace(job, folder=str(tmp_path / f"{sorted(values.items())}"[:60]), **values)


@pytest.mark.parametrize(("method", "rate"), [(Method.LORA, 3e-2), (Method.FULL, 3e-3)])
def test_it_learns(job, method, rate):
    losses, events = run(msgspec.structs.replace(job, method=method, learning_rate=rate))
    assert losses[len(losses)] < 0.95 * losses[1]
    assert isinstance(events[-1], Saved)
    assert sum(len(event.records) for event in events if isinstance(event, StepDone)) == 3 * 40


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_stopped_anywhere_it_goes_on_with_the_same_losses(job, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training_loop, "CHECKPOINT_SHARE", 1e9)
    calm, _ = run(job)
    other = changed(job, tmp_path, training="t")
    first, _ = run(other, stop_after=stop)
    second, events = run(other)
    assert events[0] == Resumed(stop - 1) if stop > 1 else isinstance(events[0], StepDone)
    assert {**second, **first} == calm, "to the last bit"
    assert second == {step: loss for step, loss in calm.items() if step >= stop}
    ours, theirs = (training_checkpoints.newest(Path(one.folder), 999).parameters for one in (job, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_gradient_checkpointing_changes_the_memory_and_not_the_loss(job, tmp_path):
    plain, _ = run(job)
    careful, _ = run(changed(job, tmp_path, gradient_checkpointing=True))
    assert careful == pytest.approx(plain, rel=1e-5)


def test_one_document_at_a_time_learns_the_same_first_step(job, tmp_path, monkeypatch):
    together, _ = run(job)
    monkeypatch.setattr(training_loop, "why_not_apart", lambda model, tokens: "its architecture is odd")
    alone, _ = run(changed(job, tmp_path, training="alone"))
    assert alone[1] == pytest.approx(together[1], rel=1e-4)


def test_a_prompt_is_not_learned(job, tiny_model, tmp_path):
    """Only answers count: changing what a prompt says but not its tokens' number leaves the number of learned tokens."""
    _, events = run(job)
    answers = sum(document.answer_tokens for document in training_loop.make_ready(job).documents)
    assert answers == sum(len(f"{n} and " + "more " * (n % 7)) + 1 for n in range(40))
    assert sum(event.answer_tokens for event in events if isinstance(event, StepDone)) == 3 * answers


@pytest.mark.parametrize("signal", [Signal.FORWARD_KL, Signal.REVERSE_KL])
def test_a_smaller_student_comes_nearer_to_its_teacher(job, tiny_model, signal):
    larger = msgspec.structs.replace(
        job,
        signal=signal,
        teacher_weights=str(tiny_model),
        teacher_digest=job.weights_digest,
        method=Method.FULL,
        learning_rate=1e-3,
    )
    losses, _ = run(msgspec.structs.replace(larger, **_shaken(tiny_model, job)))
    assert losses[len(losses)] < 0.8 * losses[1]


def _shaken(tiny_model, job):
    loaded = load(tiny_model, dtype="float32", cache=Path(job.cache))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder = Path(job.cache) / "shaken"
    save_model(loaded, folder)
    return {"weights": str(folder), "weights_digest": weights_digest(folder)}


@given(st.integers(1, 20), st.integers(1, 5))
def test_processes_share_all_packs_and_have_equally_many(packs, world):
    all_packs = [DocumentPack((Document(str(n), (1, 2), 1),)) for n in range(packs)]
    shares = [share(all_packs, world, rank) for rank in range(world)]
    assert len({len(one) for one in shares}) == 1
    real = [pack for one in shares for pack, weight in one if weight]
    assert sorted(map(str, real)) == sorted(map(str, all_packs))


def test_a_rate_that_breaks_it_is_named_and_the_checkpoint_before_stays(job, monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training_loop, "CHECKPOINT_SHARE", 1e9)
    losses, _ = run(job, stop_after=3)
    assert len(losses) == 3
    real = training_loop.make_signal

    def broken(kind, teacher):
        class Signal:
            def loss(self, row, logits):
                return real(kind, teacher).loss(row, logits) * float("nan")

        return Signal()

    monkeypatch.setattr(training_loop, "make_signal", broken)
    with pytest.raises(LossNotFinite, match="step 3 of"):
        training_loop.train(job, training_loop.make_ready(job), lambda event: None)
    assert training_checkpoints.newest(Path(job.folder), 999).state.step == 2


def test_nothing_to_learn_from_is_said(job, tmp_path):
    with pytest.raises(NothingToLearn, match="None of the 1 records"):
        make_ready(job, lambda: (Record("a", (Message("user", "x" * 600),), "y", 1),))


def test_one_record_is_enough(job):
    losses, _ = run(job, those=lambda records: records[:1])
    assert len(losses) == 3


def test_a_checkpoint_of_other_steps_is_not_taken_up(job):
    run(job)
    with pytest.raises(CheckpointForeign):
        run(job, those=lambda records: records[:-1])


def test_adapters_are_merged_into_a_plain_model_that_says_the_same(job, tmp_path):
    run(job)
    found = training_checkpoints.newest(Path(job.folder), 999)
    loaded = load_student(Path(job.weights), job.weights_digest, tmp_path, "float32", 0)
    merged = trained_model(loaded, Method.LORA, 4, found.parameters)
    save_model(merged, tmp_path / "model")
    plain = load(tmp_path / "model", dtype="float32", cache=tmp_path)
    assert not [name for name, _ in plain.model.named_parameters() if "lora" in name]
    beside = load_student(Path(job.weights), job.weights_digest, tmp_path, "float32", 0)
    adapted = make_trainable(beside, Method.LORA, 4, checkpointing=False)
    adapted.load_state_dict(found.parameters, strict=False)
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        torch.testing.assert_close(plain.model(ids).logits, adapted(ids).logits, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(
            plain.model(ids).logits,
            load(Path(job.weights), dtype="float32", cache=tmp_path).model(ids).logits,
        )


def test_weights_that_changed_since_policy_looked_are_refused(job, tmp_path, tiny_model):
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    with (other / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(TeacherContradiction, match="have changed since they were registered"):
        training_loop.make_ready(msgspec.structs.replace(job, weights=str(other)))
    taught = msgspec.structs.replace(
        job, signal=Signal.FORWARD_KL, teacher_weights=str(other), teacher_digest=job.weights_digest
    )
    with pytest.raises(TeacherContradiction):
        run(taught)


def test_a_checkpoint_beyond_what_the_log_has_is_not_taken_up(job, monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training_loop, "CHECKPOINT_SHARE", 1e9)
    run(job, stop_after=6)
    for logged, resumed in ((5, 5), (4, 4), (3, None)):
        _, events = run(msgspec.structs.replace(job, logged=logged), stop_after=resumed + 1 if resumed else 1)
        assert events[0] == Resumed(resumed) if resumed else isinstance(events[0], StepDone), "only two are kept"
        if resumed == 5:
            assert [place.name for place in training_checkpoints.found(Path(job.folder))] == [
                "step-000004",
                "step-000005",
            ]


def test_parameters_of_another_model_are_refused(job, tmp_path):
    loaded = load_student(Path(job.weights), job.weights_digest, tmp_path, "float32", 0)
    with pytest.raises(ModelUnusable, match="of another model"):
        trained_model(loaded, Method.FULL, 4, {"elsewhere.weight": torch.ones(1)})
    whole = dict(loaded.model.state_dict())
    whole.pop("model.norm.weight")
    with pytest.raises(ModelUnusable, match=r"lacks model.norm.weight"):
        trained_model(loaded, Method.FULL, 4, whole)


def test_fewer_layers_are_the_first_the_last_and_some_between(job, tmp_path):
    loaded = load_student(Path(job.weights), job.weights_digest, tmp_path, "float32", 2)
    assert loaded.layers == loaded.model.config.num_hidden_layers == 2
    save_model(loaded, tmp_path / "two")
    assert load(tmp_path / "two", dtype="float32", cache=tmp_path).layers == 2
    with pytest.raises(ModelUnusable, match="has 2 layers, and the recipe wants 5"):
        keep_layers(loaded, 5)


def test_a_student_without_a_pad_token_trains(job, tiny_model, tmp_path):
    folder = tmp_path / "padless"
    shutil.copytree(tiny_model, folder)
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        content = msgspec.json.decode((folder / name).read_bytes())
        content.pop("pad_token", None)
        content.pop("pad_token_id", None)
        (folder / name).write_bytes(msgspec.json.encode(content))
    assert load(folder, dtype="float32", cache=tmp_path).tokenizer.pad_token_id is None
    losses, _ = run(msgspec.structs.replace(job, weights=str(folder), weights_digest=weights_digest(folder)))
    assert losses[len(losses)] < losses[1]
