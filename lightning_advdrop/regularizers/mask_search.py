"""Choose flips of masks by gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_advdrop.functional import Flips, adversarial_flips
from lightning_advdrop.masking import MaskSite, Observation
from lightning_advdrop.regularizers.base_scores import (
    BinaryMasks,
    Scale,
    fisher_scores,
    is_supervised,
    leaning_gradients,
    loss_gradients,
    may_be_unlabelled,
)
from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.examples import Known
from lightning_advdrop.regularizers.flips import Rows, flips_by_scores, together
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.predicted_examples import PredictedExamples

Search = Literal["gradient", "fisher", "top", "label"]


def rescaled(
    masks: BinaryMasks, observed: Mapping[MaskSite, Observation], scale: Scale = MaskSite.rescale
) -> BinaryMasks:
    """Rescale binary masks as they are multiplied, see `lightning_advdrop.masking.MaskSite.rescale`."""
    return {site: scale(observed[site].site, mask) for site, mask in masks.items()}


def rows_of(
    passes: Passes, masks: BinaryMasks, budgets: Mapping[MaskSite, int], *, as_predicted: bool = False
) -> list[Rows]:
    """Return the masks as rows, with the example that each row acts on.

    Args:
        passes: the base pass.
        masks: the binary masks.
        budgets: the most flips of a row at each site.
        as_predicted: whether examples must have the order of the predictions.
    """
    # Packed sequences that a model sorted itself have an order of their own, each call perhaps another one.
    orders = {id(seen.batch_sizes) if seen.has_own_order else None for seen in map(passes.observed.__getitem__, masks)}
    unclear = len(orders) > 1 or (as_predicted and orders != {None})
    found = []
    for site, mask in masks.items():
        rows = site.as_rows(mask)
        example = passes.observed[site].row_examples(len(rows))
        found.append(Rows(rows, torch.full_like(example, -1) if unclear else example, budgets[site]))
    return together(found)


def as_masks(masks: BinaryMasks, rows: Sequence[Tensor]) -> BinaryMasks:
    """Give rows the shapes of masks."""
    return {site: site.from_rows(found, mask.shape) for (site, mask), found in zip(masks.items(), rows, strict=True)}


def rounds(totals: Mapping[MaskSite, int], steps: int) -> Iterator[dict[MaskSite, int]]:
    """Yield the flips of a row that each round may make at each site, without rounds in which no site may flip.

    Args:
        totals: the flips of a row in all rounds.
        steps: the number of rounds.
    """
    for number in range(steps):
        last = number == steps - 1
        shares = {
            site: total - (steps - 1) * (total // steps) if last else total // steps for site, total in totals.items()
        }
        if any(shares.values()):
            yield shares


@dataclass(frozen=True)
class BaseSearch:
    """A search by gradients of the base pass, which ran under the reference masks, without a probe.

    Attributes:
        search: ``fisher``, ``top`` or ``label``, see `AdversarialDropout`; ``label`` searches as ``top`` where neither
            the loss nor the labels are known.
        divergence: tells the distribution that the prediction describes, see `fisher_scores`.
        draws: the labels that the Fisher search draws for each example.
        flips: ``both`` or ``drop``.
        scale: how masks are scaled.
        known: see `PredictedExamples`.
    """

    search: Search
    divergence: DivergenceChoice
    draws: int
    flips: Flips
    scale: Scale
    known: Known = field(default_factory=dict, compare=False, repr=False)

    def look(self, passes: Passes, masks: BinaryMasks) -> Sequence[Tensor]:
        """Compute what needs the graph of the base pass, but for gradients of the loss.

        Args:
            passes: the base pass.
            masks: the binary masks under which it ran.

        Returns:
            What the gradient of the loss is needed at.

        Raises:
            ValueError: if the base pass did not run under the masks.
        """
        if not self._by_loss(passes):
            self._scores(passes, masks)
            return ()
        self._leaning(passes, masks)
        return passes.applied(masks)  # type: ignore[return-value]

    def masks(self, passes: Passes, masks: BinaryMasks, budgets: Mapping[MaskSite, int]) -> BinaryMasks:
        """Flip units by gradients of the base pass.

        Args:
            passes: the base pass.
            masks: the binary masks under which it ran.
            budgets: the most flips of a row at each site.

        Raises:
            ValueError: as told by `look`.
        """
        rows = rows_of(passes, masks, budgets)
        both = self.search == "fisher" or passes.compared(self.divergence).divergence == "mse"
        by_loss = self._by_loss(passes)
        signs = (-1, 1) if both and not by_loss else (-1,)
        scores = self._label_scores(passes, masks) if by_loss else self._scores(passes, masks)
        # The sites of the masks know where a row's example is; those of the scores may not.
        as_rows = [torch.stack([site.as_rows(of_draw) for of_draw in scores[site]]) for site in masks]
        return as_masks(masks, flips_by_scores(rows, as_rows, self.flips, signs))

    def _by_loss(self, passes: Passes) -> bool:
        return self.search == "label" and is_supervised(passes)

    def _scores(self, passes: Passes, masks: BinaryMasks) -> BinaryMasks:
        if self.search == "fisher":
            return passes.once(
                self, "scores", lambda: fisher_scores(passes, masks, self.divergence, self.draws, self.scale)
            )
        return passes.once(
            self, "scores", lambda: _alone(leaning_gradients(passes, masks, self.divergence, self.scale))
        )

    def _leaning(self, passes: Passes, masks: BinaryMasks) -> BinaryMasks | None:
        def compute() -> BinaryMasks | None:
            if not self._may_be_unlabelled(passes, masks):
                return None
            return leaning_gradients(passes, masks, self.divergence, self.scale)

        return passes.once(self, "leaning", compute)

    def _may_be_unlabelled(self, passes: Passes, masks: BinaryMasks) -> bool:
        examples = PredictedExamples(self.divergence, self.known)
        found = may_be_unlabelled(passes, self.divergence, examples.possible(passes, masks) or [0])
        if len(set(found.values())) == 1:
            return any(found.values())
        applied: list[Any] = passes.applied(masks)
        return found[examples.tested(passes, dict(zip(masks, applied, strict=True)), passes.base)]

    def _label_scores(self, passes: Passes, masks: BinaryMasks) -> BinaryMasks:
        """Return minus the gradient of the loss; that of `leaning` for examples that the loss leaves out."""
        leant = self._leaning(passes, masks)  # before the loss's gradient, which may free the graph
        gradients = {
            site: -of_loss for site, of_loss in loss_gradients(passes, masks, self.divergence, self.scale).items()
        }
        if leant is None:
            return _alone(gradients)
        return _alone({site: _where_used(site, gradients[site], leant[site]) for site in masks})


def _where_used(site: MaskSite, of_loss: Tensor, leant: Tensor) -> Tensor:
    """Take the rows that the loss depends on from its gradient. The other ones are of examples that it leaves out."""
    rows = site.as_rows(of_loss)
    return site.from_rows(torch.where(rows.any(-1, keepdim=True), rows, site.as_rows(leant)), of_loss.shape)


def _alone(gradients: BinaryMasks) -> BinaryMasks:
    """Add the dimension of draws."""
    return {site: gradient.unsqueeze(0) for site, gradient in gradients.items()}


def flipped(masks: BinaryMasks, gradients: BinaryMasks, budgets: Mapping[MaskSite, int], flips: Flips) -> BinaryMasks:
    """Flip units of masks by gradients, see `lightning_advdrop.functional.adversarial_flips`.

    Args:
        masks: the binary masks.
        gradients: an objective's gradients with respect to them.
        budgets: the most flips of a row at each site; a mask without any is left as it is.
        flips: ``both`` or ``drop``.
    """
    return {
        site: site.from_rows(
            adversarial_flips(site.as_rows(mask), site.as_rows(gradients[site]), budgets[site], flips), mask.shape
        )
        if budgets[site]
        else mask
        for site, mask in masks.items()
    }


def by_rounds(
    masks: BinaryMasks,
    point: BinaryMasks,
    totals: Mapping[MaskSite, int],
    steps: int,
    flips: Flips,
    gradients: Callable[[BinaryMasks, bool], BinaryMasks],
) -> BinaryMasks:
    """Flip units in rounds, each by the gradients at the masks that the one before has found.

    Args:
        masks: the binary masks before the first round.
        point: where the first gradients are taken.
        totals: the flips of a row in all rounds, at each site.
        steps: the number of rounds.
        flips: ``both`` or ``drop``.
        gradients: computes the gradients at some masks; told whether it is the first round.
    """
    for number, budgets in enumerate(rounds(totals, steps)):
        masks = flipped(masks, gradients(point, number == 0), budgets, flips)
        point = point | {site: masks[site] for site, budget in budgets.items() if budget}
    return masks
