"""Forwards that write in place to what was computed before the first mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.recording import computed, record, references


class Writing(nn.Module):
    """Writes to the result of a linear layer, which is a view of what torch made inside."""

    window: Tensor

    def __init__(self, write: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.write, self.gru = nn.Linear(3, 3), write, nn.GRU(3, 4)
        self.register_buffer("window", torch.zeros(5, 2, 3))

    def forward(self, x: Tensor) -> Tensor:  # (T, B, 3)
        hidden = self.linear(x)
        doubled = hidden * 2
        self.write(hidden)
        output: Tensor = self.gru(hidden + doubled)[0]
        return output


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "mul_": lambda h: h.mul_(0.5),
    "noise": lambda h: h.mul_(torch.rand_like(h)),
    "elu": lambda h: F.elu(h, inplace=True),
    "dropout": lambda h: F.dropout(h, 0.5, True, True),
    "module": nn.Dropout(0.5, inplace=True),
    "item": lambda h: h[0].add_(1),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("share_noise", [True, False])
def test_what_was_written_is_not_written_again(write: Callable[[Tensor], Any], share_noise: bool) -> None:
    model, x = Writing(write), torch.randn(5, 2, 3)
    recorded, base = record(model, lambda: model(x), share_noise=share_noise)
    outputs = [recorded.run(lambda: model(x), references(recorded)) for _ in range(4)]
    for output in outputs:
        torch.testing.assert_close(output, base if share_noise else outputs[0], rtol=1e-5, atol=1e-6)


def test_it_is_handed_back() -> None:
    model, x = Writing(WRITES["dropout"]), torch.randn(5, 2, 3)
    recorded, _ = record(model, lambda: model(x))
    assert computed(recorded, lambda: model(x), references(recorded), "linear", "mul", "dropout") == (0, 0, 0)


@pytest.mark.parametrize("share_noise", [True, False])
def test_a_buffer_written_through_a_view_is_that_of_the_run(share_noise: bool) -> None:
    class Carrying(Writing):
        def forward(self, x: Tensor) -> Tensor:
            self.window[:2].add_(1)
            output: Tensor = self.gru(self.linear(x) + self.window)[0]
            return output

    model, x = Carrying(lambda _: None), torch.randn(5, 2, 3)
    recorded, base = record(model, lambda: model(x), share_noise=share_noise)
    for _ in range(4):
        output = recorded.run(lambda: model(x), references(recorded))
        torch.testing.assert_close(output, base, rtol=1e-5, atol=1e-6)
    assert model.window[:, 0, 0].tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("share_noise", [True, False])
def test_a_tensor_from_elsewhere(share_noise: bool) -> None:
    class Elsewhere(Writing):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.from_numpy(x.numpy().copy())
            F.dropout(x, 0.5, True, True)
            output: Tensor = self.gru(x)[0]
            return output

    model, x = Elsewhere(lambda _: None), torch.randn(5, 2, 3)
    recorded, base = record(model, lambda: model(x), share_noise=share_noise)
    outputs = [recorded.run(lambda: model(x), references(recorded)) for _ in range(3)]
    for output in outputs:
        torch.testing.assert_close(output, base if share_noise else outputs[0], rtol=1e-5, atol=1e-6)
