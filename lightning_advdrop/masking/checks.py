"""Check what acts at a site against what the site meets."""

from __future__ import annotations

from lightning_advdrop.masking.observation import Observation
from lightning_advdrop.masking.site_values import Perturbation, SiteValue

#: The kinds of sites at which something can be added.
PERTURBED = frozenset({"embedding", "input"})


def check_same_batch(before: Observation | None, now: Observation) -> None:
    """Check that a layer which is called again in one forward has a mask of the same shape.

    Raises:
        ValueError: if it has not.
    """
    if before is not None and before.shape != now.shape:
        raise ValueError(
            f"sites: {now.site.name} is called with {before.shape[0]} and with {now.shape[0]} examples in one "
            "forward, so that one mask can't fit both; name other sites."
        )


def check_value(seen: Observation, value: SiteValue) -> None:
    """Check that something can act at a site, by the site's kind and the shape.

    Raises:
        ValueError: if it can't.
    """
    if isinstance(value, Perturbation):
        if seen.site.kind not in PERTURBED:
            raise ValueError(
                f"sites must be of the kind 'embedding' or 'input' for something to be added, got {seen.site.name!r}."
            )
        allowed, shape, what = [seen.activation], tuple(value.value.shape), "perturbation"
    else:
        allowed, shape, what = [seen.shape], tuple(value.shape), "mask"
        if seen.steps is not None:
            allowed.append((seen.steps, *seen.shape))
    if shape not in allowed:
        shapes = " or ".join(map(str, allowed))
        raise ValueError(
            f"masks: the {what} of {seen.site.name} must have the shape {shapes} for this batch, got {shape}."
        )
