"""The base of all tasks: one order of making their parts, one way to evaluate, log and clip."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric, MetricCollection
from typing_extensions import Self

from lightning_advdrop._lightning import attached_trainer, trainer_datamodule
from lightning_advdrop.datamodules.labelled_documents import DocumentDataModule
from lightning_advdrop.tasks.checkpoints import check_shapes, check_whole, plain, read_checkpoint


class BaseTask(LightningModule, ABC):
    """Train, evaluate and log in one way; a task fills in its model, metrics, losses and optimizer.

    The parts are made in one order: the model, the metrics of each stage, and, when a fit begins, the optimizer. Losses
    and metrics are those of a whole epoch, over all processes. Gradients are clipped as the task's experiment was
    published, unless the trainer was told how to.
    """

    train_metrics: MetricCollection
    val_metrics: MetricCollection
    test_metrics: MetricCollection

    #: The largest norm of all gradients together; None leaves clipping to the trainer.
    clip_norm: float | None = None

    known_by: ClassVar[tuple[str, ...]] = ()
    """Names of weights that every checkpoint of this task has."""
    document_tasks: ClassVar[tuple[str, ...] | None] = None
    """Of data modules of documents, the values of ``task`` whose batches this task reads; None for any."""
    data_kind: ClassVar[str] = "other data"
    """The data that this task reads, for the message where it gets others."""

    # The blanks.

    @abstractmethod
    def make_model(self) -> None:
        """Make ``model``."""

    @abstractmethod
    def make_metrics(self) -> Mapping[str, Metric]:
        """Make the metrics of one stage, by the names that they are logged under."""

    @abstractmethod
    def evaluate(self, stage: str, batch: Any, batch_idx: int) -> None:
        """Compute the loss of a batch, and log it with the metrics.

        Args:
            stage: ``"val"`` or ``"test"``.
            batch: a batch of that split.
            batch_idx: its number, from 0.
        """

    def clip_as_published(self, optimizer: Optimizer) -> None:
        """Clip the gradients of an optimizer's parameters, whose step comes next: by default, the norm of all."""
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, self.clip_norm, "norm")

    # What all tasks share.

    @property
    def made(self) -> bool:
        """Tell whether the model has been made."""
        return hasattr(self, "model")

    def make_parts(self) -> None:
        """Make the model, and then the metrics."""
        self.make_model()
        self.train_metrics, self.val_metrics, self.test_metrics = (
            MetricCollection(dict(self.make_metrics()), prefix=f"{stage}/", compute_groups=False)
            for stage in ("train", "val", "test")
        )

    def reads(self, data: LightningDataModule) -> bool:
        """Tell whether the batches of a data module can be of this task: of documents, by what the batches are for."""
        return (
            self.document_tasks is None or not isinstance(data, DocumentDataModule) or data.task in self.document_tasks
        )

    def check_data(self) -> None:
        """Check that the trainer's data module, if there is one, is for this task.

        Raises:
            ValueError: if it is for another one.
        """
        data = trainer_datamodule(attached_trainer(self))
        if data is not None and not self.reads(data):
            raise ValueError(
                f"datamodule must be one of {self.data_kind} for {type(self).__name__}, got {type(data).__name__} with "
                f"task={getattr(data, 'task', None)!r}."
            )

    def setup(self, stage: str) -> None:
        """Check the data, see `check_data`."""
        self.check_data()

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Load a task as `lightning.pytorch.LightningModule.load_from_checkpoint` does, after checks of the file.

        Args:
            checkpoint_path: a file, or what else Lightning can open.
            args: others of Lightning's arguments.
            kwargs: the same, and settings of the task in place of the saved ones.

        Raises:
            MissingCheckpointError: if there is no such file.
            ValueError: if it is truncated or damaged, or a checkpoint of another task.
        """
        name, is_file = "checkpoint_path", isinstance(checkpoint_path, (str, os.PathLike))
        if is_file and "://" not in str(checkpoint_path):
            if kwargs.get("weights_only") is False:
                check_whole(name, Path(checkpoint_path))
            else:
                cls.check_kind(read_checkpoint(name, Path(checkpoint_path)), f"{name}={str(checkpoint_path)!r}")
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

    @classmethod
    def is_kind(cls, checkpoint: Mapping[str, Any]) -> bool:
        """Tell whether the content of a checkpoint can be of this task."""
        weights, settings = checkpoint.get("state_dict"), checkpoint.get("hyper_parameters", {})
        return isinstance(weights, dict) and isinstance(settings, dict) and {*cls.known_by} <= weights.keys()

    @classmethod
    def check_kind(cls, checkpoint: Mapping[str, Any], where: str) -> None:
        """Raise ``ValueError`` if the content of a checkpoint, which lies ``where``, is not of this task."""
        if not cls.is_kind(checkpoint):
            raise ValueError(f"{where} must be a checkpoint of {cls.__name__}, got one of another kind.")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep settings in plain types."""
        if "hyper_parameters" in checkpoint:
            checkpoint["hyper_parameters"] = plain(checkpoint["hyper_parameters"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that it is a checkpoint of this task and, where the network is made, of its settings.

        Raises:
            ValueError: if it is not.
        """
        self.check_kind(checkpoint, "ckpt_path")
        if self.made:
            check_shapes("ckpt_path", "settings", checkpoint["state_dict"], self.state_dict())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss and the metrics."""
        self.evaluate("val", batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss and the metrics."""
        self.evaluate("test", batch, batch_idx)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the trainer was told to, else as published."""
        if gradient_clip_val is None:
            self.clip_as_published(optimizer)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _log(self, stage: str, loss: Tensor, count: int, *observed: Any) -> None:
        """Log the loss and the metrics of an epoch, and the loss of single training steps.

        Args:
            stage: before the slash in the names.
            loss: the mean of a batch, a scalar.
            count: how many examples it is the mean of.
            observed: what the metrics are updated with.
        """
        loss, metrics = loss.detach(), getattr(self, f"{stage}_metrics")
        metrics.update(*observed)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        self.log_dict(metrics, on_step=False, on_epoch=True, prog_bar=stage == "val")
        if stage == "train":
            # An epoch of the full configurations takes long: its mean alone would say nothing until it ends.
            self.log("train/loss_step", loss, on_step=True, on_epoch=False, batch_size=count)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode; afterwards, each of its parts is in the mode that it was in.

    Example:
        >>> layers = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with evaluating(layers):
        ...     print(layers.training)
        False
        >>> [layer.training for layer in layers]
        [True, False]
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def clip_all_but_embeddings(module: nn.Module, norm: float) -> None:
    """Clip the norm of all gradients but those of embeddings, which stay as they are.

    Args:
        module: the module whose gradients have been computed.
        norm: the largest norm of the others together, above 0.

    Example:
        >>> words, layer = nn.Embedding(2, 1), nn.Linear(1, 1, bias=False)
        >>> words.weight.grad, layer.weight.grad = torch.full((2, 1), 8.0), torch.full((1, 1), 8.0)
        >>> clip_all_but_embeddings(nn.ModuleList([words, layer]), norm=1.0)
        >>> words.weight.grad.flatten(), layer.weight.grad.flatten()
        (tensor([8., 8.]), tensor([1.0000]))
    """
    embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    nn.utils.clip_grad_norm_([each for each in module.parameters() if id(each) not in embeddings], norm)


def decaying_adam(module: nn.Module, learning_rate: float, decay: float) -> dict[str, Any]:
    """Make Adam, whose rate is multiplied by ``decay`` after each step, as ``configure_optimizers`` returns it.

    Example:
        >>> sorted(decaying_adam(nn.Linear(1, 1), 1e-3, 0.9999))
        ['lr_scheduler', 'optimizer']
    """
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
