"""What can act at a site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from lightning_advdrop.masking.sites import MaskSite


class Shift(NamedTuple):
    """What is added at a site, where a mask would be multiplied: for the kinds ``embedding`` and ``input``.

    Attributes:
        value: of the shape of what it is added to, see `Observation.activation`.
    """

    value: Tensor


Acting = Tensor | Shift
Masks = Mapping[MaskSite, Acting]
