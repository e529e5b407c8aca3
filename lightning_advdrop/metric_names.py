"""Tell by its name whether the higher or the lower values of a metric are better."""

from __future__ import annotations

from typing import Literal

STEP = "_step"
"""The end of the name of a metric of single steps; its mean over an epoch has the name without it."""

_LOWER_ENDINGS = ("error", "error_rate", "loss", "perplexity", "brier", "mae", "mse", "ppl")
_HIGHER_ENDINGS = ("accuracy", "f1", "auroc", "precision", "recall", "acc", "auc", "bleu")


def metric_name(metric: str) -> str:
    """Return the name of a metric without its stage, and without the end for single steps.

    Example:
        >>> metric_name("val/error_rate"), metric_name("train/loss_step")
        ('error_rate', 'loss')
    """
    return metric.rpartition("/")[2].removesuffix(STEP)


def better(metric: str) -> Literal["min", "max"] | None:
    """Return which values of a metric are better; None where its name doesn't tell.

    Example:
        >>> better("val/accuracy"), better("test/perplexity"), better("advdrop/flip_rate")
        ('max', 'min', None)
    """
    name = metric_name(metric)
    return "min" if name.endswith(_LOWER_ENDINGS) else "max" if name.endswith(_HIGHER_ENDINGS) else None
