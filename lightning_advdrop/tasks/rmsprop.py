"""RMSprop as TensorFlow has it, with which sequential MNIST was published."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_advdrop._ranges import check_range


class RMSpropTF(Optimizer):
    """Divide each gradient by the root of a moving mean of its square, which starts at 1.

    With the mean square ``v`` of a gradient ``g``, a step is

    ``v = alpha * v + (1 - alpha) * g ** 2`` and ``weight = weight - lr * g / sqrt(v + eps)``.

    `torch.optim.RMSprop` starts at 0 and adds ``eps`` behind the root, so that it makes full steps of tiny gradients
    from the beginning. Here they stay small until the mean square has forgotten its start, and those far below the root
    of ``eps`` stay small for good.

    Source: Tieleman & Hinton, "Lecture 6.5 - RMSprop", COURSERA, 2012; the start and the place of ``eps`` are those of
    ``tf.train.RMSPropOptimizer``.

    Args:
        params: the parameters, or groups of them, as for `torch.optim.Optimizer`.
        lr: the learning rate, above 0.
        alpha: the share of the old mean square in the new one, in [0, 1).
        eps: what is added to the mean square, above 0.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([2.0]))
        >>> weight.grad = torch.tensor([1.0])
        >>> RMSpropTF([weight], lr=0.5).step()
        >>> weight.item()
        1.5
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        alpha: float = 0.9,
        eps: float = 1e-10,
    ) -> None:
        check_range("above 0", lr=lr, eps=eps)
        check_range("in [0, 1)", alpha=alpha)
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step.

        Args:
            closure: computes the loss and its gradients; None where the gradients are there.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["square_avg"] = torch.ones_like(weight)  # the name that torch's RMSprop has for it in checkpoints
        square: Tensor = state["square_avg"]
        square.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1 - group["alpha"])
        weight.addcdiv_(gradient, (square + group["eps"]).sqrt_(), value=-group["lr"])
