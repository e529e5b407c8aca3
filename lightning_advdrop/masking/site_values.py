"""What a pass can apply at a site: a mask, or a perturbation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from lightning_advdrop.masking.sites import MaskSite


class Perturbation(NamedTuple):
    """An additive perturbation, in place of a mask that would be multiplied: for the kinds ``embedding`` and ``input``.

    Attributes:
        value: the tensor to add, in the shape of what it is added to, see `Observation.activation`.
    """

    value: Tensor


SiteValue = Tensor | Perturbation
Masks = Mapping[MaskSite, SiteValue]
