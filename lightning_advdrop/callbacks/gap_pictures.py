"""Draw the gap between training and inference over the epochs of a run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_advdrop._lightning import state_key, trainer_callbacks
from lightning_advdrop.callbacks.own_metrics import own_name
from lightning_advdrop.callbacks.pictures import picture_loggers, send_picture
from lightning_advdrop.callbacks.settings import settings_of
from lightning_advdrop.drawing import GAP_LINES, as_png, gap_lines
from lightning_advdrop.regularizers.fields import at_least_zero

PICTURE = "figure"  # beside the numbers


class GapPictures(Callback):
    """A callback that logs the gap, and sends a picture of it to the loggers that show any."""

    plot_every_n_epochs: int
    #: By epoch, the values of the gap.
    gap_history: dict[int, dict[str, float]]

    def draw_gap(self, plot_every_n_epochs: int) -> None:
        """Set how often the picture is drawn, and begin with no values.

        Raises:
            ValueError: if the number is negative.
        """
        at_least_zero("plot_every_n_epochs", plot_every_n_epochs)
        self.plot_every_n_epochs = plot_every_n_epochs
        self.gap_history = {}

    @property
    def state_key(self) -> str:
        """Tell several callbacks of one class apart by their arguments, but for how often the picture is drawn."""
        told = settings_of(self)["init_args"]
        return state_key(self, **{name: value for name, value in told.items() if name != "plot_every_n_epochs"})

    def gap_name(self, trainer: Trainer, name: str) -> str:
        """Return under which name a value is logged: the second monitor of a trainer has ``gap_2/`` before it.

        Args:
            trainer: the trainer, which has this callback.
            name: ``random`` or another value, also with ``gap/`` before it.
        """
        number = [each for each in trainer_callbacks(trainer) if isinstance(each, GapPictures)].index(self) + 1
        return f"gap{'' if number == 1 else f'_{number}'}/{name.removeprefix('gap/')}"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the values of another fit; a checkpoint's come later, and a trainer that goes on keeps its own."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self.gap_history = {
                epoch: values for epoch, values in self.gap_history.items() if epoch < trainer.current_epoch
            }

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the values of this epoch, and draw them at the interval."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        names = {name: own_name(pl_module, self.gap_name(trainer, name)) for name, _, _ in GAP_LINES}
        logged = {name: trainer.callback_metrics.get(own) for name, own in names.items()}
        epoch = trainer.current_epoch
        self.gap_history[epoch] = {name: float(value) for name, value in logged.items() if value is not None}
        if self.plot_every_n_epochs and (epoch + 1) % self.plot_every_n_epochs == 0:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the whole run, unless its last epoch was drawn."""
        if not self.plot_every_n_epochs or (max(self.gap_history, default=0) + 1) % self.plot_every_n_epochs:
            self._draw(trainer)

    # Not by `state_dict`: of callbacks with a state, a trainer takes one of each kind.

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the values so far, so that the picture of a resumed run is whole."""
        checkpoint["callbacks"][self.state_key] = {
            "history": {epoch: dict(values) for epoch, values in self.gap_history.items()}
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the values; earlier releases kept none."""
        state = checkpoint.get("callbacks", {}).get(self.state_key, {})
        self.gap_history = {epoch: dict(values) for epoch, values in state.get("history", {}).items()}

    def _draw(self, trainer: Trainer) -> None:
        # The gap itself is logged without matplotlib, too.
        if trainer.is_global_zero and self.gap_history and picture_loggers(trainer) and find_spec("matplotlib"):
            send_picture(trainer, self.gap_name(trainer, PICTURE), as_png(lambda: gap_lines(self.gap_history)))
