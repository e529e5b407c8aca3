"""Warn of a search that reads the scores of another network than the one that its masks act on."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_warn

from lightning_advdrop.regularizers import AdversarialDropout, Passes, Regularizer

# Predictions that differ by no more are equal but for rounding.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-6


def warn_of_other_noise(regularizer: Regularizer, passes: Passes) -> None:
    """Warn if a search in the base pass meets other noise there than in the pass under its masks.

    That is so with ``share_masks=False`` where the network has noise of its own beside the masks, such as dropout. It
    is found by a pass under the base pass's own masks, without a graph.

    Args:
        regularizer: any regularizer; only searches in the base pass are looked at.
        passes: its base pass, for which the noise of further passes has been drawn.
    """
    if not isinstance(regularizer, AdversarialDropout) or regularizer.search == "gradient" or regularizer.share_masks:
        return
    acted = {site: seen.applied for site, seen in passes.observed.items() if seen.applied is not None}
    with torch.no_grad():
        again = passes.run(acted)
    if not torch.allclose(again, passes.base, _RELATIVE, _ABSOLUTE):
        rank_zero_warn(
            f"search={regularizer.search!r} reads its scores in the base pass, but with share_masks=False the network "
            "draws its own dropout anew for the pass under the masks found, which are then hardly better than those of "
            "the gradient search; use share_masks=True or search='gradient'."
        )
