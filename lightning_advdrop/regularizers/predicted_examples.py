"""Tell which dimension of the prediction holds the examples to which the rows of masks belong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_advdrop.masking import MaskSite, Observation
from lightning_advdrop.masking.examples import Candidate, Examples, candidates, fits
from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.examples import Known
from lightning_advdrop.regularizers.passes import Passes


@dataclass(frozen=True)
class PredictedExamples:
    """Find the dimension of the prediction that holds the examples: by shapes, by layers, or else by gradients.

    Attributes:
        divergence: tells which dimension holds the classes.
        known: what was found in earlier passes, which is completed.
    """

    divergence: DivergenceChoice
    known: Known = field(default_factory=dict)

    def possible(self, passes: Passes, sites: Iterable[MaskSite]) -> list[int]:
        """Return the dimensions that may hold the examples of masks, the more usual one first.

        The first dimension alone, or one that a layer tells, is certain. The second one may be as long by chance.

        Args:
            passes: the base pass.
            sites: where the masks act.
        """
        dims: set[int] = set()
        for site in sites:
            seen = passes.observed[site]
            if _key(passes, seen) in self.known:
                return list(self.known[_key(passes, seen)])
            dims |= {each.prediction.dim for each in self._ways(passes, seen)}
        told = passes.recorded.evidence.dim(tuple(passes.base.shape))
        return sorted(dims if told is not None or not dims else dims | {0})

    def tested(self, passes: Passes, values: Mapping[MaskSite, Tensor], prediction: Tensor) -> int:
        """Return the dimension whose entries depend on one row of a mask each; the first where none's do.

        Args:
            passes: the base pass.
            values: what is multiplied at the sites, leaves.
            prediction: a prediction with a graph to them.
        """
        for site, value in values.items():
            seen = passes.observed[site]
            ways = self._ways(passes, seen)
            if ways:
                own = (_of_steps(each, value) for each in ways)
                dim = next((each.prediction.dim for each in own if fits(each, prediction, value)), 0)
                self.known[_key(passes, seen)] = (dim,)
                return dim
        return 0

    def among(self, passes: Passes, sites: Iterable[MaskSite], examples: int) -> int | None:
        """Return the dimension that holds a number of examples, by one more pass where shapes don't tell.

        Args:
            passes: the base pass.
            sites: where the masks act.
            examples: their number.

        Returns:
            The dimension; None if none holds them, or there is one example only.
        """
        if examples == 1 or examples not in passes.base.shape[:2]:
            return None
        found = self.possible(passes, sites)
        if len(found) > 1:
            values = {site: passes.observed[site].ones().requires_grad_() for site in sites}
            with torch.enable_grad():
                found = [self.tested(passes, values, passes.run(values))]
        return found[0] if found and passes.base.shape[found[0]] == examples else None

    def _ways(self, passes: Passes, seen: Observation) -> list[Candidate]:
        shape, evidence, dims = tuple(passes.base.shape), passes.recorded.evidence, self._dims(passes)
        if seen.site.kind == "dropout" and seen.batch_dim is None:
            found = candidates(seen.shape, shape, evidence)
            return [each for each in found if each.prediction.view == shape and each.prediction.dim in dims]
        if int(seen.row_examples(1)) < 0 or seen.has_own_order:
            return []
        told, held = evidence.dim(shape), seen.site.examples or Examples(seen.shape, 0)
        fitting = [dim for dim in dims if shape[dim] == held.size and told in {None, dim}]
        return [Candidate(held, Examples(shape, dim)) for dim in fitting]

    def _dims(self, passes: Passes) -> list[int]:
        """Return those of the first two dimensions that don't hold classes."""
        comparison, dims = passes.compared(self.divergence), passes.base.dim()
        classes = None if dims == 1 or comparison.divergence == "mse" else comparison.class_dim % dims
        return [dim for dim in range(dims)[:2] if dim != classes]


def _key(passes: Passes, seen: Observation) -> tuple[str, int, int]:
    return f"the prediction by {seen.site.name}", id(seen.site.anchor), passes.base.dim()


def _of_steps(way: Candidate, value: Tensor) -> Candidate:
    """Return the same for a mask that has a leading dimension of time steps."""
    view, dim = way.activation
    return way._replace(activation=Examples((len(value), *view), dim + 1)) if value.dim() > len(view) else way
