"""Handlers of recurrent layers: masks on their recurrent connections, weights, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lightning_advdrop import _torch
from lightning_advdrop.masking.handlers.composing import composed
from lightning_advdrop.masking.mode import MaskingMode
from lightning_advdrop.masking.site_values import Perturbation
from lightning_advdrop.nn import (
    MASKED_LAYERS,
    RECURRENT_FUNCTIONS,
    LayerWeights,
    RecurrentCall,
    RecurrentMasks,
    masked_call,
)


class _Call(NamedTuple):
    """A recurrent call with the masks to apply.

    Attributes:
        call: the call, with masks of its weights and perturbations of its input applied.
        masks: the other masks.
        anchors: the weights that were given, by which sites are recognised.
    """

    call: RecurrentCall
    masks: RecurrentMasks
    anchors: list[LayerWeights]


def _call(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call of `torch.lstm`, `torch.gru`, `torch.rnn_tanh` or `torch.rnn_relu`."""
    if mode.inside:
        return mode.call(function, args, kwargs)
    given = RecurrentCall.parse(function, args)
    if given.packed:
        mode.evidence.packed.add(tuple(given.batch_sizes))
    else:
        mode.evidence.sequences.add((len(given.batch_sizes), given.batch))
    call = given if mode.dropout else _without_dropout(mode, given)
    found = _add_masks(mode, _Call(call, RecurrentMasks([None] * len(call.weights)), call.weights))
    if found.call is given and found.masks.empty and not _needs_single_layers(mode, given):
        return mode.call(function, args, kwargs)
    return _run(mode, found)


