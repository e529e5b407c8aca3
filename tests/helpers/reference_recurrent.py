"""Masked recurrent layers one sequence and one step at a time, from the equations, by plain automatic differentiation.

A kind is ``lstm``, ``gru``, ``tanh`` or ``relu``; a state is ``(h, c)`` for an LSTM and ``(h,)`` for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def reference_step(kind: str, x: Tensor, state: State, mask: Tensor, weights: dict[str, Tensor]) -> State:
    """One step of one sequence: ``x`` is ``(in,)``, the states are ``(width,)``, and so is the mask of ``h``.

    ``weights`` are by their names in torch, without the layer's suffix.
    """
    h = state[0]
    zero = torch.zeros(len(weights["weight_ih"]), dtype=x.dtype)
    from_x = weights["weight_ih"] @ x + weights.get("bias_ih", zero)
    from_h = weights["weight_hh"] @ (mask * h) + weights.get("bias_hh", zero)
    if kind == "tanh":
        return ((from_x + from_h).tanh(),)
    if kind == "relu":
        return ((from_x + from_h).relu(),)
    if kind == "gru":
        (xr, xz, xn), (hr, hz, hn) = from_x.chunk(3), from_h.chunk(3)
        z = (xz + hz).sigmoid()
        n = (xn + (xr + hr).sigmoid() * hn).tanh()
        return ((1 - z) * n + z * h,)
    i, f, g, o = (from_x + from_h).chunk(4)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return (weights["weight_hr"] @ h if "weight_hr" in weights else h), c


def reference_direction(
    kind: str, steps: Sequence[Tensor], state: State, masks: Sequence[Tensor], weights: dict[str, Tensor]
) -> tuple[list[Tensor], State]:
    """One layer of one sequence, in the order of ``steps``; there is one mask for each of them."""
    outputs = []
    for x, mask in zip(steps, masks, strict=True):
        state = reference_step(kind, x, state, mask, weights)
        outputs.append(state[0])
    return outputs, state


def weights_of(layers: Any, layer: int, direction: int) -> dict[str, Tensor]:
    """The parameters of one layer in one direction, by name."""
    suffix = f"_l{layer}_reverse" if direction else f"_l{layer}"
    return {name.removesuffix(suffix): p for name, p in layers.named_parameters() if name.endswith(suffix)}


def masks_of(mask: Tensor | None, sequence: int, steps: int, width: int) -> list[Tensor]:
    """The masks of each step of one sequence.

    The steps of ``(T, B, P)`` masks are counted in the order in which the direction takes them.
    """
    if mask is None:
        return [torch.ones(width, dtype=torch.float64)] * steps
    return [mask[step, sequence] if mask.dim() == 3 else mask[sequence] for step in range(steps)]


def reference_layers(
    kind: str,
    layers: Any,
    sequences: Sequence[Tensor],
    hx: State,
    masks: Sequence[Tensor | None],
    inputs: Sequence[Tensor | None] | None = None,
) -> tuple[list[Tensor], State]:
    """Each sequence ``(T_i, in)`` by itself through all layers and directions, without dropout between layers.

    Args:
        kind: the kind of layer.
        layers: the stock module that holds the parameters.
        sequences: the input.
        hx: the initial states, ``(layers * directions, B, width)``.
        masks: recurrent masks, for each layer and direction.
        inputs: masks ``(B, 1, D)`` of what enters each layer.

    Returns:
        The outputs ``(T_i, directions * P)``, and the final states ``(layers * directions, B, width)``.
    """
    directions = 2 if layers.bidirectional else 1
    outputs, finals = [], []
    for b, sequence in enumerate(sequences):
        steps: Sequence[Tensor] = list(sequence)
        states = []
        for layer in range(layers.num_layers):
            input_mask = inputs[layer] if inputs is not None else None
            if input_mask is not None:
                steps = [step * input_mask[b, 0] for step in steps]
            found = []
            for direction in range(directions):
                index = layer * directions + direction
                order = 1 if direction == 0 else -1
                step_masks = masks_of(masks[index], b, len(steps), hx[0].shape[-1])
                state = tuple(part[index, b] for part in hx)
                weights = weights_of(layers, layer, direction)
                hs, final = reference_direction(kind, steps[::order], state, step_masks, weights)
                found.append(hs[::order])
                states.append(final)
            steps = [torch.cat(parts) for parts in zip(*found, strict=True)]
        outputs.append(torch.stack(list(steps)))
        finals.append(states)
    final_states = (
        torch.stack([torch.stack([states[index][part] for states in finals]) for index in range(len(masks))])
        for part in range(len(hx))
    )
    return outputs, tuple(final_states)
