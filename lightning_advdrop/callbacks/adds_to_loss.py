"""What a training step asks of a callback that adds a term to its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lightning_advdrop.callbacks.batches import SteppedBatch
from lightning_advdrop.callbacks.recording import ForwardRecorder
from lightning_advdrop.masking import RecordedForward
from lightning_advdrop.regularizers import Passes
from lightning_advdrop.regularizers.predictions import Output


class AddsToLoss(Callback, ABC):
    """A callback that adds a term to the loss of each training step."""

    output: Output
    #: The path of the module whose forward passes count, once a step has told.
    counted: str | None = None
    #: Its class.
    compared_class: str = ""
    #: What it got in that step, until the term is computed.
    input: Tensor | None = None
    #: The reasons that this fit has been told for which the graph of the base pass is kept.
    told_graph: frozenset[str] = frozenset()

    @property
    def watches_losses(self) -> bool:
        """Whether it needs to see which losses the module calls."""
        return False

    @property
    def both_losses(self) -> bool:
        """Whether it asks for the loss of other passes."""
        return False

    @property
    def halves_loss(self) -> bool:
        """Whether it takes a half of the base pass's loss away."""
        return False

    @property
    def keeps_base_graph(self) -> bool:
        """Whether its term has a gradient to the base pass."""
        return True

    @abstractmethod
    def current_weight(self, trainer: Trainer) -> float:
        """Return the weight in the trainer's current epoch."""

    @abstractmethod
    def recorded_forward(self, module: nn.Module) -> RecordedForward:
        """Make the recorder of a forward of a module, to be run once in this step and then again under masks."""

    @abstractmethod
    def recorder(self, pl_module: LightningModule) -> ForwardRecorder:
        """Make what records the forward passes of a training step that knows nothing of callbacks."""

    @abstractmethod
    def prepare(
        self, pl_module: LightningModule, calls: Sequence[Passes], batch: SteppedBatch | None = None
    ) -> tuple[list[Passes], list[Tensor]]:
        """Complete the forward passes of a step, and tell what gradients of the loss are wanted at."""

    @abstractmethod
    def term(self, pl_module: LightningModule, calls: Sequence[Passes]) -> Tensor | None:
        """Compute the term from the forward passes of a step; None where there are none."""
