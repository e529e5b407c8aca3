"""Find out which parts of a module the masks of some sites don't reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from lightning_advdrop.masking.sites import MaskSite


class NotCovered(NamedTuple):
    """A part of a module on which no mask acts.

    Attributes:
        path: the part's path in the module.
        layer: the name of its class.
        reason: why no mask acts there.
    """

    path: str
    layer: str
    reason: str


def not_covered(module: nn.Module, sites: Sequence[MaskSite]) -> list[NotCovered]:
    """List the parts of a module on which one would expect a mask, but none acts.

    Args:
        module: the module in which the sites were found.
        sites: the sites.

    Returns:
        The parts in the order of ``module.named_modules()``.

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> model = nn.ModuleDict({"encoder": nn.LSTM(4, 3), "decoder": nn.GRU(3, 3)})
        >>> for part in not_covered(model, find_sites(model, "encoder:recurrent")):
        ...     print(*part, sep=": ")
        decoder: GRU: none of its sites is named
    """
    covered = {site.layer for site in sites}
    kinds = {site.kind for site in sites}
    parts = ((path, part, _reason(part, kinds)) for path, part in module.named_modules() if path not in covered)
    return [NotCovered(path, _layer_name(part), reason) for path, part, reason in parts if reason]


def _layer_name(part: nn.Module) -> str:
    return str(part.original_name) if isinstance(part, torch.jit.ScriptModule) else type(part).__name__


def _reason(part: nn.Module, kinds: set[str]) -> str | None:
    if isinstance(part, torch.jit.ScriptModule):
        return "it is scripted, and what it calls can't be seen; use the module it was made from"
    if "dropout" in kinds:
        return _dropout_reason(part)
    if isinstance(part, (nn.RNNBase, nn.RNNCellBase)):
        return "none of its sites is named"
    return None


def _dropout_reason(part: nn.Module) -> str | None:
    if isinstance(part, nn.RNNBase) and part.dropout and part.num_layers > 1:
        return "dropout between its layers is part of one function; name its sites of the kind 'hidden'"
    if isinstance(part, (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)):
        return "another path is named" if 0 < part.p < 1 else f"with p={part.p} it draws no mask"
    if isinstance(part, (nn.AlphaDropout, nn.FeatureAlphaDropout)):
        return "its noise is no mask that could be replaced"
    return None