def _masked_call(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG001
    """A call of a masked layer, to which the model's own forward gave masks."""
    call, masks = args
    if not mode.dropout:
        call = _without_dropout(mode, call)
    return _run(mode, _add_masks(mode, _Call(call, masks, call.weights)))


def _run(mode: MaskingMode, found: _Call) -> Any:
    with composed(_add_masks, found) as (call, masks, _), mode.within():
        # Within the mode, so that what comes before the first mask is reused.
        return call.run_masked(masks, single_layers=_needs_single_layers(mode, call))


def _needs_single_layers(mode: MaskingMode, call: RecurrentCall) -> bool:
    """Tell whether the dropout between layers must be drawn by torch, for two passes to have the same."""
    return mode.replays and call.drops_between_layers and _torch.draws_own_dropout(call.data)


def _add_masks(mode: MaskingMode, found: _Call) -> _Call:
    """Add the masks of this mode to a call."""
    _recognise(mode, found)
    if not any(weights.weight_hh in mode.anchors or weights.weight_ih in mode.anchors for weights in found.anchors):
        return found
    own = _masks(mode, found)
    first: Any = own.inputs[0]
    perturbed = isinstance(first, Perturbation)
    if perturbed:
        own = own._replace(inputs=[None, *own.inputs[1:]])
    masks = _product(mode, found.masks, own)
    call = _under_weight_masks(mode, found)
    if perturbed:
        mode.before_mask()
        call = replace(call, data=call.data + first.value)
    return _Call(call, masks, found.anchors)


def _recognise(mode: MaskingMode, found: _Call) -> None:
    """Recognise weights that were computed, by their position in the layer that is running."""
    for index, weights in enumerate(found.anchors):
        layer, direction = divmod(index, found.call.config.directions)
        place = f"l{layer}_reverse" if direction else f"l{layer}"
        mode.anchors.recognise(found.call.function, weights.weight_ih, f"weight_ih_{place}")
        mode.anchors.recognise(found.call.function, weights.weight_hh, f"weight_hh_{place}")


def _without_dropout(mode: MaskingMode, call: RecurrentCall) -> RecurrentCall:
    if call.config.dropout and call.config.train:
        mode.check_computed_once("dropout=False: dropout")
    return call.replace(dropout=0.0)


def _masks(mode: MaskingMode, found: _Call) -> RecurrentMasks:
    """Return the masks of this mode; the first of ``inputs`` may be a `Perturbation`."""
    call, anchors = found.call, found.anchors
    batch, steps, hidden = call.batch, len(call.batch_sizes), call.states[0][0]  # (B, P)
    order = _order(mode, call)
    packed: dict[str, Any] = {"batch_sizes": call.batch_sizes if call.packed else None, "order": order}

    def recurrent(anchor: Tensor) -> Any:
        value = mode.value_at(anchor, "recurrent", (batch, hidden.shape[1]), hidden, steps=steps, **packed)
        return mode.in_order(value, order, -2)

    def locked(kind: str, anchor: Tensor, width: int) -> Any:
        like = call.data[..., :1].expand(*call.data.shape[:-1], width)
        batch_dim = 0 if call.batch_first else 1
        value = mode.value_at(anchor, kind, (batch, 1, width), like, batch_dim=batch_dim, **packed)
        return mode.in_order(value, order, 0)

    return RecurrentMasks(
        [recurrent(anchor.weight_hh) for anchor in anchors],
        [
            locked("hidden" if layer else "input", anchor.weight_ih, anchor.weight_ih.shape[1])
            for layer, anchor in enumerate(anchors[:: call.config.directions])
        ],
        locked("output", anchors[-1].weight_hh, hidden.shape[1] * call.config.directions),
    )


def _order(mode: MaskingMode, call: RecurrentCall) -> Tensor | None:
    """The example of each row of a step, which a packed sequence knows that is the running module's argument."""
    given = (each for each in mode.running.arguments[-1] if isinstance(each, PackedSequence))
    return next((each.sorted_indices for each in given if each.batch_sizes is call.packed_sizes), None)


def _product(mode: MaskingMode, given: RecurrentMasks, own: RecurrentMasks) -> RecurrentMasks:
    inputs = given.inputs or [None] * len(own.inputs)
    return RecurrentMasks(
        [mode.times(*pair) for pair in zip(given.recurrent, own.recurrent, strict=True)],
        [mode.times(*pair) for pair in zip(inputs, own.inputs, strict=True)],
        mode.times(given.output, own.output),
    )


def _under_weight_masks(mode: MaskingMode, found: _Call) -> RecurrentCall:
    pairs = zip(found.call.weights, found.anchors, strict=True)
    weights = [under_weight_mask(mode, weights, anchor.weight_hh) for weights, anchor in pairs]
    changed = any(new is not old for new, old in zip(weights, found.call.weights, strict=True))
    return found.call.replace(weights=weights) if changed else found.call


def under_weight_mask(mode: MaskingMode, weights: LayerWeights, anchor: Tensor) -> LayerWeights:
    """Apply the mask of a mode to a layer's hidden-to-hidden weight, if there is one.

    Args:
        mode: the mode in which the layer runs.
        weights: the layer's weights.
        anchor: the hidden-to-hidden weight by which the site is recognised.
    """
    mask = mode.value_at(anchor, "weight", tuple(anchor.shape), anchor)
    if mask is None:
        return weights
    mode.before_mask()
    return weights._replace(weight_hh=weights.weight_hh * mask)


def _masked_layer(
    mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A masked layer, as part of a call that was handled or called by the model's own forward."""
    x, batch_sizes, state, mask, weights = args
    if not mode.inside:
        anchor = weights.weight_hh
        shape, steps = (batch_sizes[0], anchor.shape[1]), len(batch_sizes)
        mask = mode.times(mask, mode.value_at(anchor, "recurrent", shape, x, steps=steps))
        weights = under_weight_mask(mode, weights, anchor)
    return mode.call(function, (x, batch_sizes, state, mask, weights), kwargs)


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys(RECURRENT_FUNCTIONS, _call),
    **dict.fromkeys(MASKED_LAYERS, _masked_layer),
    masked_call: _masked_call,
}
