"""Adam with an exact copy of what it trains, so that the model itself may stand in a coarse number format."""

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch.distributed.tensor import DTensor

BETAS, EPSILON = (0.9, 0.999), 1e-8


class MasterAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2014, arXiv 1412.6980) that keeps a float32 master of every parameter.

    A step of 1e-5 is lost in a bf16 weight, which has eight bits; here it adds up in the master, and the parameter is the
    master rounded. The state of a parameter is ``step``, ``master``, ``mean`` and ``square``, each of the parameter's shape but
    the first; sharded parameters have sharded state.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], learning_rate: float) -> None:
        super().__init__(parameters, {"lr": learning_rate})
        self._gathered: dict[torch.nn.Parameter, torch.Tensor] = {}

    @torch.no_grad()
    def gather(self) -> None:
        """Take up the gradients of one backward pass: sums of many would lose the later ones in a coarse format."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient = parameter.grad.float()
                    before = self._gathered.get(parameter)
                    self._gathered[parameter] = gradient if before is None else before.add_(gradient)
                    parameter.grad = None

    @torch.no_grad()
    def clip(self, largest: float) -> float:
        """Scale what was gathered so that its norm is at most ``largest``; returns the norm before."""
        # Over all parameters together, as torch.nn.utils.clip_grad_norm_ does.
        norm = torch.nn.utils.get_total_norm(list(self._gathered.values()))
        if isinstance(norm, DTensor):  # of shards: each process has a part of the sum
            norm = norm.full_tensor()
        factor = torch.clamp(largest / (norm + 1e-6), max=1.0)
        for gradient in self._gathered.values():
            gradient.mul_(factor)
        return float(norm)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter by the gradients gathered since the last step, and by those that still stand."""
        self.gather()
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = self._gathered.pop(parameter, None)
                if gradient is not None:
                    self._update(parameter, gradient, group["lr"])
        return None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state exactly. The base class would round it to the parameter's own format."""
        super().load_state_dict(state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        names = [name for group in state_dict["param_groups"] for name in group["params"]]
        for parameter, name in zip(parameters, names, strict=True):
            for part, tensor in state_dict["state"].get(name, {}).items():
                self.state[parameter][part] = tensor.to(self.state[parameter][part].device, torch.float32, copy=True)

    def _update(self, parameter: torch.nn.Parameter, gradient: torch.Tensor, learning_rate: float) -> None:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["master"] = parameter.detach().clone().float()
            state["mean"] = torch.zeros_like(state["master"])
            state["square"] = torch.zeros_like(state["master"])
        state["step"] += 1
        count = float(state["step"])
        state["mean"].lerp_(gradient, 1 - BETAS[0])
        state["square"].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        # Both means start at 0; dividing by 1 - beta^t takes that bias out (section 3 of the paper).
        spread = state["square"].sqrt().div_(math.sqrt(1 - BETAS[1] ** count)).add_(EPSILON)
        state["master"].addcdiv_(state["mean"], spread, value=-learning_rate / (1 - BETAS[0] ** count))
        parameter.copy_(state["master"])


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """The rate of step ``step`` (from 1) of ``steps``: up over the first twentieth, then down a cosine to a tenth.

    Warm-up keeps Adam's first, badly estimated steps small; the end at a tenth lets the last records count, too.
    """
    warm = max(1, steps // 20)
    if step <= warm:
        return peak * step / warm
    progress = (step - warm) / max(1, steps - warm)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))
