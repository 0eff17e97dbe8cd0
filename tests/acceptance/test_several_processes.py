"""A training by several processes on this machine: real ones, which find each other and share out weights and packs."""

import msgspec
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("peft")

from stillhouse.errors import ModelUnusable  # noqa: E402
from stillhouse.students import training_checkpoints, training_loop  # noqa: E402
from stillhouse.students.training_loop import Resumed, StepDone  # noqa: E402
from stillhouse.students.training_worker import train_in_processes  # noqa: E402
from tests.unit.students.test_training_loop import changed, job, run  # noqa: E402, F401


def test_two_processes_learn_as_one_does_and_one_goes_on_where_they_stopped(job, tmp_path):  # noqa: F811
    alone, _ = run(job)
    several = changed(job, tmp_path, processes=2, keeps_tokens=True)
    training_loop.make_ready(several)  # who starts them has made the tokens
    events = []
    train_in_processes(several, events.append)
    losses = {event.step: event.loss for event in events if isinstance(event, StepDone)}
    assert losses == pytest.approx(alone, rel=2e-3)
    ours, theirs = (training_checkpoints.newest(training_loop.Path(one.folder), 999) for one in (job, several))
    assert ours.state == theirs.state or ours.state.plan == theirs.state.plan
    for name, tensor in ours.parameters.items():
        torch.testing.assert_close(theirs.parameters[name], tensor, atol=2e-3, rtol=0.05)
    assert ours.optimizer.keys() == theirs.optimizer.keys()
    _, events = run(msgspec.structs.replace(several, processes=1))
    assert events == [Resumed(ours.state.step)], "nothing is left to do"


def test_an_error_in_one_of_several_is_the_error_of_all(job, tmp_path):  # noqa: F811
    with pytest.raises(ModelUnusable, match="does not exist"):
        train_in_processes(changed(job, tmp_path, processes=2, weights=str(tmp_path / "nowhere")), lambda event: None)
