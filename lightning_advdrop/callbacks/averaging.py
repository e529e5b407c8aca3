"""Averages of the weights, which are evaluated and saved while the raw weights are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lightning_advdrop.callbacks.compatibility import misconfigured, refuse_sharded

_AVERAGING = frozenset({"WeightAveraging", "StochasticWeightAveraging"})


class AveragedWeights(WeightAveraging):
    """Lightning's weight averaging, with the average made when there is something to average.

    Until the first update there is no copy of the weights, and the raw ones are evaluated and saved. From then on,
    validation in a fit, the checkpoints' ``state_dict`` and the weights after the fit are the average; the raw weights
    come back for training, and are in a checkpoint as ``current_model_state``. After the fit, a checkpoint that is
    loaded for evaluation gives its averaged weights (Lightning's own class gives the raw ones there: it takes the load
    for a resumed fit).

    Not used as such: its children decide what is averaged.

    Args:
        device: where the average is kept; None for the model's device.
        use_buffers: whether buffers are averaged, too; otherwise they are the model's.
        kwargs: see `lightning.pytorch.callbacks.WeightAveraging`.
    """

    def __init__(self, device: str | int | None = None, use_buffers: bool = True, **kwargs: Any) -> None:
        super().__init__(device, use_buffers, **kwargs)
        # Whether the module holds the average, and the average's copy the raw weights.
        self._swapped = False
        self._loaded: Mapping[str, Any] | None = None

    @property
    def steps(self) -> int:
        """How many sets of weights the average was made from; 0 if there is none yet."""
        return 0 if self._average_model is None else int(self._average_model.n_averaged)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what can't work, and starts afresh."""
        if stage != "fit":
            return
        refuse_sharded(self, trainer, "keeps an average of all weights")
        others = [each for each in vars(trainer)["callbacks"] if each is not self and _averages(each)]
        if others:
            raise misconfigured(
                trainer,
                f"{type(self).__name__} must be the trainer's only callback that averages weights, got "
                f"{type(others[0]).__name__}, too; remove one.",
            )
        self._average_model, self._swapped, self._loaded = None, False, None
        self._latest_update_step, self._latest_update_epoch = 0, -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the average that a checkpoint holds, now that the model is on its device."""
        if self._loaded is not None:
            self._average_model = self._start(pl_module)
            weights = {f"module.{name}": value for name, value in self._loaded["state_dict"].items()}
            # Not strict: what is not averaged, such as a metric's own state, is in the module only.
            self._average_model.load_state_dict(weights | dict(self._loaded["averaging_state"]), strict=False)
            self._loaded = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes the weights into the average, if they are to be."""
        step = trainer.global_step
        if self._average_model is None and step > self._latest_update_step and self.should_update(step_idx=step - 1):
            self._average_model = self._start(pl_module)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the weights into the average, if those at the end of an epoch are to be."""
        if self._average_model is None and self.should_update(epoch_idx=trainer.current_epoch):
            self._average_model = self._start(pl_module)
        super().on_train_epoch_end(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the module the average, to be evaluated."""
        if trainer.state.fn == "fit" and not self._swapped:
            self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the module its raw weights back."""
        if trainer.state.fn == "fit" and self._swapped:
            self._swap(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the average in the module. The raw weights are kept, for checkpoints that are saved later."""
        if not self._swapped:
            self._swap(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives the module its raw weights back if the validation in a fit failed."""
        if trainer.state.fn == "fit" and self._swapped:
            self._swap(pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Puts the average into ``state_dict``, and the raw weights into ``current_model_state``."""
        if self._average_model is None:
            return
        held = checkpoint["state_dict"]
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        other = {**held, **checkpoint["state_dict"]}
        averaged, raw = (held, other) if self._swapped else (other, held)
        checkpoint["state_dict"], checkpoint["current_model_state"] = averaged, raw

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Gives the module the raw weights to go on with; warns when a checkpoint was written without this callback."""
        if trainer.state.fn != "fit":
            # The module holds the checkpoint's average now, and no longer the fit's.
            self._average_model, self._swapped = None, False
        elif self.state_key not in checkpoint.get("callbacks", {}):
            rank_zero_warn(
                f"The checkpoint holds no state of {self.state_key}; averaging starts afresh, so the run will not be "
                "the same as one that was never interrupted."
            )
        elif "averaging_state" in checkpoint:
            self._loaded = {name: checkpoint[name] for name in ("state_dict", "averaging_state")}
            pl_module.load_state_dict(checkpoint["current_model_state"], strict=pl_module.strict_loading)

    def _start(self, pl_module: LightningModule) -> AveragedModel:
        device = pl_module.device if self._device is None else self._device
        average = AveragedModel(_weights_only(pl_module), device, use_buffers=self._use_buffers, **self._kwargs)
        renamed = average.module.state_dict().keys() - pl_module.state_dict().keys()
        if renamed:
            raise ValueError(
                f"{type(self).__name__} needs a state_dict that names parameters and buffers by their place in the "
                f"module, got one of {type(pl_module).__name__} without {', '.join(sorted(renamed))}."
            )
        return average

    def _swap(self, pl_module: LightningModule) -> None:
        if self._average_model is not None:
            self._swap_models(pl_module)
            self._swapped = not self._swapped


def _averages(callback: object) -> bool:
    return bool(_AVERAGING & {base.__name__ for base in type(callback).__mro__})


def _weights_only(module: nn.Module) -> nn.Module:
    """A module of the same parameters and buffers, under the same names, and nothing else of it.

    `AveragedModel` copies what it is given, and not to be copied are a wrapped ``training_step``, carried states and
    metrics.
    """
    made: dict[int, nn.Module] = {}

    def bare(original: nn.Module | None) -> nn.Module | None:
        if original is None:
            return None
        if id(original) not in made:
            made[id(original)] = copy = nn.Module()
            for name in ("_parameters", "_buffers", "_non_persistent_buffers_set"):
                vars(copy)[name] = vars(original)[name].copy()
            copy._modules = {name: bare(child) for name, child in original._modules.items()}
        return made[id(original)]

    bare(module)
    return made[id(module)]


class ExponentialAveraging(AveragedWeights, EMAWeightAveraging):
    """An exponential moving average of the weights: ``average = decay * average + (1 - decay) * weights``.

    Lightning's `lightning.pytorch.callbacks.EMAWeightAveraging`, but that the average is made at the first update, on
    the device of the model, and that checkpoints that are loaded after the fit give their averaged weights. Before the
    first update, the raw weights are evaluated and saved.

    Args:
        decay: what is kept of the average in each update, in [0, 1).
        update_every_n_steps: how many steps lie between updates, at least 1.
        update_starting_at_step: the first step whose weights are averaged, from 0; None for the first of all.
        device: where the average is kept; None for the model's device.
        use_buffers: whether buffers are averaged, too; otherwise they are the model's.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> ExponentialAveraging(decay=0.99).update_every_n_steps
        1
    """

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        device: str | int | None = None,
        use_buffers: bool = True,
    ) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}.")
        if update_every_n_steps < 1:
            raise ValueError(f"update_every_n_steps must be at least 1, got {update_every_n_steps}.")
        if update_starting_at_step is not None and update_starting_at_step < 0:
            raise ValueError(f"update_starting_at_step must be at least 0, or None, got {update_starting_at_step}.")
        super().__init__(
            device,
            use_buffers,
            decay=decay,
            update_every_n_steps=update_every_n_steps,
            update_starting_at_step=update_starting_at_step,
        )
