"""Recurrent networks whose forward changes something besides, and how each is compared with an untouched twin."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_advdrop.masking import RecordedForward, find_sites

STEPS, BATCH, FEATURES = 5, 2, 3


class Net(nn.Module):
    """Calls ``change(self, x)`` before the masked layer, and ``after`` behind it; each returns what goes on.

    Args:
        init: adds what the module holds.
        change: gets the module and the input.
        after: gets the module, the input and the logits.
    """

    def __init__(
        self,
        init: Callable[[Any], Any] = lambda net: None,
        change: Callable[[Any, Tensor], Tensor] = lambda net, x: x,
        after: Callable[[Any, Tensor, Tensor], Tensor] = lambda net, x, logits: logits,
    ) -> None:
        super().__init__()
        self.lift, self.lstm, self.head = nn.Linear(FEATURES, FEATURES), nn.LSTM(FEATURES, 4), nn.Linear(4, 2)
        self.change, self.after = change, after
        init(self)

    def forward(self, x: Tensor) -> Tensor:  # (T, B, 3)
        logits: Tensor = self.head(self.lstm(self.change(self, x))[0][-1])
        return self.after(self, x, logits)


def twins(make: Callable[[], nn.Module]) -> tuple[Any, Any]:
    """Two equal modules."""
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        found.append(make())
    return found[0], found[1]


def inputs(count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(STEPS, BATCH, FEATURES, generator=generator) for _ in range(count)]


def recorded_base(model: nn.Module, forward: Callable[[], Tensor], *, share_noise: bool = True) -> Any:
    """The recorder after a base pass, and its output."""
    recorded = RecordedForward(model, find_sites(model, "recurrent"), share_noise=share_noise)
    with recorded.first_run(forward):
        base = forward()
    recorded.draw_noise(3)
    return recorded, base


def check_against_twin(
    make: Callable[[], nn.Module], *, share_noise: bool = True, draws: bool = False
) -> tuple[Any, Any]:
    """Assert for some steps: passes that change nothing give the base output, which is an untouched twin's.

    Args:
        make: makes the module.
        share_noise: whether passes draw the same as the base pass.
        draws: whether the module draws random numbers; unless shared, those of all passes are the same other ones.

    Returns:
        The module and its twin.
    """
    model, twin = twins(make)
    for x in inputs():
        given = x.clone()
        forward = functools.partial(model, x)
        recorded, base = recorded_base(model, forward, share_noise=share_noise)
        assert torch.equal(base, twin(given))
        masks = {site: seen.ones().requires_grad_() for site, seen in recorded.observed.items()}
        outputs = [recorded.run(forward, masks) for _ in range(3)]
        other_noise = draws and not share_noise
        assert torch.allclose(outputs[0], base, rtol=1e-5, atol=1e-6) != other_noise
        for output in outputs[1:]:
            torch.testing.assert_close(output, outputs[0], rtol=1e-5, atol=1e-6)
        assert torch.equal(x, given)
        (base.sum() + outputs[2].sum()).backward()  # no graph has lost what it saved
        for parameter, same in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(parameter, same)
            parameter.grad = None
    return model, twin
