"""Say why no site took part in a forward pass."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from lightning_advdrop.masking import MaskSite, RecordedForward


def no_site_ran(recorded: RecordedForward) -> str:
    """Return a sentence on a forward pass in which no mask could act, and on what to do.

    Args:
        recorded: the pass.

    Example:
        >>> import torch
        >>> from lightning_advdrop.masking import find_sites
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)).eval()
        >>> recorded = RecordedForward(network, find_sites(network, "dropout"), share_noise=True)
        >>> with recorded.first_run():
        ...     _ = network(torch.ones(1, 2))
        >>> no_site_ran(recorded)[:75]
        'sites: none of 1:dropout took part in the forward pass, since in evaluation'
    """
    names = ", ".join(site.name for site in recorded.sites)
    return f"sites: none of {names} took part in the forward pass, {_why(recorded)}."


def check_gradients(recorded: RecordedForward, prediction: Tensor, sites: Collection[MaskSite]) -> None:
    """Check that a site at which a search needs a gradient ran where gradients were computed.

    Args:
        recorded: the base pass.
        prediction: its prediction. One without a graph was made for evaluation, and other passes have one.
        sites: where masks or perturbations are searched.

    Raises:
        ValueError: if none did.
    """
    if sites and prediction.requires_grad and all(site.key in recorded.without_gradient for site in sites):
        names = ", ".join(site.name for site in sites)
        raise ValueError(
            f"sites: {names} must have a gradient, by which the search finds what to change, and ran under "
            "torch.no_grad(); freeze this part by requires_grad_(False) instead, or name other sites."
        )


def _why(recorded: RecordedForward) -> str:
    if recorded.unrecognised:
        called = ", ".join(sorted(recorded.unrecognised))
        return (
            f"but {called} was called with weights that are no parameters, which are recognised by the layer that is "
            "running: call the layer that holds them as a module, not its forward"
        )
    own = [site.anchor for site in recorded.sites if site.kind == "dropout"]
    if own and not any(module.training for module in own if isinstance(module, nn.Module)):
        return (
            "since in evaluation mode dropout does nothing, and a fit leaves the mode of each module as it is: call "
            "train() on the network where it is made, such as on what from_pretrained returns"
        )
    return "so there is nothing to mask"
