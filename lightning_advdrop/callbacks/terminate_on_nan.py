"""Stop training when the loss is NaN or infinite."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_advdrop.callbacks.shown import ShownWithArguments


class TerminateOnNaN(ShownWithArguments, Callback):
    """Stop training when the loss is NaN or infinite, before it reaches the weights.

    Without this callback, training continues with weights, and checkpoints, that are NaN. With it, the weights stay
    those before the step. The loss is checked before each backward pass, under automatic and manual optimization alike;
    on a GPU, the check waits for the forward pass.

    Raises:
        FloatingPointError: during training, if a loss is not finite.

    Example:
        >>> trainer = Trainer(callbacks=TerminateOnNaN(), logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Check the loss."""
        if not loss.isfinite().all():
            raise FloatingPointError(
                f"The training loss must be finite, got {loss.detach().tolist()} in epoch {trainer.current_epoch}, "
                f"step {trainer.global_step}; look for NaN in the data, lower the learning rate or clip the gradients. "
                "The weights are still those before this step."
            )
