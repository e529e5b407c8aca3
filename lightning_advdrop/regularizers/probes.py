"""Passes under masks that a search makes: for gradients at other masks than the base pass's, and to compare masks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from lightning_advdrop.functional import Direction
from lightning_advdrop.regularizers.base_scores import BinaryMasks, Scale
from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.examples import Known
from lightning_advdrop.regularizers.flips import Rows, choose
from lightning_advdrop.regularizers.mask_search import as_masks, rescaled, rows_of
from lightning_advdrop.regularizers.nothing_masked import check_gradients
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.predicted_examples import PredictedExamples

# Predictions that differ by no more are equal but for rounding.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-6
_PARTS = 16  # in which two predictions are compared


@dataclass(frozen=True)
class Probes:
    """How the passes of a search are compared with the base pass.

    Attributes:
        divergence: the divergence.
        direction: its direction.
        scale: how masks are scaled.
        known: see `PredictedExamples`.
    """

    divergence: DivergenceChoice
    direction: Direction
    scale: Scale
    known: Known = field(default_factory=dict)

    def gradients(self, passes: Passes, point: BinaryMasks) -> tuple[BinaryMasks, Tensor]:
        """Compute the divergence's gradient at some masks, and the prediction under them.

        Args:
            passes: the base pass.
            point: the binary masks.
        """
        check_gradients(passes.recorded, passes.base, point)
        binary = {site: mask.detach().requires_grad_() for site, mask in point.items()}
        prediction = passes.run(rescaled(binary, passes.observed, self.scale))
        value = passes.distance(prediction, self.divergence, self.direction, detach_base=True)
        # A site may have run without a part in this prediction; then no flip of its mask is worth anything.
        gradients = torch.autograd.grad(value, list(binary.values()), materialize_grads=True)
        return dict(zip(binary, gradients, strict=True)), prediction.detach()

    def better(self, passes: Passes, masks: BinaryMasks, present: BinaryMasks, before: Tensor) -> BinaryMasks:
        """Take new masks for the examples whose divergence they raise, and keep the present ones for the rest.

        Args:
            passes: the base pass.
            masks: the new masks, for which one pass is run.
            present: the present masks.
            before: the prediction under these.
        """
        rows = rows_of(passes, masks, dict.fromkeys(masks, 0), as_predicted=True)
        with torch.no_grad():
            after = passes.run(rescaled(masks, passes.observed, self.scale))
        first, second = (self.distances(passes, other, masks, rows) for other in (before, after))
        new, old = ([site.as_rows(mask) for site, mask in of.items()] for of in (masks, present))
        return as_masks(masks, choose(rows, second > first, new, old))

    def distances(self, passes: Passes, other: Tensor, masks: BinaryMasks, rows: Sequence[Rows]) -> Tensor:
        """Compute the divergence of each example between the base prediction and another one, without a graph.

        Args:
            passes: the base pass.
            other: a prediction under masks.
            masks: the masks.
            rows: their rows, with the example of each.

        Returns:
            ``(examples,)``; where no dimension of the prediction holds them, the divergence of the batch for each.
        """
        examples = 1 + max(int(each.example.max()) for each in rows)
        dim = PredictedExamples(self.divergence, self.known).among(passes, masks, examples)
        with torch.no_grad():
            if dim is None:
                return passes.distance(other, self.divergence, self.direction).expand(examples)
            comparison = passes.compared(self.divergence)
            held = passes.base, other, passes.target, passes.weights(comparison)
            apart = [[_narrowed(part, dim, index, examples) for part in held] for index in range(examples)]
            return torch.stack(
                [
                    comparison.distance(base, found, self.direction, target=target, sample_weight=weight)
                    for base, found, target, weight in apart
                ]
            )


def warn_if_equal(base: Tensor, other: Tensor, start: str) -> bool:
    """Warn where a search begins at the base prediction, of which each divergence is stationary.

    Args:
        base: the base prediction.
        other: the prediction of the first probe.
        start: the mask at which the search begins.

    Returns:
        Whether it was so.
    """
    # Part by part: mostly the first one differs, and all at once take four times the memory of a prediction.
    parts = zip(base.chunk(_PARTS), other.chunk(_PARTS), strict=True)
    equal = all(torch.allclose(first, second, rtol=_RELATIVE, atol=_ABSOLUTE) for first, second in parts)
    if equal:
        warnings.warn(
            f"start={start!r} found the same prediction in both passes, where the gradient is zero, so that "
            "the flips are arbitrary; use start='one_drop' in a network without other dropout.",
            stacklevel=2,
        )
    return equal


def refuse_equal(divergence: str) -> NoReturn:
    """Refuse to compare two equal predictions.

    Args:
        divergence: the divergence, which is stationary there.

    Raises:
        ValueError: in any case.
    """
    raise ValueError(
        f"start='ones' with share_masks=True and divergence={divergence!r} compares two equal predictions, where the "
        "gradient is zero, unless the network drops units itself at one of the sites; use start='one_drop', "
        "share_masks=False or divergence='ce'."
    )


def _narrowed(part: Any, dim: int, index: int, examples: int) -> Any:
    """Return one example's part, of what has a dimension of the examples."""
    has_examples = part is not None and part.dim() > dim and part.shape[dim] == examples
    return part.narrow(dim, index, 1) if has_examples else part
