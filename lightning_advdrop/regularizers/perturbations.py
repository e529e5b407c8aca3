"""Perturbations of a network's input: random, adversarial, and virtually adversarial."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from lightning_advdrop.functional import Direction
from lightning_advdrop.masking import MaskSite, Observation, Perturbation
from lightning_advdrop.regularizers.base import Regularizer
from lightning_advdrop.regularizers.comparison import OF_LABELS, DivergenceChoice
from lightning_advdrop.regularizers.examples import known_prediction_dim, tell_examples
from lightning_advdrop.regularizers.fields import (
    above_zero,
    at_least_one,
    at_least_zero,
    checked,
    compares_two,
    documented,
    fixed,
    one_of,
    optionally,
)
from lightning_advdrop.regularizers.norms import example_rows, norm_one
from lightning_advdrop.regularizers.nothing_masked import check_gradients
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.penalty import Penalty
from lightning_advdrop.regularizers.predicted_examples import PredictedExamples

LossToLabels = Literal["auto", "ce", "bernoulli_ce", "mse"]

_Values = dict[MaskSite, Tensor]


@dataclass(eq=False)
class PerturbationRegularizer(Regularizer):
    """Add a small perturbation to an embedding's output or a recurrent layer's input.

    Its L2 norm is ``epsilon`` over all steps and features of an example, at each site, and over all calls of its layer
    in one forward. Padding stays as it is: the embedding's ``padding_idx``, steps whose weight is 0,
    and those that ``real_steps`` leaves out.

    Of embeddings that the network adds to each other, such as those of words, positions and types, the largest or first
    one is perturbed, and none that is the same for all examples.

    Args:
        epsilon: the perturbation's L2 norm for each example, above 0.
        batch_dim: the dimension of an embedding's output that holds the examples. None finds it: by packed sequences,
            by the prediction's first dimension and by the network's layers; it asks where that leaves more than one.
            For recurrent layers it is known.
        share_masks: whether the network's dropout is the same in all passes.

    Raises:
        ValueError: if ``epsilon`` is not above 0.
    """

    epsilon: float = checked(5.0, above_zero)

    # Every subclass ends with these two as fields: as fields of this class they would come before its own.
    batch_dim = cast("int | None", None)
    share_masks = True

    def calls(self, passes: Passes) -> dict[MaskSite, Observation]:
        """Return the calls of embeddings and recurrent layers whose output or input is perturbed, by their sites.

        Raises:
            ValueError: if none took part in the base pass, or the examples of one can't be told apart.
        """
        tell_examples(passes, passes.observed, self.batch_dim, self.known_examples)
        calls = [call for seen in passes.observed.values() for call in (seen, *seen.calls)]
        found = {call.site: call for call in calls if call.alone}
        if not found:
            names = ", ".join(call.site.name for call in calls)
            raise ValueError(f"sites must have an embedding of its own for each example, got {names}.")
        return found

    def noise(self, passes: Passes) -> _Values:
        """Draw Gaussian noise for each call, of norm 1 for each example."""
        drawn = {
            site: torch.randn(seen.activation, generator=passes.generator).to(seen.like)
            for site, seen in self.calls(passes).items()
        }
        return self.normalized(passes, drawn)

    def normalized(self, passes: Passes, values: _Values) -> _Values:
        """Set values at padding to zero and scale the rest to norm 1 for each example; zeros stay zeros."""
        calls = self.calls(passes)
        result: _Values = {}
        of_layers: dict[tuple[object, str], list[MaskSite]] = {}
        for site in values:
            of_layers.setdefault(site.key, []).append(site)
        for sites in of_layers.values():
            given = [self._real_values(passes, calls[site], values[site]) for site in sites]
            scaled = norm_one([example_rows(calls[site]) for site in sites], given)
            result |= dict(zip(sites, scaled, strict=True))
        return {site: result[site] for site in values}

    def _real_values(self, passes: Passes, seen: Observation, value: Tensor) -> Tensor:
        value = value.detach()
        weight = passes.sample_weight
        # Weights are laid out as the prediction, whose steps may come first.
        of_prediction = 0 if weight is None or weight.dim() != 2 else self._examples_dim(passes, seen)
        for real in (seen.real, _real(weight, seen, of_prediction), _real(passes.real_steps, seen, 0)):
            if real is not None:
                value = value.masked_fill(~real, 0.0)
        return value

    def _examples_dim(self, passes: Passes, seen: Observation) -> int:
        """Tell which of the prediction's first two dimensions holds the examples, also if both are as long."""
        shape = tuple(passes.base.shape)
        told, known = passes.recorded.evidence.dim(shape), known_prediction_dim(seen, self.known_examples)
        if told is not None or len(shape) < 3 or shape[0] != shape[1]:
            return told or 0
        if known is not None:
            return known
        predicted = PredictedExamples(self.divergence or "auto", self.known_examples)
        return predicted.among(passes, [seen.site], shape[0]) or 0


