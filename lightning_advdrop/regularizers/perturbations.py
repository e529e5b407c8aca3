"""Perturbations of what enters a network: random, adversarial, and virtually adversarial."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from lightning_advdrop.functional import (
    Direction,
    DivergenceName,
    check_divergence,
    cross_entropy_to_label,
    divergence,
)
from lightning_advdrop.masking import MaskSite, Observation, Perturbation
from lightning_advdrop.regularizers.base import Passes, Penalty, Regularizer

_Shifts = dict[MaskSite, Tensor]


class PerturbationRegularizer(Regularizer):
    """What the regularizers share that add something small to an embedding's output or a recurrent layer's input.

    Its L2 norm is ``epsilon`` over all steps and features of an example, at each site. Padding stays as it is: the
    embedding's ``padding_idx``, and steps whose weight is 0.

    Args:
        epsilon: the norm, above 0.
        batch_dim: the dimension of an embedding's output that holds the examples. For recurrent layers it is known.
        share_masks: whether the network's dropout is the same in all passes.

    Raises:
        ValueError: if ``epsilon`` is not above 0.
    """

    def __init__(self, epsilon: float, batch_dim: int, share_masks: bool) -> None:
        if not epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {epsilon}.")
        self.epsilon = epsilon
        self.batch_dim = batch_dim
        self.share_masks = share_masks

    def noise(self, passes: Passes) -> _Shifts:
        """Gaussian noise for each site, of norm 1 for each example."""
        drawn = {
            site: torch.randn(seen.activation, generator=passes.generator).to(seen.like)
            for site, seen in passes.observed.items()
        }
        return self.normalized(passes, drawn)

    def normalized(self, passes: Passes, values: _Shifts) -> _Shifts:
        """Values without those at padding, scaled to norm 1 for each example; zeros stay zeros."""
        return {site: self._normalized(passes, passes.observed[site], value) for site, value in values.items()}

    def _normalized(self, passes: Passes, seen: Observation, value: Tensor) -> Tensor:
        value = value.detach()
        for real in (seen.real, self._real(passes.weight, seen)):
            if real is not None:
                value = value.masked_fill(~real, 0.0)
        tiny = torch.finfo(value.dtype).tiny
        # The largest of each example first, so that squares of small gradients don't vanish.
        value = value / self._of_examples("amax", seen, value.abs()).clamp_min(tiny)
        return value / self._of_examples("sum", seen, value.square()).sqrt().clamp_min(tiny)

    def _of_examples(self, reduce: Literal["amax", "sum"], seen: Observation, value: Tensor) -> Tensor:
        """The largest of the values of each example, at least 0, or their sum; broadcasts to them."""
        if seen.batch_sizes is None:
            dims = [dim for dim in range(value.dim()) if dim != self._batch_dim(seen)]
            return value.amax(dims, keepdim=True) if reduce == "amax" else value.sum(dims, keepdim=True)
        # Packed rows: the first of each step belongs to the first example.
        example = torch.cat([torch.arange(size) for size in seen.batch_sizes]).to(value.device)
        rows = value.amax(-1) if reduce == "amax" else value.sum(-1)
        return value.new_zeros(seen.batch_sizes[0]).scatter_reduce(0, example, rows, reduce)[example].unsqueeze(-1)

    def _batch_dim(self, seen: Observation) -> int:
        return self.batch_dim if seen.site.kind == "embedding" else seen.batch_dim

    def _real(self, weight: Tensor | None, seen: Observation) -> Tensor | None:
        """Weights ``(B, T)`` as what is no padding, if the activation has these examples and steps."""
        if weight is None or weight.dim() != 2 or seen.batch_sizes is not None:
            return None
        if self._batch_dim(seen) == 1:
            weight = weight.T
        return (weight != 0).unsqueeze(-1) if weight.shape == seen.activation[:-1] else None


def _shifts(values: _Shifts, scale: float) -> dict[MaskSite, Any]:
    return {site: Perturbation(scale * value) for site, value in values.items()}


class RandomPerturbation(PerturbationRegularizer):
    """Penalises how a random perturbation changes the prediction.

    Source: Miyato, Dai & Goodfellow, "Adversarial Training Methods for Semi-Supervised Text Classification", ICLR 2017
    (arXiv 1605.07725), section 4, where it is the control.

    Args:
        epsilon: the perturbation's L2 norm for each example, above 0.
        divergence: ``kl``, ``mse_logits``, ``mse_probs``, ``mse`` or ``bernoulli_kl``.
        direction: ``base_adv`` or ``adv_base``.
        detach_base: whether no gradient flows into the base prediction.
        batch_dim: see `PerturbationRegularizer`.
        share_masks: see there.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> RandomPerturbation(epsilon=5.0).epsilon
        5.0
    """

    def __init__(
        self,
        epsilon: float = 5.0,
        divergence: DivergenceName = "kl",
        direction: Direction = "base_adv",
        detach_base: bool = True,
        batch_dim: int = 0,
        share_masks: bool = True,
    ) -> None:
        super().__init__(epsilon, batch_dim, share_masks)
        check_divergence(divergence, direction)
        if divergence == "ce":
            raise ValueError("divergence must compare two predictions, got 'ce'; use AdversarialTraining.")
        self.divergence: DivergenceName = divergence
        self.direction: Direction = direction
        self.detach_base = detach_base

    def penalty(self, passes: Passes) -> Penalty:
        """The divergence under the perturbation.

        Raises:
            ValueError: if no site took part in the base pass, or nothing can be added at one.
        """
        return self._penalty_of(passes, self.direction_of(passes))

    def direction_of(self, passes: Passes) -> _Shifts:
        """The perturbation before it is scaled: norm 1 for each example."""
        return self.noise(passes)

    def _penalty_of(self, passes: Passes, shifts: _Shifts) -> Penalty:
        base = passes.base.detach() if self.detach_base else passes.base
        return Penalty(self._distance(passes, base, passes.run(_shifts(shifts, self.epsilon))))

    def _distance(self, passes: Passes, base: Tensor, other: Tensor) -> Tensor:
        return divergence(self.divergence, self.direction, base, other, sample_weight=passes.weight)


class VirtualAdversarialTraining(RandomPerturbation):
    """Penalises how the worst perturbation of a small norm changes the prediction.

    The worst direction is found by power iteration: the gradient of the divergence, a finite difference away from the
    base pass.

    Source: Miyato, Dai & Goodfellow, ICLR 2017 (arXiv 1605.07725), equations 5 and 6; Miyato et al. (arXiv 1704.03976)
    for the power iteration.

    Args:
        epsilon: the perturbation's L2 norm for each example, above 0.
        finite_difference: how far from the base pass the gradient is taken, above 0.
        power_iterations: at least 1, each costs one more pass.
        divergence: see `RandomPerturbation`.
        direction: see there.
        detach_base: see there.
        batch_dim: see `PerturbationRegularizer`.
        share_masks: see there.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> VirtualAdversarialTraining(epsilon=5.0, finite_difference=0.1).power_iterations
        1
    """

    def __init__(
        self,
        epsilon: float = 5.0,
        finite_difference: float = 0.1,
        power_iterations: int = 1,
        divergence: DivergenceName = "kl",
        direction: Direction = "base_adv",
        detach_base: bool = True,
        batch_dim: int = 0,
        share_masks: bool = True,
    ) -> None:
        super().__init__(epsilon, divergence, direction, detach_base, batch_dim, share_masks)
        if not finite_difference > 0:
            raise ValueError(f"finite_difference must be above 0, got {finite_difference}.")
        if power_iterations < 1:
            raise ValueError(f"power_iterations must be at least 1, got {power_iterations}.")
        self.finite_difference = finite_difference
        self.power_iterations = power_iterations

    def direction_of(self, passes: Passes) -> _Shifts:
        """The worst direction, by power iteration."""
        shifts = self.noise(passes)
        for _ in range(self.power_iterations):
            leaves = {site: (self.finite_difference * value).requires_grad_() for site, value in shifts.items()}
            other = passes.run({site: Perturbation(value) for site, value in leaves.items()})
            value = self._distance(passes, passes.base.detach(), other)
            gradients = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
            shifts = self.normalized(passes, dict(zip(leaves, gradients, strict=True)))
        return shifts


class AdversarialTraining(PerturbationRegularizer):
    """Adds the loss under the perturbation that raises the loss itself most.

    The gradient comes from the base pass, so that there is only one further pass.

    Source: Goodfellow, Shlens & Szegedy (2015, arXiv 1412.6572); Miyato, Dai & Goodfellow, ICLR 2017
    (arXiv 1605.07725), equations 2 to 4, on embeddings.

    Args:
        epsilon: the perturbation's L2 norm for each example, above 0.
        batch_dim: see `PerturbationRegularizer`.
        share_masks: see there.

    Raises:
        ValueError: if ``epsilon`` is not above 0.

    Example:
        >>> AdversarialTraining(epsilon=5.0).needs_target
        True
    """

    needs_target = True

    def __init__(self, epsilon: float = 5.0, batch_dim: int = 0, share_masks: bool = True) -> None:
        super().__init__(epsilon, batch_dim, share_masks)

    def first_mask(self, seen: Observation, generator: torch.Generator) -> Perturbation:  # noqa: ARG002
        """Zeros, which change nothing and have a gradient."""
        return Perturbation(
            torch.zeros(seen.activation, dtype=seen.like.dtype, device=seen.like.device, requires_grad=True)
        )

    def penalty(self, passes: Passes) -> Penalty:
        """The cross-entropy to the labels under the perturbation.

        Raises:
            ValueError: if no site took part in the base pass, nothing can be added at one, or there are no labels.
        """
        if passes.target is None:
            raise ValueError("target must be given for adversarial training, got None.")
        loss = cross_entropy_to_label(passes.base, passes.target, passes.weight)
        value: list[Any] = passes.applied(passes.observed)
        zeros = {site: shift.value for site, shift in zip(passes.observed, value, strict=True)}
        gradients = torch.autograd.grad(loss, list(zeros.values()), retain_graph=True, materialize_grads=True)
        shifts = self.normalized(passes, dict(zip(zeros, gradients, strict=True)))
        other = passes.run(_shifts(shifts, self.epsilon))
        return Penalty(cross_entropy_to_label(other, passes.target, passes.weight))
