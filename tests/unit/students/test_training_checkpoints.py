"""Checkpoints: whole or absent, checked when read, few."""

import pytest

torch = pytest.importorskip("torch")

from stillhouse.errors import CheckpointForeign, CorruptCheckpoint  # noqa: E402
from stillhouse.students import training_checkpoints  # noqa: E402


def write(folder, step, tensor=None):
    parameters = {"w": torch.arange(6.0) if tensor is None else tensor}
    return training_checkpoints.write(
        folder, training="t", plan="p", step=step, parameters=parameters, optimizer={"w/mean": torch.ones(6)}
    )


def test_what_was_written_is_read(tmp_path):
    write(tmp_path, 3)
    found = training_checkpoints.newest(tmp_path, 99)
    assert (found.state.training, found.state.plan, found.state.step) == ("t", "p", 3)
    assert found.parameters["w"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.optimizer["w/mean"].tolist() == [1] * 6
    assert training_checkpoints.newest(tmp_path / "nothing", 99) is None


def test_the_newest_two_are_kept_and_a_step_may_be_written_again(tmp_path):
    for step in (1, 2, 10, 10):
        write(tmp_path, step)
    assert [place.name for place in training_checkpoints.found(tmp_path)] == ["step-000002", "step-000010"]
    assert not list(tmp_path.glob(".building*"))


def test_tied_weights_are_written_once(tmp_path):
    tied = torch.ones(4)
    training_checkpoints.write(
        tmp_path, training="t", plan="p", step=1, parameters={"b": tied, "a": tied}, optimizer={}
    )
    assert list(training_checkpoints.newest(tmp_path, 99).parameters) == ["a"]


def test_parts_of_one_storage_are_all_written(tmp_path):
    query, key, value = torch.arange(12.0).view(3, 2, 2)  # as a model that cuts a fused matrix holds them
    parameters = {"q": query, "k": key, "v": value, "v again": value, "v turned": value.t()}
    training_checkpoints.write(tmp_path, training="t", plan="p", step=1, parameters=parameters, optimizer={})
    found = training_checkpoints.newest(tmp_path, 99).parameters
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "q": [[0, 1], [2, 3]],
        "k": [[4, 5], [6, 7]],
        "v": [[8, 9], [10, 11]],
        "v turned": [[8, 10], [9, 11]],
    }


@pytest.mark.parametrize("name", [training_checkpoints.PARAMETERS, training_checkpoints.OPTIMIZER])
def test_a_flipped_byte_is_found_and_the_one_before_still_goes(tmp_path, name):
    write(tmp_path, 1)
    file = write(tmp_path, 2) / name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    with pytest.raises(CorruptCheckpoint, match=f"step-000002/{name} has other bytes"):
        training_checkpoints.newest(tmp_path, 99)
    file.unlink()
    with pytest.raises(CorruptCheckpoint, match="cannot be read"):
        training_checkpoints.newest(tmp_path, 99)
    (file.parent / training_checkpoints.STATE).unlink()
    assert training_checkpoints.newest(tmp_path, 99).state.step == 1, "without its last file it is no checkpoint"


def test_another_version_s_checkpoint_is_told_apart_from_a_torn_one(tmp_path):
    state = write(tmp_path, 1) / training_checkpoints.STATE
    state.chmod(0o644)
    good = state.read_bytes()
    state.write_bytes(good.replace(b'"format":1', b'"format":9'))
    with pytest.raises(CheckpointForeign, match="format 9"):
        training_checkpoints.newest(tmp_path, 99)
    state.write_bytes(good[:-5])
    with pytest.raises(CorruptCheckpoint):
        training_checkpoints.newest(tmp_path, 99)
