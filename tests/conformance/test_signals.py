"""Every teacher signal behaves as the loop relies on: one finite loss per answer token, never negative, and a gradient that a
small step follows downhill.
"""

import pytest

torch = pytest.importorskip("torch")

from stillhouse.nouns import Signal  # noqa: E402
from stillhouse.students.signals import SignalRow, make_signal  # noqa: E402

TOKENS, VOCABULARY = 6, 11


class Fixed(SignalRow):
    """A row whose teacher says what it says."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.theirs = 3 * torch.randn(TOKENS, VOCABULARY, generator=generator)
        self.labels = torch.randint(VOCABULARY, (TOKENS,), generator=generator)

    def logits(self, model):
        return self.theirs


@pytest.fixture(params=list(Signal))
def signal(request):
    return make_signal(request.param, object())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loss_for_each_answer_token(signal, seed, dtype):
    row, logits = Fixed(seed), torch.randn(TOKENS, VOCABULARY).to(getattr(torch, dtype))
    losses = signal.loss(row, logits)
    assert losses.shape == (TOKENS,)
    assert losses.dtype == torch.float32
    assert torch.isfinite(losses).all()
    assert (losses > -1e-6).all()


@pytest.mark.parametrize("seed", range(3))
def test_each_token_has_its_own_loss_and_downhill_is_better(signal, seed):
    row = Fixed(seed)
    logits = torch.randn(TOKENS, VOCABULARY, generator=torch.Generator().manual_seed(seed + 9), requires_grad=True)
    losses = signal.loss(row, logits)
    (gradient,) = torch.autograd.grad(losses[2], logits, retain_graph=True)
    assert gradient[2].abs().sum() > 0
    assert gradient[[0, 1, 3, 4, 5]].abs().sum() == 0
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert signal.loss(row, logits - 0.05 * gradient).sum() < losses.sum()


def test_certain_and_far_off_it_stays_finite(signal):
    row = Fixed(0)
    row.theirs = torch.full((TOKENS, VOCABULARY), -200.0)
    row.theirs[:, 0] = 200.0
    logits = torch.full((TOKENS, VOCABULARY), -200.0)
    logits[:, 1] = 200.0
    assert torch.isfinite(signal.loss(row, logits)).all()
