"""The base class of regularizers, and how one is called in any training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn

from lightning_advdrop._fabric import fabric_backward
from lightning_advdrop.masking import MaskSite, Observation, RecordedForward, SiteSpecs, SiteValue, find_sites
from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.examples import Known
from lightning_advdrop.regularizers.fields import at_least_zero, check_fields
from lightning_advdrop.regularizers.finite import not_finite, telling_what_is_not_finite
from lightning_advdrop.regularizers.passes import Passes, uncompiled
from lightning_advdrop.regularizers.penalty import Penalty
from lightning_advdrop.regularizers.predictions import Output

T = TypeVar("T")


class Regularizer(ABC):
    """Decide which masks two passes use, and compare their predictions.

    A subclass is a dataclass whose fields are its arguments, and implements `penalty`.

    Attributes:
        share_masks: whether its passes draw the same noise elsewhere in the network as the base pass.
        needs_target: whether it needs the labels.
        detach_base: whether the penalty has no gradient to the base prediction.
        both_losses: whether the loss of a further pass is added, too.
        halves_loss: whether it is the mean with that of the base pass then, not the sum.
        divergence: how predictions are compared; None where a method has a comparison of its own.
        compares: whether it compares predictions at all.
        to_labels: whether it compares one prediction with the labels, instead of two predictions.
        log_prefix: before the slash in the names of the metrics that a callback logs.

    Example:
        >>> from lightning_advdrop.regularizers import AdversarialDropout
        >>> _ = torch.manual_seed(0)
        >>> lstm, x, y = nn.LSTM(4, 8), torch.randn(5, 2, 4), torch.randn(2, 8)
        >>> base, penalty = AdversarialDropout(rate=0.25)(lambda: lstm(x)[0][-1], lstm, sites="recurrent", target=y)
        >>> loss = (base - y).square().mean() + penalty
        >>> loss.backward()
    """

    share_masks: bool = False
    needs_target: bool = False
    detach_base: bool = False
    both_losses: bool = False
    divergence: DivergenceChoice | None = None
    halves_loss: ClassVar[bool] = False
    compares: ClassVar[bool] = True
    to_labels: ClassVar[bool] = False
    log_prefix: ClassVar[str] = "advdrop"

    def __post_init__(self) -> None:
        """Check the fields of a regularizer that is a dataclass."""
        check_fields(self)

    @property
    def known_examples(self) -> Known:
        """What passes have told of where activations hold the examples, see `tell_examples`."""
        known: Known = vars(self).setdefault("_known_examples", {})
        return known

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(
        self,
        forward: Callable[[], T],
        module: nn.Module,
        sites: SiteSpecs | Sequence[MaskSite] = "recurrent",
        *,
        target: Tensor | None = None,
        sample_weight: Tensor | None = None,
        output: Output = None,
        weight: float = 1.0,
        generator: torch.Generator | None = None,
        class_dim: int | None = None,
        ignore_index: int | None = None,
        real_steps: Tensor | None = None,
    ) -> tuple[T, Tensor]:
        """Run a forward, and compute what to add to its loss.

        For metrics and masks beside the penalty, call `first_pass`, then `evaluate`, which is all that happens here.
        With a weight of 0 the forward just runs, once.

        Args:
            forward: computes the prediction. It runs again under masks, so it should do nothing else; what it writes to
                the module's buffers and attributes in other runs is undone.
            module: the module that ``forward`` calls.
            sites: where masks may act: what `lightning_advdrop.masking.find_sites` takes, or the sites that it found.
            target: the labels, ``(B, ...)``, for regularizers that need them, and for ``divergence="auto"``, which
                tells by them what the prediction describes.
            sample_weight: weights of the examples and time steps, broadcastable to ``(B, ...)``; 0 for padding.
            output: which part of the forward's result is the prediction ``(B, ..., classes)``: an index, a key or a
                callable. None takes a tensor itself, the part named ``logits`` or ``prediction``, or the first of a
                tuple.
            weight: what the penalty is multiplied by, at least 0.
            generator: a generator of the CPU for the random masks. None seeds one from torch's global generator, whose
                next number it takes: the base pass has other noise than a plain forward after the same seed.
            class_dim: the dimension of the prediction that holds the classes; None finds it by the labels, else takes
                the last.
            ignore_index: the class index of what has no label, -100 by default.
            real_steps: which time steps of the input are real, ``(B, T)``, where the prediction has no time steps, for
                regularizers that perturb the input; None for all.

        Returns:
            The result of ``forward`` in the base pass, and a scalar with a graph: the weighted penalty, plus a second
            supervised loss of some methods.

        Raises:
            ValueError: if ``weight`` is negative, there are no such sites, the prediction has no gradient, or
                ``divergence="auto"`` can't tell what it describes.
            FloatingPointError: if the prediction is NaN or infinite where that can't be compared.
        """
        at_least_zero("weight", weight)
        found = _found(module, sites)
        if weight == 0 or not self.active(found):
            result = forward()
            return result, torch.zeros((), device=next(module.parameters()).device)
        passes = self.first_pass(
            forward,
            module,
            found,
            target=target,
            sample_weight=sample_weight,
            output=output,
            generator=generator,
            class_dim=class_dim,
            ignore_index=ignore_index,
            real_steps=real_steps,
        )
        return cast("T", passes.result), self.evaluate(passes).weighted(weight)

    def first_pass(
        self,
        forward: Callable[[], Any],
        module: nn.Module,
        sites: SiteSpecs | Sequence[MaskSite] = "recurrent",
        *,
        target: Tensor | None = None,
        sample_weight: Tensor | None = None,
        output: Output = None,
        generator: torch.Generator | None = None,
        class_dim: int | None = None,
        ignore_index: int | None = None,
        real_steps: Tensor | None = None,
    ) -> Passes:
        """Run a forward as the base pass, and keep what other passes need.

        Its arguments are those of a call of the regularizer.
        """
        if generator is None:  # one of its own: in other passes the global one repeats the network's noise
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        recorded = self.record(module, _found(module, sites), generator)
        with uncompiled(), recorded.first_run(forward):
            result = forward()
        settings: dict[str, Any] = {"output": output, "class_dim": class_dim, "ignore_index": ignore_index}
        return Passes(recorded, forward, result, target, sample_weight, generator, **settings, real_steps=real_steps)

    def prepare(self, passes: Passes) -> Sequence[Tensor]:
        """Take from the base pass's graph what the penalty needs, and draw the noise of all other passes.

        Args:
            passes: the base pass, with a generator.

        Returns:
            What the gradient of the model's loss is wanted at; `Passes.loss_gradients` may hold it from then on.

        Raises:
            ValueError: if the prediction has no gradient, or as told by `look_at_base`.
            FloatingPointError: if it is NaN or infinite where that can't be compared.
        """
        return passes.once(self, "wanted", lambda: self._prepare(passes))

    def _prepare(self, passes: Passes) -> Sequence[Tensor]:
        if not passes.base.requires_grad:
            raise ValueError(
                "module: the prediction that is compared must have a gradient, got one without; it is computed under "
                "torch.no_grad(), detached, or all its parameters are frozen."
            )
        passes.recorded.draw_noise(int(torch.randint(2**31, (), generator=passes.generator)))
        with telling_what_is_not_finite(passes.base), fabric_backward():
            return self.look_at_base(passes)

    def evaluate(self, passes: Passes) -> Penalty:
        """Make the other passes, under noise that the generator draws once for all of them, and compare.

        Args:
            passes: the base pass, with a generator.

        Raises:
            ValueError: if the prediction has no gradient, or as told by `penalty`.
            FloatingPointError: if it is NaN or infinite where that can't be compared.

        Example:
            >>> from lightning_advdrop.regularizers import AdversarialDropout
            >>> _ = torch.manual_seed(0)
            >>> lstm, x, method = nn.LSTM(4, 8), torch.randn(5, 2, 4), AdversarialDropout(rate=0.25)
            >>> y = torch.randn(2, 8)
            >>> passes = method.first_pass(lambda: lstm(x), lstm, output=lambda result: result[0][-1], target=y)
            >>> found = method.evaluate(passes)
            >>> found.metrics["flip_rate"].item(), list(found.masks)[0].name
            (0.25, 'l0:recurrent')
            >>> loss = passes.base.square().mean() + found.weighted(0.5)
        """
        self.prepare(passes)
        try:
            with telling_what_is_not_finite(passes.base), fabric_backward(), uncompiled():
                found = self.penalty(passes)
        finally:
            passes.kept.clear()  # the next evaluation draws anew
        if not found.weighted(1.0).isfinite():
            raise not_finite("under masks" if passes.base.isfinite().all() else "without any mask")
        return found

    # What a subclass defines.

    @property
    def keeps_base_graph(self) -> bool:
        """Whether the penalty has a gradient to the base pass; where not, its graph may be freed before `penalty`."""
        return not self.detach_base

    def look_at_base(self, passes: Passes) -> Sequence[Tensor]:  # noqa: ARG002 - what a subclass looks at
        """Take what the penalty needs from the base pass's graph, by `Passes.once`.

        Args:
            passes: the base pass.

        Returns:
            What the gradient of the model's loss is wanted at.
        """
        return ()

    def active(self, sites: Sequence[MaskSite]) -> bool:  # noqa: ARG002 - what a regularizer may look at
        """Return False if the penalty at these sites is always 0, so that no pass needs to be made."""
        return True

    def first_mask(self, seen: Observation, generator: torch.Generator) -> SiteValue | None:  # noqa: ARG002
        """Choose what acts at a site in the base pass; None leaves it as it is.

        Args:
            seen: what is known of the site in this pass.
            generator: draws random masks. Nothing else may: the global generators belong to the network, whose noise
                would be another one in this pass than in those that replay it.
        """
        return None

    def record(self, module: nn.Module, sites: Sequence[MaskSite], generator: torch.Generator) -> RecordedForward:
        """Record a forward of a module whose first run is the base pass, under the masks of `first_mask`.

        Args:
            module: the module whose forward will run.
            sites: where masks may act.
            generator: draws random masks; the `Passes` get the same one.
        """
        return RecordedForward(
            module,
            sites,
            share_noise=self.share_masks,
            first_masks=lambda seen: self.first_mask(seen, generator),
        )

    @abstractmethod
    def penalty(self, passes: Passes) -> Penalty:
        """Make the other passes and return the penalty.

        Args:
            passes: the base pass and the means to make others.
        """


def _found(module: nn.Module, sites: SiteSpecs | Sequence[MaskSite]) -> list[MaskSite]:
    """Find sites, unless they are found already."""
    if not isinstance(sites, (str, Mapping)):
        found = [site for site in sites if isinstance(site, MaskSite)]
        if found and len(found) == len(sites):
            return found
    return find_sites(module, cast("SiteSpecs", sites))
