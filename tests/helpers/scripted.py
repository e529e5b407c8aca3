"""A module for `torch.jit.script`, which can't read annotations that are strings."""

import torch
from torch import Tensor, nn


class Carrying(nn.Module):
    """Changes a buffer, a tensor and a number in each call."""

    carried: Tensor
    counted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counted", torch.zeros(1))
        self.carried, self.calls = torch.zeros(1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.counted += 1
        self.carried = self.carried + 1
        self.calls += 1
        return x + self.counted + self.carried + self.calls
