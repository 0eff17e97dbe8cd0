"""Adam with float32 masters: torch's own Adam where the format is exact, and better than it where it is not."""

import pytest

torch = pytest.importorskip("torch")

from stillhouse.students.optimizer import BETAS, EPSILON, MasterAdam, learning_rate_at  # noqa: E402


def run(optimizer_of, dtype, steps=20):
    torch.manual_seed(0)
    weights = torch.nn.Parameter(torch.randn(7, 5).to(dtype))
    optimizer = optimizer_of([weights])
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        weights.grad = torch.randn(7, 5, generator=generator).to(dtype)
        optimizer.step()
    return weights.detach()


def test_in_float32_it_is_torch_s_adam():
    ours = run(lambda weights: MasterAdam(weights, 1e-2), torch.float32)
    theirs = run(lambda weights: torch.optim.Adam(weights, 1e-2, betas=BETAS, eps=EPSILON), torch.float32)
    torch.testing.assert_close(ours, theirs)


def test_steps_too_small_for_bf16_add_up():
    def pushed(optimizer_of):
        weight = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
        optimizer = optimizer_of([weight])
        for _ in range(200):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        return float(weight.detach())

    assert pushed(lambda weights: torch.optim.Adam(weights, 1e-4)) == 1.0, "lost, each of them"
    assert pushed(lambda weights: MasterAdam(weights, 1e-4)) == pytest.approx(0.98, abs=0.004)


def test_a_state_is_taken_up_exactly():
    weights = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = MasterAdam([weights], 1e-4)
    weights.grad = torch.full_like(weights, 0.3)
    optimizer.step()
    other = MasterAdam([torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))], 1e-4)
    other.load_state_dict(optimizer.state_dict())
    ours, theirs = (next(iter(one.state.values())) for one in (optimizer, other))
    assert ours.keys() == theirs.keys() == {"step", "master", "mean", "square"}
    for part in ours:
        assert theirs[part].dtype == torch.float32
        assert torch.equal(ours[part], theirs[part]), part


def test_gradients_of_many_passes_are_summed_exactly():
    """In bf16 a sum of 1,300 equal parts stops growing at a quarter."""
    weights = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    optimizer = MasterAdam([weights], 1e-4)
    for _ in range(1300):
        weights.grad = torch.full_like(weights, 1 / 1300)
        optimizer.gather()
    assert optimizer.clip(10.0) == pytest.approx(1.0, rel=0.01)


def test_clipping_scales_all_gradients_alike():
    first, second = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimizer = MasterAdam([first, second], 1.0)
    first.grad, second.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    optimizer.gather()
    assert optimizer.clip(1.0) == pytest.approx(5.0)
    assert optimizer.clip(1.0) == pytest.approx(1.0, rel=1e-4)


def test_the_rate_rises_then_falls_to_a_tenth():
    rates = [learning_rate_at(step, 100, 1.0) for step in range(1, 101)]
    assert rates[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)
    assert learning_rate_at(1, 1, 1.0) == 1.0
