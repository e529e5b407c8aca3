"""Send pictures to the loggers that show any: Weights & Biases and TensorBoard."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from lightning.pytorch import Trainer

from lightning_advdrop._lightning import logged_step


def is_kind_of(logger: object, *names: str) -> bool:
    """Tell loggers by the names of their classes, since Lightning's two packages have a class each.

    Example:
        >>> is_kind_of(ValueError(), "WandbLogger", "Exception")
        True
    """
    return any(base.__name__ in names for base in type(logger).__mro__)


def picture_loggers(trainer: Trainer) -> list[Any]:
    """Return the trainer's loggers that show pictures."""
    return [each for each in trainer.loggers if is_kind_of(each, "WandbLogger", "TensorBoardLogger")]


def send_picture(trainer: Trainer, name: str, png: bytes) -> None:
    """Send a picture to the loggers that show any.

    Args:
        trainer: the trainer, whose step the picture belongs to.
        name: under which name it is shown.
        png: the content of a PNG file.
    """
    loggers, step = picture_loggers(trainer), logged_step(trainer)
    if not loggers:
        return
    from PIL import Image

    image = Image.open(io.BytesIO(png))
    for logger in loggers:
        if is_kind_of(logger, "WandbLogger"):
            logger.log_image(name, [image], step=step)
        else:
            logger.experiment.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")
