"""Adversarial dropout: the mask within a small budget that changes the prediction most."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_advdrop._deprecation import warn_renamed
from lightning_advdrop.functional import Direction, Flips, flip_budget
from lightning_advdrop.masking import MaskSite, Observation
from lightning_advdrop.regularizers.base import Regularizer
from lightning_advdrop.regularizers.base_scores import BinaryMasks, base_gradients
from lightning_advdrop.regularizers.comparison import OF_LABELS, DivergenceChoice
from lightning_advdrop.regularizers.examples import tell_examples
from lightning_advdrop.regularizers.fields import (
    at_least_one,
    at_least_zero,
    checked,
    in_unit_interval,
    one_of,
    optionally,
)
from lightning_advdrop.regularizers.mask_search import (
    BaseSearch,
    Search,
    by_rounds,
    flipped,
    rescaled,
)
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.penalty import Penalty
from lightning_advdrop.regularizers.probes import Probes, refuse_equal, warn_if_equal

Start = Literal["ones", "one_drop", "sampled"]
Rescaling = Literal["rows", "expected"]


@dataclass(eq=False)
class AdversarialDropout(Regularizer):
    """Find, for each example, the dropout mask within a budget that changes the prediction most.

    The penalty is the divergence between the base prediction and the one under that mask. The search is linearised:
    a gradient with respect to the mask gives the gain of each flip, and the flips of largest gain are made. A mask row
    is rescaled when it is applied; the gradient is that of the binary mask.

    Source: Park, Song, Ji, Lee & Moon, "Adversarial Dropout for Recurrent Neural Networks", AAAI 2019
    (arXiv 1904.09816); for feed-forward networks Park et al., AAAI 2018 (arXiv 1707.03631).

    Args:
        rate: the budget: the largest share of a mask row's units that may flip, in [0, 1]; at least one unit for any
            rate above 0. The search flips those of largest gain. A site's own rate takes precedence.
        steps: the rounds of the search, at least 1. Of a gradient search all but the last flip ``budget // steps``
            units. Of the other searches each round after the first looks for a better mask by a gradient at the last
            one, and each example takes the better of the two by its divergence.
        divergence: ``auto`` to choose by the model's loss or the labels (see `decide`), ``kl``, ``mse_logits``,
            ``mse_probs``, ``mse`` (regression), ``bernoulli_kl`` (several labels), or the adversarial prediction's
            cross-entropy to the label, ``ce`` or ``bernoulli_ce``.
        direction: ``base_adv`` for ``D(base, adversarial)``, or ``adv_base`` for ``D(adversarial, base)``.
        start: the mask at which a gradient search linearises the divergence first: ``one_drop`` (the reference with one
            random unit dropped in each row), ``ones`` (the reference itself), or ``sampled`` (a random mask, which is
            then the reference). The reference keeps everything, but at sites of the kind ``dropout`` it is the
            network's own mask. The other searches begin at the reference. For a gradient search from ``ones``, all
            divergences but ``ce`` are stationary and nothing is found, unless other noise differs between the two
            passes, or the network drops units itself at the site (as by DropConnect at a ``weight``).
        flips: ``both``, or ``drop`` to only drop units.
        detach_base: whether to stop the penalty's gradient at the base prediction.
        share_masks: whether all other noise of the network is the same in the two passes; only then are the scores of
            a search in the base pass those of the network that the masks act on. With a gradient search from ``ones``
            and ``ce``, the base pass then runs under the reference mask and is the probe, too.
        keep_start: whether the random drop at the start stays, as the first flip of the budget. By default it is only
            the point of linearisation.
        start_rate: the probability of dropping a unit in a sampled start, in [0, 1].
        per_step: whether recurrent sites have a mask for each time step, with a budget each, instead of one for all.
        search: what a flip's gain is the gradient of. ``gradient``, as published: the divergence, in a probe of its own
            at the start mask. The others take the gradient in the base pass, which runs under the reference, and need
            no probe: ``label`` raises the supervised loss; examples without a label take ``top``, and so do all where
            neither the loss nor the labels are known. ``top`` lowers the log-probability of the most probable class, or
            of each label's more probable value; for ``mse`` it moves the output along itself. ``fisher`` raises or
            lowers the log-probability of drawn labels, see `lightning_advdrop.regularizers.fisher_flips`. On small
            trained networks ``label`` finds more than ``gradient``, in a forward and a backward less.
        draws: the labels that the Fisher search draws for each example, at least 1.
        reference_in_base: whether the reference acts in the base pass, too, also where the network would drop units
            itself (as by DropConnect at a ``weight``). It always does where the search needs no probe.
        batch_dim: for sites of the kind ``dropout``, the dimension of an activation that holds the examples, wherever
            it has this dimension beside its features; each example has a budget of its own. None finds it, by the
            prediction's first dimension and the network's layers, and asks for it where that leaves more than one.
        both_losses: whether the supervised loss is the mean of that of the base pass and that under the adversarial
            mask, instead of the first alone.
        rescaling: what a mask is multiplied by: ``rows``, each row by ``units / kept``, or ``expected``, all by
            ``1 / (1 - start_rate)`` with a sampled start, as dropout is, and by 1 otherwise. Sites of the kind
            ``dropout`` keep the network's own factor.

    Raises:
        ValueError: if an argument is not in its range or list, ``keep_start`` is True without
            ``search="gradient"`` and a random drop, the reference is sampled for another search with
            ``reference_in_base=False``, or a sampled start that drops everything is to be rescaled as expected.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> lstm, x, method = torch.nn.LSTM(4, 8), torch.randn(5, 2, 4), AdversarialDropout(rate=0.25)
        >>> base, penalty = method(lambda: lstm(x)[0][-1], lstm, sites="recurrent", target=torch.randn(2, 8))
        >>> penalty.item() > 0
        True
    """

    rate: float = checked(0.05, in_unit_interval)
    steps: int = checked(1, at_least_one)
    divergence: DivergenceChoice = checked("auto", one_of(DivergenceChoice))
    direction: Direction = checked("base_adv", one_of(Direction))
    start: Start = checked("one_drop", one_of(Start))
    flips: Flips = checked("both", one_of(Flips))
    detach_base: bool = True
    share_masks: bool = True
    keep_start: bool = False
    start_rate: float = checked(0.1, in_unit_interval)
    per_step: bool = False
    search: Search = checked("label", one_of(Search))
    draws: int = checked(1, at_least_one)
    reference_in_base: bool = False
    batch_dim: int | None = checked(None, optionally(at_least_zero))
    both_losses: bool = False
    rescaling: Rescaling = checked("rows", one_of(Rescaling))

    halves_loss = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_start and (self.start != "one_drop" or self.search != "gradient"):
            raise ValueError(
                f"keep_start=True needs start='one_drop' and search='gradient', got {self.start!r} and "
                f"{self.search!r}, which have no drop to keep; name search='gradient'."
            )
        if self.search != "gradient" and self.start == "sampled" and not self.reference_in_base:
            raise ValueError(
                f"start='sampled' with search={self.search!r} needs reference_in_base=True, got False: this search "
                "looks at the base pass, which must run under the sampled mask; set it, or name search='gradient'."
            )
        if self.rescaling == "expected" and self.start == "sampled" and self.start_rate == 1:
            raise ValueError("start_rate must be below 1 for rescaling='expected', got 1.")
        self._warned = False

    @property
    def search_by(self) -> Search:
        """The old name of ``search``."""
        warn_renamed("AdversarialDropout.search_by", "AdversarialDropout.search")
        return self.search

    def _check_passes_differ(self, passes: Passes) -> None:
        same = self.start == "ones" and self.share_masks and not self.needs_target and self.search == "gradient"
        if same and (self.reference_in_base or not any(seen.replaces_own for seen in passes.observed.values())):
            refuse_equal(self.divergence)

    def scale(self, site: MaskSite, mask: Tensor) -> Tensor:
        """Scale a binary mask of a site as it is multiplied, see ``rescaling``."""
        if self.rescaling == "rows" or site.kind == "dropout":
            return site.rescale(mask)
        return mask / (1 - self.start_rate) if self.start == "sampled" else mask

    @property
    def probes_base(self) -> bool:
        """Tell whether the base pass is the first probe, so that no other is run."""
        same = self.start == "ones" and self.share_masks and self.needs_target
        return same or self.search != "gradient"

    def first_mask(self, seen: Observation, generator: torch.Generator) -> Tensor | None:
        """Apply the reference where it acts in the base pass, with a gradient where that is the first probe."""
        if not (self.probes_base or self.reference_in_base) or not self._rate(seen.site):
            return None
        mask = self.scale(seen.site, self._reference(seen, generator)).detach()
        return mask.requires_grad_() if self.probes_base else mask

    def active(self, sites: Sequence[MaskSite]) -> bool:
        """Return False if all rates are 0."""
        return any(self._rate(site) for site in sites)

    @property
    def needs_target(self) -> bool:  # type: ignore[override]
        """True for the divergences ``ce`` and ``bernoulli_ce``."""
        return self.divergence in OF_LABELS

    def look_at_base(self, passes: Passes) -> Sequence[Tensor]:
        """Compute the gradients of the base pass that the search needs; that of the loss is left to others."""
        self._check_passes_differ(passes)
        reference = self._references(passes)
        if self.search != "gradient":
            return self._base_search.look(passes, reference)
        if self._is_first_probe(passes, reference):
            self._base_gradients(passes, reference)
        return ()

    def penalty(self, passes: Passes) -> Penalty:
        """Find the adversarial masks and compute the divergence under them.

        Returns:
            The penalty, with the metric ``flip_rate``: the share of units that were flipped, in [0, 1].

        Raises:
            ValueError: if no site took part in the base pass, ``ce`` or ``both_losses`` was given no target, or the
                search could never find anything.
        """
        self._check_passes_differ(passes)
        reference = self._references(passes)
        masks = self.find_masks(passes, reference)
        acting = rescaled(masks, passes.observed, self.scale)
        prediction, supervised = passes.run_with_loss(acting, self.divergence, both=self.both_losses, mean=True)
        value = passes.distance(prediction, self.divergence, self.direction, detach_base=self.detach_base)
        flips = sum((masks[site] != reference[site]).sum() for site in masks)
        units = sum(mask.numel() for mask in masks.values())
        return Penalty(value, {"flip_rate": flips / max(1, units)}, supervised, masks)

    def find_masks(self, passes: Passes, reference: BinaryMasks) -> BinaryMasks:
        """Find the adversarial masks around ``reference``, binary and without a graph.

        Args:
            passes: the base pass and the means to make others.
            reference: the masks from which flips are counted, binary.
        """
        masked = [s for s, seen in passes.observed.items() if s.kind == "dropout" and self._rate(seen.site)]
        tell_examples(passes, masked, self.batch_dim, self.known_examples)
        reference = {passes.observed[site].site: mask for site, mask in reference.items()}
        if self.search == "gradient":
            return self._by_rounds(passes, reference)
        budgets = self._budgets([passes.observed[site] for site in reference])
        masks = self._base_search.masks(passes, reference, budgets)
        for _ in range(self.steps - 1):
            gradients, before = self._probes.gradients(passes, masks)
            others = flipped(reference, gradients, budgets, self.flips)
            masks = self._probes.better(passes, others, masks, before)
        return masks

    @property
    def _base_search(self) -> BaseSearch:
        return BaseSearch(self.search, self.divergence, self.draws, self.flips, self.scale, self.known_examples)

    @property
    def _probes(self) -> Probes:
        return Probes(self.divergence, self.direction, self.scale, self.known_examples)

    def _by_rounds(self, passes: Passes, reference: BinaryMasks) -> BinaryMasks:
        point = dict(reference)
        if self.start == "one_drop":
            point = {s: passes.observed[s].site.drop_one(mask, passes.generator) for s, mask in reference.items()}
        masks = dict(point if self.keep_start else reference)
        totals = self._budgets([passes.observed[site] for site in masks])
        gradients = functools.partial(self._gradients, passes)
        return by_rounds(masks, point, totals, self.steps, self.flips, gradients)

    def _references(self, passes: Passes) -> BinaryMasks:
        """Return the masks from which flips are counted; a site whose budget is 0 is left as it is, in all passes."""
        active = {site: seen for site, seen in passes.observed.items() if self._rate(seen.site)}
        draw = functools.partial(self._reference, generator=passes.generator)
        return passes.once(self, "references", lambda: {site: draw(seen) for site, seen in active.items()})

    def _reference(self, seen: Observation, generator: torch.Generator | None) -> Tensor:
        acted = seen.applied is not None and (self.probes_base or self.reference_in_base)
        if self.start == "sampled" and seen.site.kind != "dropout" and not acted:
            return seen.sample(self.start_rate, generator, per_step=self.per_step)
        return seen.reference(generator, per_step=self.per_step)

    def _rate(self, site: MaskSite) -> float:
        return self.rate if site.rate is None else site.rate

    def _budgets(self, observed: Sequence[Observation]) -> dict[MaskSite, int]:
        """Return the flips of a row that the search may make at each site."""
        return {
            seen.site: max(0, flip_budget(self._rate(seen.site), seen.site.units) - self.keep_start)
            for seen in observed
        }

    def _is_first_probe(self, passes: Passes, point: BinaryMasks) -> bool:
        return self.probes_base and all(passes.observed[site].applied is not None for site in point)

    def _base_gradients(self, passes: Passes, point: BinaryMasks) -> BinaryMasks:
        def compute() -> BinaryMasks:
            value = passes.distance(passes.base, self.divergence, self.direction)
            return base_gradients(value, point, passes, self.scale)

        return passes.once(self, "gradients", compute)

    def _gradients(self, passes: Passes, point: BinaryMasks, first: bool) -> BinaryMasks:
        """Compute the divergence's gradient, in the base pass or in a probe."""
        if first and self._is_first_probe(passes, point):
            return self._base_gradients(passes, point)
        gradients, other = self._probes.gradients(passes, point)
        if first:
            self._warn_if_stationary(passes.base, other)
        return gradients

    def _warn_if_stationary(self, base: Tensor, other: Tensor) -> None:
        if not (self.start == "one_drop" or self.needs_target or self._warned):
            self._warned = warn_if_equal(base, other, self.start)