def _real(weight: Tensor | None, seen: Observation, batch_dim: int) -> Tensor | None:
    """Turn weights of examples and steps into a mask of real steps, if the activation has these.

    Args:
        weight: weights whose dimension ``batch_dim`` is likely to be that of the examples.
        seen: the call of the layer.
        batch_dim: 0 or 1.
    """
    if weight is None or weight.dim() != 2 or seen.batch_sizes is not None:
        return None
    layouts = [weight, weight.T] if seen.batch_dim == batch_dim else [weight.T, weight]
    fitting = (each for each in layouts if each.shape == seen.activation[:-1])
    return next(((each != 0).unsqueeze(-1) for each in fitting), None)


def _perturbations(values: _Values, scale: float) -> dict[MaskSite, Any]:
    return {site: Perturbation(scale * value) for site, value in values.items()}


def _compares_two(name: str, value: str) -> None:
    compares_two(name, value, remedy="; use AdversarialTraining")


@documented
@dataclass(eq=False)
class VirtualAdversarialTraining(PerturbationRegularizer):
    """Penalise how the worst perturbation of a small norm changes the prediction.

    Power iteration finds the worst direction: the gradient of the divergence, a finite difference away from the base
    pass.

    Source: Miyato, Dai & Goodfellow, ICLR 2017 (arXiv 1605.07725), equations 5 and 6; Miyato et al. (arXiv 1704.03976)
    for the power iteration.

    Args:
        finite_difference: how far from the base pass the gradient is taken, above 0.
        power_iterations: the number of iterations, at least 1; each costs one more pass.
        divergence: ``auto`` to choose by the model's loss or the labels (see `decide`), ``kl``, ``mse_logits``,
            ``mse_probs``, ``mse`` (regression) or ``bernoulli_kl`` (several labels).
        direction: ``base_adv`` for ``D(base, perturbed)``, or ``adv_base`` for ``D(perturbed, base)``.
        detach_base: whether to stop the penalty's gradient at the base prediction.

    Example:
        >>> VirtualAdversarialTraining(epsilon=5.0, finite_difference=0.1).power_iterations
        1
    """

    finite_difference: float = checked(0.1, above_zero)
    power_iterations: int = checked(1, at_least_one)
    divergence: DivergenceChoice = checked("auto", _compares_two)
    direction: Direction = checked("base_adv", one_of(Direction))
    detach_base: bool = True
    batch_dim: int | None = checked(None, optionally(at_least_zero))
    share_masks: bool = True

    log_prefix = "virtual_adversarial"

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the divergence under the perturbation.

        Raises:
            ValueError: if no site took part in the base pass, or nothing can be added at one.
        """
        other = passes.run(_perturbations(self.direction_of(passes), self.epsilon))
        return Penalty(passes.distance(other, self.divergence, self.direction, detach_base=self.detach_base))

    def direction_of(self, passes: Passes) -> _Values:
        """Find the perturbation's direction, of norm 1 for each example."""
        directions = self.noise(passes)
        if self.power_iterations:
            check_gradients(passes.recorded, passes.base, directions)
        for _ in range(self.power_iterations):
            leaves = {site: (self.finite_difference * value).requires_grad_() for site, value in directions.items()}
            other = passes.run({site: Perturbation(value) for site, value in leaves.items()})
            value = passes.distance(other, self.divergence, self.direction, detach_base=True)
            gradients = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
            directions = self.normalized(passes, dict(zip(leaves, gradients, strict=True)))
        return directions


