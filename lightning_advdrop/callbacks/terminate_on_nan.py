"""Ending a training whose loss is no number."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class TerminateOnNaN(Callback):
    """Ends the training before a loss that is NaN or infinite can reach the weights.

    Lightning goes on: all weights are NaN from then on, and so is every checkpoint. Here the weights stay those before
    the step, and the checkpoints those that were written before. It looks at the loss before each backward pass, under
    automatic and manual optimization alike; on a GPU, that waits for the forward pass.

    Raises:
        FloatingPointError: in the training, if a loss is not finite.

    Example:
        >>> trainer = Trainer(callbacks=TerminateOnNaN(), logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Looks at the loss."""
        if not loss.isfinite().all():
            raise FloatingPointError(
                f"The training loss must be finite, got {loss.detach().tolist()} in epoch {trainer.current_epoch}, "
                f"step {trainer.global_step}; look for NaN in the data, lower the learning rate or clip the gradients. "
                "The weights are still those before this step."
            )
