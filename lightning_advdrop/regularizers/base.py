"""What every regularizer works with: a base pass, and a way to run the forward again under masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lightning_advdrop.masking import Masks, MaskSite, Observation, RecordedForward, SiteValue
from lightning_advdrop.regularizers.fields import check_fields


@dataclass(frozen=True)
class Passes:
    """A base pass with its prediction, and the means to make other passes over the same batch.

    Attributes:
        recorded: the forward pass that was run once.
        forward: runs the forward again and returns its prediction.
        base: the prediction of the first run, ``(B, ..., classes)``, with its graph.
        target: the labels, ``(B, ...)``, for divergences that need them.
        weight: weights of the examples and time steps, broadcastable to ``(B, ...)``; None weighs all alike.
        generator: draws the regularizer's own random masks, apart from the global generators.

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
    forward: Callable[[], Tensor]
    base: Tensor
    target: Tensor | None = None
    weight: Tensor | None = None
    generator: torch.Generator | None = None

    @property
    def observed(self) -> Mapping[MaskSite, Observation]:
        """What each site met in the base pass.

        Raises:
            ValueError: if none took part in it.
        """
        if not self.recorded.observed:
            names = ", ".join(site.name for site in self.recorded.sites)
            raise ValueError(f"sites: none of {names} took part in the forward pass, so there is nothing to mask.")
        return self.recorded.observed

    def applied(self, sites: Collection[MaskSite]) -> list[SiteValue]:
        """What acted at sites in the base pass.

        Raises:
            ValueError: if nothing did at one of them.
        """
        found = [self.observed[site].applied for site in sites]
        missing = [site.name for site, value in zip(sites, found, strict=True) if value is None]
        if missing:
            raise ValueError(
                f"recorded: nothing acted at {', '.join(missing)} in the base pass, so that it has no gradient there; "
                "record it with the regularizer's own record()."
            )
        return found

    def check_sites(self) -> None:
        """Raises the `ValueError` of `observed`, for regularizers whose passes need no masks of their own."""
        len(self.observed)

    def run(self, masks: Masks, *, dropout: bool = True) -> Tensor:
        """The prediction under masks, with a graph to masks and parameters.

        Args:
            masks: what acts at the sites.
            dropout: False to switch the network's own dropout off.
        """
        prediction: Tensor = self.recorded.run(self.forward, masks, dropout=dropout)
        return prediction


@dataclass(frozen=True)
class Penalty:
    """What a regularizer found.

    Attributes:
        value: the penalty before its weight, a scalar with a graph.
        metrics: numbers to log, by name.
        supervised: a further supervised loss, which no weight multiplies, a scalar with a graph; None for none.
        masks: the binary masks that were found, for regularizers that search them.
    """

    value: Tensor
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    supervised: Tensor | None = None
    masks: Mapping[MaskSite, Tensor] = field(default_factory=dict)


class Regularizer(ABC):
    """Decides which masks two passes use, and compares their predictions.

    Attributes:
        share_masks: whether its passes draw the same noise elsewhere in the network as the base pass.
        needs_target: whether it asks for the labels.
    """

    share_masks: bool = False
    needs_target: bool = False

    def __post_init__(self) -> None:
        """Check the fields of a regularizer that is a dataclass."""
        check_fields(self)

    def active(self, sites: Sequence[MaskSite]) -> bool:  # noqa: ARG002 - what a regularizer may look at
        """False if the penalty at these sites is always 0, so that no pass needs to be made."""
        return True

    def first_mask(self, seen: Observation, generator: torch.Generator) -> SiteValue | None:  # noqa: ARG002
        """What acts at a site in the base pass; None leaves it as it is.

        Args:
            seen: what is known of the site in this pass.
            generator: draws random masks. Nothing else may: the global generators belong to the network, whose noise
                would be another one in this pass than in those that replay it.
        """
        return None

    def record(self, module: nn.Module, sites: Sequence[MaskSite], generator: torch.Generator) -> RecordedForward:
        """A forward of a module whose first run is the base pass, under what acts in it.

        Args:
            module: the module whose forward will run.
            sites: where masks may act.
            generator: draws random masks; the `Passes` get the same one.

        Example:
            >>> from lightning_advdrop.masking import find_sites
            >>> from lightning_advdrop.regularizers import FraternalDropout
            >>> lstm, x, generator = nn.LSTM(4, 3), torch.randn(5, 2, 4), torch.Generator()
            >>> regularizer = FraternalDropout(rate=0.5)
            >>> recorded = regularizer.record(lstm, find_sites(lstm), generator)
            >>> with recorded.first_run():
            ...     base = lstm(x)[0][-1]
            >>> penalty = regularizer.penalty(Passes(recorded, lambda: lstm(x)[0][-1], base, generator=generator))
            >>> penalty.value.requires_grad
            True
        """
        return RecordedForward(
            module,
            sites,
            share_noise=self.share_masks,
            first_masks=lambda seen: self.first_mask(seen, generator),
        )

    @abstractmethod
    def penalty(self, passes: Passes) -> Penalty:
        """Makes its passes and returns the penalty.

        Args:
            passes: the base pass and the means to make others.
        """
