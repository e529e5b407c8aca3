"""Recording a forward, and masks for what its sites met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_advdrop.masking import Masks, MaskSite, Observation, RecordedForward, SiteSpecs, find_sites
from lightning_advdrop.regularizers import Passes, Regularizer
from tests.helpers.models_recurrent import CallCounter

SEED = 11


def record(
    model: nn.Module,
    forward: Callable[[], Any],
    sites: SiteSpecs = "recurrent",
    *,
    share_noise: bool = True,
    **kwargs: Any,
) -> tuple[RecordedForward, Any]:
    """The recorded forward after its first run, from a fixed random state, and that run's output."""
    recorded = RecordedForward(model, find_sites(model, sites), share_noise=share_noise, **kwargs)
    torch.manual_seed(SEED)
    with recorded.first_run():
        base = forward()
    recorded.draw_noise(SEED + 1)
    return recorded, base


def passes_of(
    regularizer: Regularizer, model: nn.Module, x: Tensor, sites: SiteSpecs = "recurrent", *, seed: int = 5, **more: Any
) -> Passes:
    """The base pass of a model that a regularizer compares others with, where all that is random has a fixed seed."""
    generator = torch.Generator().manual_seed(seed)
    passes = regularizer.first_pass(lambda: model(x), model, sites, generator=generator, **more)
    passes.recorded.draw_noise(1)
    return passes


def plain(forward: Callable[[], Any]) -> Any:
    """The output of plain training, from the random state from which `record` starts."""
    torch.manual_seed(SEED)
    return forward()


def references(recorded: RecordedForward) -> Masks:
    """The masks that change nothing: the first run's own, or ones, as they are multiplied."""
    return {site: site.rescale(seen.reference()) for site, seen in recorded.observed.items()}


def halves(recorded: RecordedForward) -> dict[MaskSite, Tensor]:
    """Random binary masks."""
    return {site: seen.sample(0.5) for site, seen in recorded.observed.items()}


def by_name(recorded: RecordedForward) -> dict[str, Observation]:
    """What the sites met, by their names."""
    return {site.name: seen for site, seen in recorded.observed.items()}


def computed(recorded: RecordedForward, forward: Callable[[], Any], masks: Masks, *names: str) -> tuple[int, ...]:
    """How often another run computes the torch functions of these names."""
    with CallCounter() as counter:
        recorded.run(forward, masks)
    return tuple(counter.names[name] for name in names)
