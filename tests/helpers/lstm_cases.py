"""Cases of LSTMs and their inputs, drawn by hypothesis, and what a run of one gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, Tensor]
Layout = Literal["padded", "sorted", "unsorted", "unbatched"]
LAYOUTS: tuple[Layout, ...] = ("padded", "sorted", "unsorted", "unbatched")


@dataclass(frozen=True)
class Case:
    """An LSTM's arguments, the layout of its input and the lengths of the sequences."""

    features: int
    units: int
    layers: int
    bidirectional: bool
    batch_first: bool
    bias: bool
    layout: Layout
    lengths: tuple[int, ...]
    with_state: bool
    seed: int

    @property
    def masks(self) -> int:
        """The number of layers times directions."""
        return self.layers * (2 if self.bidirectional else 1)

    def build(self, kind: type[nn.LSTM], **kwargs: Any) -> Any:
        """An LSTM in float64; those of one case have equal parameters."""
        torch.manual_seed(self.seed)
        kwargs |= {"bias": self.bias, "batch_first": self.batch_first, "bidirectional": self.bidirectional}
        return kind(self.features, self.units, self.layers, **kwargs, dtype=torch.float64)

    def sequences(self) -> Tensor:
        """Leaves of random input rows ``(B, T, in)``, also in the padding."""
        torch.manual_seed(self.seed + 1)
        shape = len(self.lengths), max(self.lengths), self.features
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def states(self) -> State | None:
        """Leaves of random initial states ``(layers * directions, B, H)``, or None."""
        torch.manual_seed(self.seed + 2)
        shape = 2, self.masks, len(self.lengths), self.units
        h0, c0 = (state.requires_grad_() for state in torch.randn(shape, dtype=torch.float64).unbind(0))
        return (h0, c0) if self.with_state else None

    def arrange(self, x: Tensor) -> Tensor | PackedSequence:
        """``(B, T, in)`` as the input of the case's LSTM."""
        if self.layout == "unbatched":
            return x[0]
        x = x if self.batch_first else x.transpose(0, 1)
        if self.layout == "padded":
            return x
        return pack_padded_sequence(x, list(self.lengths), self.batch_first, enforce_sorted=self.layout == "sorted")

    def unpad(self, output: Tensor | PackedSequence) -> list[Tensor]:
        """The output of each sequence, ``(T_i, directions * H)``."""
        if self.layout == "unbatched":
            assert isinstance(output, Tensor)
            return [output]
        if isinstance(output, PackedSequence):
            output, lengths = pad_packed_sequence(output, self.batch_first)
            assert lengths.tolist() == list(self.lengths)
        rows = output if self.batch_first else output.transpose(0, 1)
        return [row[:length] for row, length in zip(rows, self.lengths, strict=True)]


@st.composite
def cases(draw: st.DrawFn, max_layers: int = 3) -> Case:
    """Small LSTMs of every layout."""
    layout: Layout = draw(st.sampled_from(LAYOUTS))
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=1 if layout == "unbatched" else 4))
    if layout == "padded":
        lengths = [lengths[0]] * len(lengths)
    if layout == "sorted":
        lengths.sort(reverse=True)
    small = st.integers(1, 3)
    return Case(
        features=draw(small),
        units=draw(small),
        layers=draw(st.integers(1, max_layers)),
        bidirectional=draw(st.booleans()),
        batch_first=draw(st.booleans()),
        bias=draw(st.booleans()),
        layout=layout,
        lengths=tuple(lengths),
        with_state=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )


class Run(NamedTuple):
    """What an LSTM gave: the outputs of each sequence, the final states ``(layers * directions, B, H)``, gradients."""

    outputs: list[Tensor]
    final: State
    grads: tuple[Tensor, ...]


def loss_of(outputs: list[Tensor], final: State) -> Tensor:
    """A number that every output and final state takes part in, each with a weight of its own."""
    flat = torch.cat([part.flatten() for part in (*outputs, *final)])
    return (flat * torch.linspace(-1, 2, len(flat), dtype=flat.dtype).sin()).sum() + flat.square().sum()


def run(case: Case, lstm: nn.LSTM, masks: Any = None, leaves: tuple[Tensor, ...] = (), **kwargs: Any) -> Run:
    """Runs an LSTM on the case's input; gradients are of the input, initial states, parameters and ``leaves``."""
    x, hx = case.sequences(), case.states()
    unbatched = case.layout == "unbatched"
    given = hx if hx is None or not unbatched else (hx[0][:, 0], hx[1][:, 0])
    if masks is not None:
        kwargs["recurrent_mask"] = masks
    output, (h_n, c_n) = lstm(case.arrange(x), given, **kwargs)
    outputs = case.unpad(output)
    final = (h_n.unsqueeze(1), c_n.unsqueeze(1)) if unbatched else (h_n, c_n)
    wanted = (x, *(hx or ()), *lstm.parameters(), *leaves)
    return Run(outputs, final, torch.autograd.grad(loss_of(outputs, final), wanted))


def assert_same(first: Run, second: Run, tolerance: float = 1e-10) -> None:
    """Fails where outputs, final states or gradients differ."""
    torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)
