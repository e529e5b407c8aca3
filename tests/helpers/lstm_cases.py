"""Cases of recurrent layers and their inputs, drawn by hypothesis, and what a run of one gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lightning_advdrop.nn import MaskedGRU, MaskedLSTM, MaskedRNN

State = tuple[Tensor, ...]
Kind = Literal["lstm", "gru", "tanh", "relu"]
KINDS: tuple[Kind, ...] = ("lstm", "gru", "tanh", "relu")
Layout = Literal["padded", "sorted", "unsorted", "unbatched"]
LAYOUTS: tuple[Layout, ...] = ("padded", "sorted", "unsorted", "unbatched")


@dataclass(frozen=True)
class Case:
    """A layer's arguments, the layout of its input and the lengths of the sequences."""

    kind: Kind
    features: int
    units: int
    projection: int
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

    @property
    def width(self) -> int:
        """The width of the hidden state."""
        return self.projection or self.units

    def build(self, *, masked: bool, **kwargs: Any) -> Any:
        """A layer in float64, ours or torch's; those of one case have equal parameters."""
        torch.manual_seed(self.seed)
        types: tuple[Any, Any] = {"lstm": (nn.LSTM, MaskedLSTM), "gru": (nn.GRU, MaskedGRU)}.get(
            self.kind, (nn.RNN, MaskedRNN)
        )
        if self.kind == "relu":
            kwargs["nonlinearity"] = "relu"
        if self.projection:
            kwargs["proj_size"] = self.projection
        kwargs |= {"bias": self.bias, "batch_first": self.batch_first, "bidirectional": self.bidirectional}
        return types[masked](self.features, self.units, self.layers, **kwargs, dtype=torch.float64)

    def sequences(self) -> Tensor:
        """Leaves of random input rows ``(B, T, in)``, also in the padding."""
        torch.manual_seed(self.seed + 1)
        shape = len(self.lengths), max(self.lengths), self.features
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def states(self) -> State | None:
        """Leaves of random initial states ``(layers * directions, B, width)``, or None."""
        if not self.with_state:
            return None
        torch.manual_seed(self.seed + 2)
        return tuple(torch.randn_like(zeros).requires_grad_() for zeros in self.zero_states())

    def zero_states(self) -> State:
        """The initial states where none are given."""
        widths = (self.width, self.units) if self.kind == "lstm" else (self.width,)
        return tuple(torch.zeros(self.masks, len(self.lengths), width, dtype=torch.float64) for width in widths)

    def given_states(self, hx: State | None) -> Any:
        """States as the layer's forward takes them."""
        if hx is None:
            return None
        hx = tuple(state[:, 0] for state in hx) if self.layout == "unbatched" else hx
        return hx if self.kind == "lstm" else hx[0]

    def arrange(self, x: Tensor) -> Tensor | PackedSequence:
        """``(B, T, in)`` as the input of the case's layer."""
        if self.layout == "unbatched":
            return x[0]
        x = x if self.batch_first else x.transpose(0, 1)
        if self.layout == "padded":
            return x
        return pack_padded_sequence(x, list(self.lengths), self.batch_first, enforce_sorted=self.layout == "sorted")

    def unpad(self, output: Tensor | PackedSequence) -> list[Tensor]:
        """The output of each sequence, ``(T_i, directions * P)``."""
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
    """Small layers of every kind and layout."""
    layout: Layout = draw(st.sampled_from(LAYOUTS))
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=1 if layout == "unbatched" else 4))
    if layout == "padded":
        lengths = [lengths[0]] * len(lengths)
    if layout == "sorted":
        lengths.sort(reverse=True)
    small = st.integers(1, 3)
    kind: Kind = draw(st.sampled_from(KINDS))
    units = draw(small)
    return Case(
        kind=kind,
        features=draw(small),
        units=units,
        projection=draw(st.integers(0, units - 1)) if kind == "lstm" else 0,
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
    """What a layer gave: the outputs of each sequence, final states ``(layers * directions, B, width)``, gradients."""

    outputs: list[Tensor]
    final: State
    grads: tuple[Tensor, ...]


def loss_of(outputs: list[Tensor], final: State) -> Tensor:
    """A number that every output and final state takes part in, each with a weight of its own."""
    flat = torch.cat([part.flatten() for part in (*outputs, *final)])
    weights = torch.linspace(-1, 2, len(flat), dtype=flat.dtype, device=flat.device).sin()
    return (flat * weights).sum() + flat.square().sum()


def run(case: Case, layer: Any, masks: Any = None, leaves: tuple[Tensor, ...] = ()) -> Run:
    """Runs a layer on the case's input; gradients are of the input, initial states, parameters and ``leaves``."""
    x, hx = case.sequences(), case.states()
    kwargs = {} if masks is None else {"recurrent_mask": masks}
    output, final = layer(case.arrange(x), case.given_states(hx), **kwargs)
    outputs = case.unpad(output)
    final = (final,) if isinstance(final, Tensor) else final
    if case.layout == "unbatched":
        final = tuple(state.unsqueeze(1) for state in final)
    wanted = (x, *(hx or ()), *layer.parameters(), *leaves)
    return Run(outputs, final, torch.autograd.grad(loss_of(outputs, final), wanted))


def assert_same(first: Run, second: Run, tolerance: float = 1e-10) -> None:
    """Fails where outputs, final states or gradients differ."""
    torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)
