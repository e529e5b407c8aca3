"""Refuse activation checkpointing, which runs a part of the forward again in the backward pass, without masks."""

from __future__ import annotations

from lightning_advdrop import _torch


def refuse_checkpoint(what: str) -> None:
    """Check that no activation checkpointing is active.

    Args:
        what: the beginning of the message.

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
