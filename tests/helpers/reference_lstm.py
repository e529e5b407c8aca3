"""A masked LSTM one sequence and one step at a time, from the equations, by plain automatic differentiation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]


def reference_step(x: Tensor, h: Tensor, c: Tensor, weights: Sequence[Tensor]) -> State:
    """One step of one sequence; ``h`` is what the gates see, masked already."""
    w_ih, w_hh, *biases = weights
    gates = w_ih @ x + w_hh @ h + sum(biases)
    i, f, g, o = gates.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def reference_direction(
    steps: Sequence[Tensor], state: State, masks: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[list[Tensor], State]:
    """One layer of one sequence, in the order of ``steps``; there is one mask ``(H,)`` for each of them."""
    h, c = state
    outputs = []
    for x, mask in zip(steps, masks, strict=True):
        h, c = reference_step(x, mask * h, c, weights)
        outputs.append(h)
    return outputs, (h, c)


def weights_of(lstm: nn.LSTM, layer: int, direction: int) -> list[Tensor]:
    """``weight_ih, weight_hh[, bias_ih, bias_hh]`` of one layer in one direction."""
    suffix = f"l{layer}_reverse" if direction else f"l{layer}"
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if lstm.bias else ("weight_ih", "weight_hh")
    return [getattr(lstm, f"{name}_{suffix}") for name in names]


def masks_of(mask: Tensor | None, sequence: int, steps: int, units: int) -> list[Tensor]:
    """The masks ``(H,)`` of each step of one sequence.

    The steps of ``(T, B, H)`` masks are counted in the order in which the direction takes them.
    """
    if mask is None:
        return [torch.ones(units, dtype=torch.float64)] * steps
    return [mask[step, sequence] if mask.dim() == 3 else mask[sequence] for step in range(steps)]


def reference_lstm(
    lstm: nn.LSTM, sequences: Sequence[Tensor], hx: State | None, masks: Sequence[Tensor | None]
) -> tuple[list[Tensor], State]:
    """Each sequence ``(T_i, in)`` by itself through all layers and directions, without dropout between layers.

    Returns:
        The outputs ``(T_i, directions * H)``, and the final states ``(layers * directions, B, H)``.
    """
    directions = 2 if lstm.bidirectional else 1
    shape = lstm.num_layers * directions, len(sequences), lstm.hidden_size
    h0, c0 = hx if hx is not None else (torch.zeros(shape, dtype=torch.float64),) * 2
    outputs, finals = [], []
    for b, sequence in enumerate(sequences):
        steps: Sequence[Tensor] = list(sequence)
        states = []
        for layer in range(lstm.num_layers):
            found = []
            for direction in range(directions):
                index = layer * directions + direction
                order = 1 if direction == 0 else -1
                step_masks = masks_of(masks[index], b, len(steps), lstm.hidden_size)
                state = h0[index, b], c0[index, b]
                hs, final = reference_direction(steps[::order], state, step_masks, weights_of(lstm, layer, direction))
                found.append(hs[::order])
                states.append(torch.stack(final))
            steps = [torch.cat(parts) for parts in zip(*found, strict=True)]
        outputs.append(torch.stack(list(steps)))
        finals.append(torch.stack(states))
    h_n, c_n = torch.stack(finals, 2).unbind(1)  # (layers * directions, 2, B, H)
    return outputs, (h_n, c_n)
