"""Recurrent layers: their recurrent connections, hidden-to-hidden weights, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_advdrop.masking.acting import Shift
from lightning_advdrop.nn import MASKED_LAYERS, RECURRENT_FUNCTIONS, LayerWeights, RecurrentCall, RecurrentMasks

if TYPE_CHECKING:
    from lightning_advdrop.masking.mode import MaskingMode


def _call(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call of `torch.lstm` or one of its siblings."""
    if mode.inside:
        return mode.call(function, args, kwargs)
    given = RecurrentCall.parse(function, args)
    call = given if mode.dropout else _without_dropout(mode, given)
    if any(mode.has(weights.weight_hh) or mode.has(weights.weight_ih) for weights in call.weights):
        masks, call = _under_input_shift(mode, _masks(mode, call), call)
        call = _under_weight_masks(mode, call)
        if not masks.empty:
            with mode.within():  # to see, and hand back, what happens before the first masked layer
                return call.run_masked(masks)
    return mode.call(function, args, kwargs) if call is given else call.run()


def _without_dropout(mode: MaskingMode, call: RecurrentCall) -> RecurrentCall:
    if call.config.dropout and call.config.train:
        mode.check_computed_once("dropout=False: dropout")
    return call.replace(dropout=0.0)


def _masks(mode: MaskingMode, call: RecurrentCall) -> RecurrentMasks:
    batch, steps, hidden = call.batch, len(call.batch_sizes), call.states[0][0]  # (B, P)
    recurrent = [
        mode.meet(weights.weight_hh, "recurrent", (batch, hidden.shape[1]), hidden, steps=steps)
        for weights in call.weights
    ]
    rows = {"batch_dim": 0 if call.batch_first else 1, "batch_sizes": call.batch_sizes if call.packed else None}
    inputs = [
        _meet_locked(mode, call, "hidden" if layer else "input", weights.weight_ih, weights.weight_ih.shape[1], rows)
        for layer, weights in enumerate(call.weights[:: call.config.directions])
    ]
    width = hidden.shape[1] * call.config.directions
    output = _meet_locked(mode, call, "output", call.weights[-1].weight_hh, width, rows)
    return RecurrentMasks(recurrent, inputs, output)  # a shift is taken out next


def _meet_locked(
    mode: MaskingMode, call: RecurrentCall, kind: str, anchor: Tensor, width: int, rows: dict[str, Any]
) -> Any:
    like = call.data[..., :1].expand(*call.data.shape[:-1], width)
    return mode.meet(anchor, kind, (call.batch, 1, width), like, **rows)


def _under_input_shift(mode: MaskingMode, masks: RecurrentMasks, call: RecurrentCall) -> tuple[Any, RecurrentCall]:
    shift = masks.inputs[0]
    if not isinstance(shift, Shift):
        return masks, call
    mode.before_mask()
    return masks._replace(inputs=[None, *masks.inputs[1:]]), replace(call, data=call.data + shift.value)


def _under_weight_masks(mode: MaskingMode, call: RecurrentCall) -> RecurrentCall:
    weights = [under_weight_mask(mode, weights) for weights in call.weights]
    changed = any(new is not old for new, old in zip(weights, call.weights, strict=True))
    return call.replace(weights=weights) if changed else call


def under_weight_mask(mode: MaskingMode, weights: LayerWeights) -> LayerWeights:
    """The weights of a layer, the hidden-to-hidden one under its mask if there is one."""
    weight = weights.weight_hh
    mask = mode.meet(weight, "weight", tuple(weight.shape), weight)
    if mask is None:
        return weights
    mode.before_mask()
    return weights._replace(weight_hh=weight * mask)


def _masked_layer(
    mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A masked layer: on the way from `_call`, or a module to which the model's own forward gave a mask."""
    x, batch_sizes, state, mask, weights = args
    if not mode.inside:
        shape, steps = (batch_sizes[0], weights.weight_hh.shape[1]), len(batch_sizes)
        acting = mode.meet(weights.weight_hh, "recurrent", shape, x, steps=steps)
        masked = under_weight_mask(mode, weights)
        if acting is None and masked is weights:
            return mode.call(function, args, kwargs)
        weights, mask = masked, mask if acting is None else mask * acting
    mode.before_mask()
    if not mode.needs_parameter_gradients:
        weights = weights._replace(**{name: _without_gradient(w) for name, w in weights._asdict().items()})
    return function(x, batch_sizes, state, mask, weights)


def _without_gradient(weight: Tensor | None) -> Tensor | None:
    """A parameter without its gradient; a weight that was computed, from a mask perhaps, stays as it is."""
    return weight.detach() if weight is not None and weight.is_leaf else weight


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys(RECURRENT_FUNCTIONS, _call),
    **dict.fromkeys(MASKED_LAYERS, _masked_layer),
}
