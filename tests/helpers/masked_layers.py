"""The masked layers of each kind, with tensors to compute them from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_advdrop.nn import (
    LayerWeights,
    masked_gru_layer,
    masked_lstm_layer,
    masked_rnn_relu_layer,
    masked_rnn_tanh_layer,
)

WEIGHTS = LayerWeights._fields


NAMES = ("x", "mask", *WEIGHTS, "h0", "c0")


class Kind(NamedTuple):
    """A masked layer, how many rows of weights it has for each unit, whether it has a cell state and a projection."""

    function: Callable[..., Any]
    gates: int
    cell: bool = False
    projected: bool = False


KINDS = {
    "lstm": Kind(masked_lstm_layer, 4, cell=True),
    "projected lstm": Kind(masked_lstm_layer, 4, cell=True, projected=True),
    "gru": Kind(masked_gru_layer, 3),
    "tanh": Kind(masked_rnn_tanh_layer, 1),
    "relu": Kind(masked_rnn_relu_layer, 1),
}


Leaves = dict[str, Tensor]


def leaves(
    kind: Kind,
    sizes: Sequence[int],
    *,
    features: int = 2,
    units: int = 3,
    per_step: bool = False,
    biases: bool = True,
    needed: Sequence[str] = NAMES,
) -> Leaves:
    """The tensors of a layer, by their names in `NAMES`, as leaves."""
    width, rows = units - 1 if kind.projected else units, kind.gates * units
    state, steps = (sizes[0], width), (len(sizes),) if per_step else ()
    shapes: dict[str, tuple[int, ...]] = {"x": (sum(sizes), features), "mask": (*steps, *state)}
    shapes |= {"weight_ih": (rows, features), "weight_hh": (rows, width)}
    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if biases else {}
    shapes |= {"weight_hr": (width, units)} if kind.projected else {}
    shapes |= {"h0": state} | ({"c0": (sizes[0], units)} if kind.cell else {})
    torch.manual_seed(0)
    made = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    scaled = {name: tensor * units**-0.5 if name in WEIGHTS else tensor for name, tensor in made.items()}
    return {name: tensor.requires_grad_(name in needed) for name, tensor in scaled.items()}


def in_single_precision(given: Leaves) -> Leaves:
    return {name: tensor.detach().float().requires_grad_() for name, tensor in given.items()}


def outputs(kind: Kind, sizes: Sequence[int], given: Leaves) -> tuple[Tensor, ...]:
    state = tuple(given[name] for name in ("h0", "c0") if name in given)
    weights = LayerWeights(**{name: given[name] for name in WEIGHTS if name in given})
    hidden, finals = kind.function(given["x"], sizes, state, given["mask"], weights)
    return hidden, *finals
