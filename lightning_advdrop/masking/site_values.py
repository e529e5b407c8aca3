"""The values that a pass can apply at a site: masks and perturbations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from lightning_advdrop.masking.sites import MaskSite


class Perturbation(NamedTuple):
    """An additive perturbation in place of a multiplicative mask, for the kinds ``embedding`` and ``input``.

    Attributes:
        value: the tensor to add, of the shape `Observation.activation`.
    """

    value: Tensor


SiteValue = Tensor | Perturbation
Masks = Mapping[MaskSite, SiteValue]
