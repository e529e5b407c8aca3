"""Parts of a forward that torch runs again in the backward pass, where no mask acts."""

from __future__ import annotations

from lightning_advdrop import _torch


def refuse_checkpoint(what: str) -> None:
    """Checks that something is computed once.

    Args:
        what: what the message begins with.

    Raises:
        ValueError: inside activation checkpointing.

    Example:
        >>> refuse_checkpoint("sites: lstm.l0:recurrent")
    """
    if _torch.in_checkpoint():
        raise ValueError(
            f"{what} is reached inside activation checkpointing (torch.utils.checkpoint), which runs this part again "
            "in the backward pass, as it is: without masks, and with dropout. Switch checkpointing off there, or name "
            "other sites."
        )