@documented
@dataclass(eq=False)
class RandomPerturbation(VirtualAdversarialTraining):
    """Penalise how a random perturbation changes the prediction: virtual adversarial training without an iteration.

    With ``divergence="ce"`` it is a supervised loss instead, adversarial training without the search: so it is in the
    published code of text classification.

    Source: Miyato, Dai & Goodfellow, "Adversarial Training Methods for Semi-Supervised Text Classification", ICLR 2017
    (arXiv 1605.07725), section 4, where it is the control.

    Args:
        divergence: as of `VirtualAdversarialTraining`, or ``ce`` or ``bernoulli_ce``, the loss of the perturbed
            prediction to the labels.

    Example:
        >>> RandomPerturbation(epsilon=5.0).epsilon
        5.0
    """

    finite_difference: float = fixed(0.0)
    power_iterations: int = fixed(0)
    divergence: DivergenceChoice = checked("auto", one_of(DivergenceChoice))

    log_prefix = "random_perturbation"

    @property
    def needs_target(self) -> bool:  # type: ignore[override]
        """True for the divergences ``ce`` and ``bernoulli_ce``."""
        return self.divergence in OF_LABELS


@documented
@dataclass(eq=False)
class AdversarialTraining(PerturbationRegularizer):
    """Add the loss under the perturbation that raises the loss itself most.

    The gradient comes from the base pass, so that there is only one further pass.

    Source: Goodfellow, Shlens & Szegedy (2015, arXiv 1412.6572); Miyato, Dai & Goodfellow, ICLR 2017
    (arXiv 1605.07725), equations 2 to 4, on embeddings.

    Args:
        loss: the loss to the labels: ``auto`` to choose by the model's loss or the labels (see `decide`), ``ce``
            for classes, ``bernoulli_ce`` for several labels, ``mse`` for numbers.

    Example:
        >>> AdversarialTraining(epsilon=5.0).needs_target
        True
    """

    batch_dim: int | None = checked(None, optionally(at_least_zero))
    share_masks: bool = True
    loss: LossToLabels = checked("auto", one_of(LossToLabels))

    log_prefix = "adversarial_training"
    needs_target = True
    to_labels = True

    @property
    def divergence(self) -> DivergenceChoice:  # type: ignore[override]
        """The loss, by which the prediction is compared with the labels."""
        return self.loss

    def first_mask(self, seen: Observation, generator: torch.Generator) -> Perturbation:  # noqa: ARG002
        """Add zeros, which change nothing and have a gradient."""
        return Perturbation(
            torch.zeros(seen.activation, dtype=seen.like.dtype, device=seen.like.device, requires_grad=True)
        )

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the loss to the labels under the perturbation.

        Raises:
            ValueError: if no site took part in the base pass, nothing can be added at one, or there are no labels.
        """
        if passes.target is None:
            raise ValueError("target must be given for adversarial training, got None.")
        directions = self.normalized(passes, passes.once(self, "gradients", lambda: self._gradients(passes)))
        other = passes.run(_perturbations(directions, self.epsilon))
        return Penalty(passes.loss_to_target(other, passes.compared(self.divergence, to_labels=True)))

    def look_at_base(self, passes: Passes) -> Sequence[Tensor]:
        """Compute the gradient of the loss to the labels."""
        if passes.target is not None:
            passes.once(self, "gradients", lambda: self._gradients(passes))
        return ()

    def _gradients(self, passes: Passes) -> _Values:
        loss = passes.loss_to_target(passes.base, passes.compared(self.divergence, to_labels=True))
        passes.applied(passes.observed)
        zeros = {site: call.applied.value for site, call in self.calls(passes).items()}
        gradients = torch.autograd.grad(loss, list(zeros.values()), retain_graph=True, materialize_grads=True)
        return dict(zip(zeros, gradients, strict=True))

    @property
    def keeps_base_graph(self) -> bool:
        """False: the loss under the perturbation stands by itself."""
        return False
