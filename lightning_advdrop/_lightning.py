"""Every touch of Lightning that its documentation doesn't promise, one function for each.

Each function first does what is public, or has a fallback, or raises an error that names the release it was tried with.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, TypeVar

import lightning
import lightning.pytorch.callbacks
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

_Module = TypeVar("_Module", bound=LightningModule)


def attached_trainer(pl_module: LightningModule) -> Trainer | None:
    """Return the trainer that a module is attached to; None if there is none, and under Fabric.

    Args:
        pl_module: a module of `lightning.pytorch` or of `pytorch_lightning`.

    Example:
        >>> attached_trainer(LightningModule()) is None
        True
    """
    if pl_module.fabric is not None:  # `trainer` would be a stand-in with few of a trainer's attributes
        return None
    try:
        trainer: Trainer | None = pl_module.trainer
    except RuntimeError:  # how `trainer` says that there is none
        return None
    return trainer


def has_own_backward(pl_module: LightningModule) -> bool:
    """Tell whether a module propagates its loss back in a way of its own.

    Args:
        pl_module: a module of `lightning.pytorch` or of `pytorch_lightning`.

    Example:
        >>> has_own_backward(LightningModule())
        False
    """
    return is_overridden(pl_module, "backward")


def is_overridden(hooked: LightningModule | Callback, name: str) -> bool:
    """Tell whether a module or callback has a hook of its own in place of Lightning's.

    Args:
        hooked: a module or callback of either package.
        name: the hook.

    Example:
        >>> is_overridden(LightningModule(), "on_before_zero_grad")
        False
    """
    where = getattr(getattr(hooked, name), "__module__", "")
    return name in vars(hooked) or where.partition(".")[0] not in {"lightning", "pytorch_lightning"}


def trainer_callbacks(trainer: Trainer | None) -> list[Any]:
    """Return the callbacks of a trainer, in its order; none without a trainer.

    Args:
        trainer: a trainer of either package.

    Example:
        >>> [type(each).__name__ for each in trainer_callbacks(Trainer(logger=False, accelerator="cpu"))][-1]
        'ModelCheckpoint'
    """
    # Set in the constructor of a trainer without being declared.
    return list(getattr(trainer, "callbacks", ()))


def trainer_datamodule(trainer: Trainer | None) -> Any:
    """Return the data module of a trainer; None if it has none.

    Args:
        trainer: a trainer of either package.

    Example:
        >>> trainer_datamodule(None) is None
        True
    """
    return getattr(trainer, "datamodule", None)


def logged_step(trainer: Trainer) -> int:
    """Return the step under which Lightning logs metrics: a batch counts once, however many optimizers it steps.

    Args:
        trainer: a trainer of either package.

    Example:
        >>> logged_step(Trainer(logger=False, accelerator="cpu"))
        0
    """
    # `global_step` is the same number unless there are several optimizers.
    return int(getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", trainer.global_step))


def checkpoint_callbacks(trainer: Trainer) -> list[Any]:
    """Return the trainer's callbacks of Lightning's ``ModelCheckpoint``, which keep the best models.

    Args:
        trainer: a trainer of either package.

    Example:
        >>> [type(each).__name__ for each in checkpoint_callbacks(Trainer(logger=False, accelerator="cpu"))]
        ['ModelCheckpoint']
    """
    # By its attributes, since each package has a class of its own.
    return [each for each in trainer_callbacks(trainer) if hasattr(each, "best_k_models") and hasattr(each, "dirpath")]


def finish_saved_epoch(trainer: Trainer) -> None:
    """Let a resumed fit begin the next epoch, if its checkpoint was saved at the end of one.

    With ``max_steps`` Lightning takes each checkpoint for one within an epoch. It would end the finished epoch a second
    time, and tell samplers the number after the right one from then on.

    Args:
        trainer: the trainer, when the fit starts.
    """
    loop: Any = trainer.fit_loop
    if getattr(loop, "restarted_on_epoch_end", False):  # known from Lightning 2.5 on
        loop.epoch_progress.increment_completed()
        loop.epoch_loop.restarting = False
        loop.on_iteration_done()


def count_saved_batch(trainer: Trainer) -> None:
    """Let a resumed fit count the batch at whose end its checkpoint was saved, as Lightning does from 2.5 on.

    Lightning 2.4 takes that batch for one that failed: it would give its number to the next one, and end the epoch
    without its last validation.

    Args:
        trainer: the trainer, when the fit starts.
    """
    loop: Any = getattr(trainer.fit_loop, "epoch_loop", None)
    if not getattr(loop, "restarting", False) or hasattr(loop, "restarted_on_train_batch_end"):
        return
    counts = loop.batch_progress.current
    if counts.completed < counts.processed:
        loop.batch_progress.increment_completed()
        # A validation that is due is run first, and counts the step.
        if not loop._should_accumulate() and not loop._should_check_val_fx(trainer.fit_loop._data_fetcher):
            loop._batches_that_stepped += 1


def schedule_once(trainer: Trainer) -> None:
    """Keep Lightning 2.4 from stepping learning rate schedulers twice at the end of an epoch that was resumed.

    Args:
        trainer: the trainer, at the end of a training epoch.
    """
    loop: Any = trainer.fit_loop
    if not hasattr(loop, "restarted_on_epoch_end"):
        loop._restarting = False  # as the loop itself does a moment later; the property would restart inner loops


def attach(pl_module: LightningModule, trainer: Trainer, datamodule: LightningDataModule) -> None:
    """Let a module and a trainer know of each other and of the data, as at the beginning of a run.

    Args:
        pl_module: a module.
        trainer: its trainer, which runs nothing.
        datamodule: the trainer's data.
    """
    trainer.datamodule = datamodule  # type: ignore[attr-defined]
    pl_module.trainer = trainer


def drop_wandb_argument(logger: Any, name: str) -> None:
    """Keep Lightning's logger of Weights & Biases from handing on an argument that nobody gave.

    Lightning 2.6 names ``anonymous`` in each run, of which Weights & Biases then says that it has no effect.

    Args:
        logger: a ``WandbLogger`` of either package that has opened no run.
        name: the argument of ``wandb.init``.
    """
    arguments = getattr(logger, "_wandb_init", {})
    if arguments.get(name, 0) is None:
        del arguments[name]


def state_key(callback: Callback, **settings: Any) -> str:
    """Return the name of a callback's state in checkpoints, which tells callbacks of one class apart.

    Args:
        callback: the callback.
        settings: what tells it from others of its class.

    Example:
        >>> state_key(Callback(), monitor="val/loss")
        "Callback{'monitor': 'val/loss'}"
    """
    return f"{type(callback).__qualname__}{settings}"


def forget_average(callback: Callback) -> None:
    """Make Lightning's own weight averaging, which came with release 2.6, give a loaded checkpoint's averaged weights.

    While it holds the average of a fit, it takes every checkpoint that is loaded for one to be resumed, and would have
    the raw weights tested.

    Args:
        callback: any callback; only Lightning's ``WeightAveraging`` is changed.

    Raises:
        RuntimeError: if Lightning has renamed where it holds the average.
    """
    averaging = getattr(lightning.pytorch.callbacks, "WeightAveraging", None)
    if averaging is None or not isinstance(callback, averaging):
        return
    if not hasattr(callback, "_average_model"):
        raise RuntimeError(
            f"{type(callback).__name__} can't be made to forget its average in Lightning {lightning.__version__}; use "
            "lightning_advdrop.ExponentialAveraging, or Lightning 2.6."
        )
    callback._average_model = None


def reads_class_of_checkpoint(cli: type) -> bool:
    """Tell whether a LightningCLI can read the model's settings from a checkpoint whose model was named by its class.

    Releases of Lightning 2.5 refuse such settings.

    Args:
        cli: the class ``LightningCLI``, which needs the extra ``cli``.
    """
    method = getattr(cli, "_parse_ckpt_path", None)
    return method is not None and "_class_path" in method.__code__.co_consts


def load_module(kind: type[_Module], path: str | Path) -> _Module:
    """Load a module from a checkpoint onto the CPU.

    Nothing but weights and plain types is read. Lightning before 2.6 has no argument that says so: for it, the caller
    must have read the file with ``torch.load(path, weights_only=True)``, which refuses anything else.

    Args:
        kind: the class of the module.
        path: the checkpoint.
    """
    known = inspect.signature(LightningModule.load_from_checkpoint).parameters
    safe: dict[str, Any] = {"weights_only": True} if "weights_only" in known else {}
    return kind.load_from_checkpoint(path, map_location="cpu", **safe)
