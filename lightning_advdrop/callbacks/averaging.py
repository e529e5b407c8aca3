"""Evaluate and save an average of the weights while the raw weights are trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from lightning_advdrop._lightning import trainer_callbacks
from lightning_advdrop._ranges import check_range
from lightning_advdrop.callbacks.compatibility import misconfigured, refuse_sharded
from lightning_advdrop.callbacks.shown import ShownWithArguments

# Of either of Lightning's packages.
_AVERAGING = frozenset({"AveragedWeights", "WeightAveraging", "StochasticWeightAveraging"})

# What a resumed fit reads of the average in a checkpoint.
_AVERAGE = "state_dict", "averaging_state", "precise_average"


class AveragedWeights(ShownWithArguments, Callback, ABC):
    """Average the weights in a `torch.optim.swa_utils.AveragedModel`; subclasses decide when, and how.

    Until the first update there is no copy of the weights, and the raw ones are evaluated and saved. From then on,
    validation in a fit, the checkpoints' ``state_dict`` and the weights after the fit are the average. The raw weights
    come back for training, and are in a checkpoint as ``current_model_state``. A checkpoint that is loaded for
    evaluation gives its averaged weights.

    Averaged is what is floating-point or complex. Integers and booleans, such as indices and counts in buffers, are the
    model's present ones everywhere. The average of 16-bit weights, as with ``precision="bf16-true"``, is kept in 32
    bits, also in checkpoints, as ``precise_average``. It is rounded to the model's where it is evaluated, and in
    ``state_dict``.

    Args:
        device: where the average is kept; None for the model's device.
        use_buffers: whether buffers of real or complex numbers are averaged as well; otherwise all are the model's.
    """

    def __init__(self, device: str | int | None = None, use_buffers: bool = True) -> None:
        self.device = device
        self.use_buffers = use_buffers
        #: The average, while a fit has one.
        self.average: AveragedModel | None = None
        # Whether the module holds the average, and `average` the raw weights, or `_raw` those of fewer bits, by number.
        self._swapped = False
        self._raw: dict[int, Tensor] = {}
        # The steps that have been asked about; None before the first batch.
        self._steps_before: int | None = None
        self._loaded: Mapping[str, Any] | None = None

    @property
    def steps(self) -> int:
        """How many sets of weights the average was made from; 0 if there is none yet."""
        return 0 if self.average is None else int(self.average.n_averaged)

    @abstractmethod
    def should_update(self, step_idx: int) -> bool:
        """Return whether the weights after a step go into the average.

        Of several steps in one batch, as with several optimizers, each is asked about, and the weights after the batch
        go in once if any is due.

        Args:
            step_idx: the step, from 0, as ``trainer.global_step`` counts them: each step of each optimizer.
        """

    def averaging_function(self) -> Callable[[Tensor, Tensor, Tensor | int], Tensor] | None:
        """Return the ``avg_fn`` of the `AveragedModel`; None for equal weights."""
        return None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what can't work, and start afresh."""
        if stage != "fit":
            return
        refuse_sharded(self, trainer, "keeps an average of all weights")
        averaging = (
            each for each in trainer_callbacks(trainer) if _AVERAGING & {b.__name__ for b in type(each).__mro__}
        )
        others = [each for each in averaging if each is not self]
        if others:
            raise misconfigured(
                trainer,
                f"{type(self).__name__} must be the trainer's only callback that averages weights, got "
                f"{type(others[0]).__name__}, too; remove one.",
            )
        self.average, self._swapped, self._raw, self._loaded, self._steps_before = None, False, {}, None, None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the average that a checkpoint holds, now that the model is on its device."""
        if self._steps_before is None:
            self._steps_before = trainer.global_step
        if self._loaded is not None:
            self.average = self._start(pl_module)
            values = self._loaded["state_dict"] | self._loaded["precise_average"]
            for name, kept in _named(pl_module, dict(self._pairs(pl_module)), values).items():
                kept.detach().copy_(values[name])
            self.average.n_averaged.copy_(self._loaded["averaging_state"]["n_averaged"])
            self._loaded = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the weights into the average, if the batch ended a step after which they are to be."""
        steps, self._steps_before = range(self._steps_before or 0, trainer.global_step), trainer.global_step
        if any(self.should_update(step_idx=step) for step in steps):
            if self.average is None:
                self.average = self._start(pl_module)
            self.average.update_parameters(self._weights(pl_module))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the module the average, to be evaluated."""
        if trainer.state.fn == "fit":
            self._hold(pl_module, average=True)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the module its raw weights back."""
        if trainer.state.fn == "fit":
            self._hold(pl_module, average=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module. The raw weights are kept, for checkpoints that are saved later."""
        self._hold(pl_module, average=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the module its raw weights back if the validation in a fit failed."""
        self.on_validation_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return how many steps have been asked about."""
        return {"steps": self._steps_before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._steps_before = state_dict.get("steps")  # not in older checkpoints, where it is the trainer's number

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the average into ``state_dict``, and the raw weights into ``current_model_state``."""
        if self.average is None:
            return
        held, pairs = checkpoint["state_dict"], list(self._pairs(pl_module))
        others = {live: self._raw.get(i, kept).detach().to(live.dtype) for i, (live, kept) in enumerate(pairs)}
        kept = held | _named(pl_module, others, held)
        averaged, raw = (held, kept) if self._swapped else (kept, held)
        state = {"n_averaged": self.average.n_averaged}
        checkpoint |= {"state_dict": averaged, "current_model_state": raw, "averaging_state": state}
        precise = {live: kept.detach() for live, kept in pairs if kept.dtype != live.dtype}
        if precise:
            checkpoint["precise_average"] = _named(pl_module, precise, held)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Give the module the raw weights to go on with; warn when a checkpoint was written without this callback."""
        if trainer.state.fn != "fit":
            # The module holds the checkpoint's average now, and no longer the fit's.
            self.average, self._swapped, self._raw = None, False, {}
        elif self.state_key not in checkpoint.get("callbacks", {}):
            rank_zero_warn(
                f"The checkpoint holds no state of {self.state_key}; averaging starts afresh, so the run will not be "
                "the same as one that was never interrupted."
            )
        elif "averaging_state" in checkpoint:
            # Older checkpoints, and those of no 16-bit weights, have no more precise average than that in `state_dict`.
            self._loaded = {"precise_average": {}} | {name: checkpoint[name] for name in _AVERAGE if name in checkpoint}
            pl_module.load_state_dict(checkpoint["current_model_state"], strict=pl_module.strict_loading)

    def _start(self, pl_module: LightningModule) -> AveragedModel:
        unnamed = sorted({name for name, _ in pl_module.named_parameters()} - pl_module.state_dict().keys())
        if unnamed:
            raise ValueError(
                f"{type(self).__name__} needs a state_dict that names parameters by their place in the module, got "
                f"one of {type(pl_module).__name__} without {', '.join(unnamed)}."
            )
        device = pl_module.device if self.device is None else torch.device(self.device)
        return AveragedModel(self._weights(pl_module), device, self.averaging_function(), use_buffers=True)

    def _averaged(self, pl_module: LightningModule) -> tuple[list[nn.Parameter], list[Tensor]]:
        """The module's parameters and buffers that are averaged: a mean of indices or counts would be none."""
        buffers = pl_module.buffers() if self.use_buffers else ()
        return [each for each in pl_module.parameters() if _is_real(each)], [each for each in buffers if _is_real(each)]

    def _weights(self, pl_module: LightningModule) -> nn.Module:
        """What `AveragedModel` is to copy and to update from: the weights, and no wrapped step, states or metrics."""
        weights = nn.Module()
        parameters, buffers = self._averaged(pl_module)
        for number, parameter in enumerate(parameters):
            weights.register_parameter(
                f"parameter_{number}", nn.Parameter(_precise(parameter), parameter.requires_grad)
            )
        for number, buffer in enumerate(buffers):
            weights.register_buffer(f"buffer_{number}", _precise(buffer))
        return weights

    def _pairs(self, pl_module: LightningModule) -> Iterator[tuple[Tensor, Tensor]]:
        """Each averaged parameter and buffer of the module, and what is kept of it."""
        if self.average is not None:
            kept = chain(self.average.module.parameters(), self.average.module.buffers())
            yield from zip(chain(*self._averaged(pl_module)), kept, strict=True)

    def _hold(self, pl_module: LightningModule, average: bool) -> None:
        """Let the module hold the average, or the raw weights; its tensors stay, as the optimizer knows them."""
        if self.average is not None and self._swapped != average:
            for number, (live, kept) in enumerate(self._pairs(pl_module)):
                value = self._raw.pop(number) if number in self._raw else kept.data.clone()
                if kept.dtype == live.dtype:  # exchanged, which takes no memory
                    kept.data.copy_(live.data)
                elif average:
                    self._raw[number] = live.data.to(kept.device, copy=True)
                live.data.copy_(value)
            self._swapped = average


def _is_real(tensor: Tensor) -> bool:
    """Tell whether a tensor holds real or complex numbers, and no integers."""
    return tensor.is_floating_point() or tensor.is_complex()


def _precise(tensor: Tensor) -> Tensor:
    """Return a tensor in at least 32 bits: in 16 the small steps of an average are all rounded away."""
    if torch.finfo(tensor.dtype).bits >= 32:
        return tensor
    return tensor.detach().to(torch.complex64 if tensor.is_complex() else torch.float32)


def _named(pl_module: LightningModule, values: Mapping[Tensor, Tensor], names: Container[str]) -> dict[str, Tensor]:
    """Return values of the module's tensors by those of its names that are given; tied weights have several."""
    live = pl_module.named_parameters(remove_duplicate=False), pl_module.named_buffers(remove_duplicate=False)
    return {name: values[tensor] for name, tensor in chain(*live) if name in names and tensor in values}


class ExponentialAveraging(AveragedWeights):
    """Average the weights exponentially: ``average = decay * average + (1 - decay) * weights``.

    The average starts as the weights of the first update. Until then, the raw weights are evaluated and saved.

    With a warm-up, the decay of the ``t``-th update is ``min(decay, (1 + t) / (10 + t))``, so that the first weights
    are forgotten sooner, as in TensorFlow's ``ExponentialMovingAverage`` with ``num_updates`` and in the published text
    classification of Miyato, Dai & Goodfellow (2017) and Park et al. (2019).

    Args:
        decay: the share of the old average in the new one, in [0, 1).
        update_every_n_steps: of how many steps one is followed by an update, at least 1. With several optimizers the
            steps of each count, and a batch has one update at most.
        update_starting_at_step: the first step whose weights are averaged, from 0; None for the first of all.
        device: where the average is kept; None for the model's device.
        use_buffers: whether buffers of real or complex numbers are averaged as well; otherwise all are the model's.
        warmup: whether the decay grows from update to update until it is ``decay``.

    Raises:
        ValueError: if ``decay``, ``update_every_n_steps`` or ``update_starting_at_step`` is out of its range.

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
        warmup: bool = False,
    ) -> None:
        super().__init__(device, use_buffers)
        check_range("in [0, 1)", decay=decay)
        check_range("at least 1", update_every_n_steps=update_every_n_steps)
        check_range("at least 0 or None", update_starting_at_step=update_starting_at_step)
        self.decay = decay
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step
        self.warmup = warmup

    def should_update(self, step_idx: int) -> bool:
        """Return True after every ``update_every_n_steps``-th step from ``update_starting_at_step`` on."""
        return step_idx >= (self.update_starting_at_step or 0) and step_idx % self.update_every_n_steps == 0

    def averaging_function(self) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
        """Return the moving average of ``decay``, with its warm-up."""
        if self.warmup:
            return self._warming_up
        function: Callable[[Tensor, Tensor, Tensor | int], Tensor] = get_ema_avg_fn(self.decay)  # type: ignore[no-untyped-call]
        return function

    def _warming_up(self, average: Tensor, weights: Tensor, updates: Tensor | int) -> Tensor:
        # What `updates` counts came before this one. The new share is computed itself, not as 1 less a rounded decay.
        new = (9 / (11 + torch.as_tensor(updates))).clamp(min=1 - self.decay)
        return (1 - new) * average + new * weights
