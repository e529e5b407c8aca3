"""Handlers of torch's attention functions, whose weights have dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop._torch_calls import arguments_of, without_override
from lightning_advdrop.masking.mode import MaskingMode


def _attention(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Scaled dot product attention, computed step by step where its dropout is a site."""
    arguments = arguments_of(_attend, args, kwargs, "dropout_p")
    if not mode.dropout:
        if arguments["dropout_p"]:
            mode.check_computed_once("dropout=False: dropout")
        return function(**{**arguments, "dropout_p": 0.0})
    if not mode.replaces_dropout(arguments["dropout_p"]):
        return mode.call(function, args, kwargs)
    with mode:
        return _attend(**arguments)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention` with its weights ``(..., L, S)`` visible to the mode."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    # In the order of torch's own computation, so that the base pass is the plain one to the bit.
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    factor = math.sqrt(abs(scale))
    scores = (query * math.copysign(factor, scale)) @ (key.transpose(-2, -1) * factor)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is None:
        weights = scores.softmax(-1)
    else:
        if attn_mask.dtype is torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=scores.dtype).masked_fill(~attn_mask, -math.inf)
        scores = scores + attn_mask
        nothing = (scores == -math.inf).all(-1, keepdim=True)  # the queries without a key get zeros
        weights = scores.masked_fill(nothing, 0.0).softmax(-1).masked_fill(nothing, 0.0)
    return F.dropout(weights, dropout_p) @ value


def _multi_head(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Multi-head attention, whose inner calls the mode sees where its dropout is a site or switched off."""
    arguments = arguments_of(function, args, kwargs, "dropout_p")
    for sequence in (arguments["query"], arguments["key"]):
        if sequence.dim() == 3:  # (T, B, E), whatever the layer's batch_first
            mode.evidence.sequences.add(tuple(sequence.shape[:2]))
    if mode.dropout and not mode.replaces_dropout(arguments["dropout_p"]):
        return mode.call(function, args, kwargs)
    with mode:
        return without_override(function)(*args, **kwargs)


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.scaled_dot_product_attention: _attention,
    F.multi_head_attention_forward: _multi_head,
}
