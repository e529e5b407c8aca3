"""What a site meets in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_advdrop._deprecation import warn_renamed
from lightning_advdrop.functional import sample_bernoulli
from lightning_advdrop.masking.examples import Examples, Shape
from lightning_advdrop.masking.sites import MaskSite


@dataclass(frozen=True)
class Observation:
    """The observation of a site in one pass.

    Attributes:
        site: the site, completed by what the pass has shown.
        shape: the shape of its masks in this pass.
        activation: the shape of the masked activation.
        like: an empty tensor of the masks' type and device.
        steps: the number of time steps, where masks may differ from step to step; else None.
        batch_dim: the dimension of the examples in the activation; None if the layer does not tell. Without
            meaning for packed rows.
        batch_sizes: for packed rows, the number of rows of each step; else None.
        order: for packed rows, the example of each row of a step, ``(B,)``; None if the layer does not tell.
        real: whether the activation is not padding, ``(..., 1)``; None if unknown, or nothing is padding.
        mask: the binary mask that the pass used; None if it kept everything, or its mask was not to be kept.
        applied: the mask or perturbation that the pass applied, with its graph; None for none.
        calls: further calls of the layer, each of which has a perturbation of its own.
        examples: where the activation holds the examples, once it is told.
        alone: False for an embedding that is added to another one, or has no examples of its own, as of positions: a
            perturbation acts on the other one.
    """

    site: MaskSite
    shape: Shape
    activation: Shape
    like: Tensor = field(repr=False)
    steps: int | None = None
    batch_dim: int | None = 0
    batch_sizes: Sequence[int] | None = field(default=None, repr=False)
    order: Tensor | None = field(default=None, repr=False)
    real: Tensor | None = field(default=None, repr=False)
    mask: Tensor | None = field(default=None, repr=False)
    applied: Any = field(default=None, repr=False)
    calls: tuple[Observation, ...] = field(default=(), repr=False)
    examples: Examples | None = field(default=None, repr=False)
    alone: bool = True

    @property
    def acting(self) -> Any:
        """The old name of ``applied``."""
        warn_renamed("Observation.acting", "Observation.applied")
        return self.applied

    @property
    def replaces_own(self) -> bool:
        """Tell whether a mask replaces one that the network draws, but its flips are not counted from that one."""
        return self.site.kind != "dropout" and self.site.drop_rate > 0

    @property
    def has_own_order(self) -> bool:
        """Tell whether rows of masks are in an order of packing that may not be that of the batch."""
        return self.batch_sizes is not None and self.order is None

    def row_examples(self, rows: int) -> Tensor:
        """Tell which example each row of a mask of this site acts on; -1 where the batch shares the mask.

        Args:
            rows: the number of rows, which is that of the examples or, with a mask for each time step, a multiple.

        Returns:
            Indices ``(rows,)``; see `has_own_order`.
        """
        weights = self.site.kind == "dropout" and self.site.examples is None
        if self.site.rows is not None or self.site.kind == "embedding" or weights or not self.alone:
            return torch.full((rows,), -1, device=self.like.device)
        examples = self.shape[0] if self.site.examples is None else self.site.examples.size
        return torch.arange(rows, device=self.like.device) % examples

    def ones(self, *, per_step: bool = False) -> Tensor:
        """Return a mask that keeps everything.

        Args:
            per_step: whether to return one for each time step, ``(T, ...)``, where the site allows that.
        """
        steps = () if not per_step or self.steps is None else (self.steps,)
        return self.like.new_ones((*steps, *self.shape))

    def sample(self, rate: float, generator: torch.Generator | None = None, *, per_step: bool = False) -> Tensor:
        """Draw a mask in which each unit is dropped with probability ``rate``, not rescaled.

        Args:
            rate: the probability of a zero, in [0, 1].
            generator: a CPU generator.
            per_step: whether to draw one for each time step, where the site allows that.

        Raises:
            ValueError: if ``rate`` is not in [0, 1].
        """
        shape = self.ones(per_step=per_step).shape
        return sample_bernoulli(shape, rate, generator=generator, device=self.like.device, dtype=self.like.dtype)

    def reference(self, generator: torch.Generator | None = None, *, per_step: bool = False) -> Tensor:
        """Return the mask from which flips are counted: the pass's own, else one as the network draws, else ones.

        A mask is drawn at sites of the kind ``dropout`` only.

        Args:
            generator: a CPU generator.
            per_step: whether to return ones for each time step, where the site allows that.
        """
        if self.mask is not None:
            return self.mask
        if self.site.drop_rate and not self.replaces_own:
            return self.sample(self.site.drop_rate, generator)
        return self.ones(per_step=per_step)
