"""The base pass of a regularizer, with the means to run the forward again under masks, and its penalty."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_advdrop._deprecation import renamed_argument, warn_renamed
from lightning_advdrop.functional import Direction
from lightning_advdrop.masking import Masks, MaskSite, Observation, RecordedForward, SiteValue
from lightning_advdrop.regularizers.comparison import Comparison, DivergenceChoice
from lightning_advdrop.regularizers.deciding import decide
from lightning_advdrop.regularizers.losses import SeenLoss
from lightning_advdrop.regularizers.nothing_masked import check_gradients, no_site_ran
from lightning_advdrop.regularizers.predictions import Output, select_prediction

T = TypeVar("T")


class _Eager:
    """Torch runs everything uncompiled while any of its contexts is open."""

    def __init__(self) -> None:
        self._open = 0
        self._until = ExitStack()

    @contextmanager
    def held(self) -> Iterator[None]:
        if not self._open:
            self._until.enter_context(torch.compiler.set_stance("force_eager"))
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._until.close()


_EAGER = _Eager()


def uncompiled() -> AbstractContextManager[None]:
    """Run what `torch.compile` returned uncompiled: compiled code does not show its calls to a function mode.

    Contexts may end in any order, as those of several callbacks do.
    """
    return _EAGER.held()


@renamed_argument("weight", "sample_weight")
@renamed_argument("base", "result")
@dataclass(frozen=True)
class Passes:
    """A base pass with its prediction, and the means to make other passes over the same batch.

    Attributes:
        recorded: the forward pass that was run once.
        forward: runs the forward again and returns its whole result.
        result: the forward's result in the base pass, with its graph.
        target: the labels, ``(B, ...)``, for divergences that need them.
        sample_weight: weights of the examples and time steps, broadcastable to ``(B, ...)``; None weighs all alike.
        generator: draws the regularizer's own random masks, apart from the global generators.
        output: which part of ``result`` is the prediction, see `select_prediction`.
        class_dim: the dimension of the prediction that holds the classes, see `decide`.
        ignore_index: the class index of examples without a label, see `decide`.
        losses: the loss functions that the model called in this step.
        real_steps: which time steps of the input are real, ``(B, T)``, where the prediction has none; None for all.
        comparison: how predictions are compared, where that is decided; None decides it by what is known here.
        loss: the supervised loss of the base pass, a scalar with its graph; None if unknown.
        step_under: runs what computes that loss under masks, and returns the forward's result there, and the loss; None
            if unknown.
        loss_gradients: gradients of ``loss`` that are known already, by the identity of what they are the gradients of.
        kept: what was taken from the graph of the base pass, see `once`.

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> lstm, x = torch.nn.LSTM(4, 3), torch.randn(5, 2, 4)
        >>> recorded = RecordedForward(lstm, find_sites(lstm), share_noise=True)
        >>> with recorded.first_run():
        ...     base = lstm(x)[0][-1]
        >>> passes = Passes(recorded, lambda: lstm(x)[0][-1], base)
        >>> passes.run({site: site.ones(2) for site in recorded.sites}).shape
        torch.Size([2, 3])
    """

    recorded: RecordedForward
    forward: Callable[[], Any]
    result: Any
    target: Tensor | None = None
    sample_weight: Tensor | None = None
    generator: torch.Generator | None = None
    output: Output = None
    class_dim: int | None = None
    ignore_index: int | None = None
    losses: Sequence[SeenLoss] = ()
    comparison: Comparison | None = None
    loss: Tensor | None = None
    real_steps: Tensor | None = None
    step_under: Callable[[Masks], tuple[Any, Tensor]] | None = None
    loss_gradients: Mapping[int, Tensor] = field(default_factory=dict, repr=False)
    kept: dict[tuple[Any, str], Any] = field(default_factory=dict, init=False, repr=False)
    _decided: dict[DivergenceChoice, Comparison] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def base(self) -> Tensor:
        """The prediction of the base pass, ``(B, ..., classes)``, with its graph.

        Raises:
            ValueError: if ``output`` does not lead to a prediction.
        """
        return self.read(self.result)

    @property
    def weight(self) -> Tensor | None:
        """The old name of ``sample_weight``."""
        warn_renamed("Passes.weight", "Passes.sample_weight")
        return self.sample_weight

    @property
    def observed(self) -> Mapping[MaskSite, Observation]:
        """What each site met in the base pass.

        Raises:
            ValueError: if none took part in it.
        """
        if not self.recorded.observed:
            raise ValueError(no_site_ran(self.recorded))
        return self.recorded.observed

    def applied(self, sites: Collection[MaskSite]) -> list[SiteValue]:
        """Return the masks and perturbations that acted at sites in the base pass.

        Raises:
            ValueError: if nothing did at one of them, or all ran without gradients.
        """
        check_gradients(self.recorded, self.base, sites)
        found = [self.observed[site].applied for site in sites]
        missing = [site.name for site, value in zip(sites, found, strict=True) if value is None]
        if missing:
            raise ValueError(
                f"recorded: nothing acted at {', '.join(missing)} in the base pass, so that it has no gradient there; "
                "record it with the regularizer's own record()."
            )
        return found

    def acting(self, sites: Collection[MaskSite]) -> list[SiteValue]:
        """Return `applied`, under its old name."""
        warn_renamed("Passes.acting", "Passes.applied")
        return self.applied(sites)

    def check_sites(self) -> None:
        """Raise the `ValueError` of `observed`, for regularizers whose passes need no masks of their own."""
        len(self.observed)

    def run(self, masks: Masks, *, dropout: bool = True) -> Tensor:
        """Compute the prediction under masks, with a graph to masks and parameters.

        Args:
            masks: a mask or perturbation for each site.
            dropout: False to switch the network's own dropout off.
        """
        return self.read(self.recorded.run(self.forward, masks, dropout=dropout))

    def read(self, result: Any) -> Tensor:
        """Return the prediction in a result of the forward.

        Raises:
            ValueError: if ``output`` does not lead to a prediction.
        """
        return select_prediction(result, self.output)

    def once(self, method: Any, name: str, compute: Callable[[], T]) -> T:
        """Compute something of the base pass when it is asked for first, which may be before its graph is freed.

        Args:
            method: what needs it.
            name: what it is.
            compute: computes it.
        """
        if (method, name) not in self.kept:
            self.kept[method, name] = compute()
        found: T = self.kept[method, name]
        return found

    def compared(self, asked: DivergenceChoice, *, to_labels: bool = False) -> Comparison:
        """Tell how predictions are compared, see `decide`.

        Args:
            asked: the divergence, or ``auto``.
            to_labels: whether one prediction is compared with labels, instead of two predictions.

        Raises:
            ValueError: if ``auto`` can't tell.
        """
        if self.comparison is not None and self.comparison.asked == asked:
            return self.comparison
        if asked not in self._decided:
            self._decided[asked] = decide(
                asked,
                self.base,
                self.target,
                self.losses,
                class_dim=self.class_dim,
                ignore_index=self.ignore_index,
                to_labels=to_labels,
                result=self.result,
            )
        return self._decided[asked]

    def weights(self, comparison: Comparison) -> Tensor | None:
        """Return ``sample_weight``, without the time steps whose label the model's loss ignores."""
        return comparison.weights(self.base, self.target, self.sample_weight)

    def distance(
        self, other: Tensor, name: DivergenceChoice, direction: Direction, *, detach_base: bool = False
    ) -> Tensor:
        """Compute a divergence between the base prediction and another one, a scalar.

        Args:
            other: a prediction of the base prediction's shape, e.g. of `run`.
            name: the divergence, see `lightning_advdrop.functional.divergence`, or ``auto``.
            direction: ``base_adv`` for ``D(base, other)``, or ``adv_base`` for ``D(other, base)``.
            detach_base: whether to stop the gradient at the base prediction.

        Raises:
            ValueError: if the divergence needs labels and there are none, or ``auto`` can't tell.
        """
        comparison = self.compared(name)
        base = self.base.detach() if detach_base else self.base
        weights = self.weights(comparison)
        return comparison.distance(base, other, direction, target=self.target, sample_weight=weights)

    def loss_to_target(self, prediction: Tensor, comparison: Comparison) -> Tensor:
        """Compute the supervised loss of a prediction: the cross-entropy, or the mean squared error of numbers.

        Args:
            prediction: a prediction of the base prediction's shape.
            comparison: how it is read, see `compared`.

        Raises:
            ValueError: if there are no labels, or they don't go with the prediction.
        """
        if self.target is None:
            raise ValueError("target must be given for a loss to the labels, got None.")
        return comparison.loss_to(prediction, self.target, self.weights(comparison))

    def with_loss(self, loss: Tensor, gradients: Mapping[int, Tensor]) -> Passes:
        """Return the same passes after the backward pass of their loss, with what was taken from the graph before.

        Args:
            loss: takes the place of `loss`.
            gradients: takes the place of `loss_gradients`.
        """
        found = replace(self, loss=loss, loss_gradients=gradients)
        found.kept.update(self.kept)
        return found

    def base_loss(self, comparison: Comparison) -> Tensor:
        """Return the supervised loss of the base pass; where it is not known, that of `loss_to_target`."""
        return self.loss_to_target(self.base, comparison) if self.loss is None else self.loss

    def run_with_loss(
        self, masks: Masks, asked: DivergenceChoice, *, both: bool, mean: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the prediction under masks, and what the total loss gets for it, which has the base pass's already.

        That is the model's own loss where it is known how to compute it, else that of `loss_to_target`.

        Args:
            masks: a mask for each site.
            asked: the divergence, which tells how the prediction is read.
            both: False to compute the prediction alone.
            mean: whether the total becomes the mean of both passes' losses, or else their sum.

        Raises:
            ValueError: if neither the model's loss nor the labels are known.
        """
        if not both:
            return self.run(masks), None
        if self.step_under is None and self.target is None:
            raise ValueError(
                "target must be given for both_losses=True, got None; give the labels, or set both_losses=False."
            )
        comparison = self.compared(asked)
        if self.step_under is None:
            prediction = self.run(masks)
            loss = self.loss_to_target(prediction, comparison)
        else:
            result, loss = self.step_under(masks)
            prediction = self.read(result)
        return prediction, (loss - self.base_loss(comparison)) / 2 if mean else loss
