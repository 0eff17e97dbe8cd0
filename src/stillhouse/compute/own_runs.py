"""What Stillhouse's own trainings report of themselves: tokens a second, and model FLOP/s utilisation where all of it is
known.

MFU = tokens/s x FLOPs a token / (GPUs x peak FLOP/s), with 6 FLOPs a token for each parameter (PaLM, appendix B, without the
attention term, which makes it a lower bound). It comes from run logs only; no metric of a GPU says it.
"""

from typing import Any

from stillhouse.home.ledger import training_queries
from stillhouse.home.open_home import Home

_FLOPS_PER_TOKEN_AND_PARAMETER = 6


def own_runs(home: Home) -> list[dict[str, Any]]:
    """Every training: steps, tokens, seconds and tokens a second."""
    found = []
    for model in training_queries.models(home.ledger):
        steps = training_queries.steps(home.ledger, model.training)
        seconds, tokens = sum(step.seconds for step in steps), sum(step.tokens for step in steps)
        found.append({"model": model.label, "steps": len(steps), "tokens": tokens, "seconds": round(seconds, 1),
                      "tokens_per_second": round(tokens / seconds, 1) if seconds else None, "mfu": None,
                      "mfu_because": "the peak FLOP/s of the machine is not known"})  # fmt: skip
    return found


def gpu_hours_of(home: Home, model: str) -> float:
    """What the training of a model took, in hours of the one device that it ran on. Raises UnknownName."""
    known = training_queries.model(home.ledger, model)
    return sum(step.seconds for step in training_queries.steps(home.ledger, known.training)) / 3600


def mfu(tokens_per_second: float, parameters: float, gpus: int, peak_flops: float) -> float:
    """Model FLOP/s utilisation, from what a run's log says; ``peak_flops`` is of one GPU at the precision that was used."""
    return tokens_per_second * _FLOPS_PER_TOKEN_AND_PARAMETER * parameters / (gpus * peak_flops)
