"""Choose how many threads compute an experiment on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn

from lightning_advdrop.cli.checking import is_ours

SMALL = 256
"""Recurrent layers with fewer units than this are computed by one thread."""

_LAYERS = (nn.RNNBase, nn.RNNCellBase)
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def recurrent_size(model: nn.Module) -> int | None:
    """Return the units of the largest recurrent layer of a model; None where there is none.

    Of a LightningModule that makes its layers in ``configure_model``, it is the hyperparameter ``hidden_size``.

    Example:
        >>> recurrent_size(nn.Sequential(nn.LSTM(4, 8), nn.GRU(8, 16))), recurrent_size(nn.Linear(1, 1))
        (16, None)
    """
    sizes = [int(part.hidden_size) for part in model.modules() if isinstance(part, _LAYERS)]
    later = isinstance(model, LightningModule) and type(model).configure_model is not LightningModule.configure_model
    settings: Any = model.hparams if later else {}
    if not sizes and isinstance(settings, Mapping) and isinstance(settings.get("hidden_size"), int):
        sizes = [settings["hidden_size"]]
    return max(sizes, default=None)


def is_recurrent(model: nn.Module) -> bool:
    """Return whether recurrent layers compute most of a model: it is of this package, or most of its parameters do.

    Example:
        >>> is_recurrent(nn.LSTM(4, 8)), is_recurrent(nn.Sequential(nn.Linear(1000, 10), nn.LSTM(10, 8)))
        (True, False)
    """
    within = [part for layer in model.modules() if isinstance(layer, _LAYERS) for part in layer.parameters()]
    return is_ours(type(model)) or 2 * _size(within) > _size(model.parameters())


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(each.numel() for each in parameters if not isinstance(each, nn.UninitializedParameter))


def one_thread_for(model: nn.Module) -> str | None:
    """Let one thread compute, if a model is recurrent, its layers are small and no variable names a number.

    A recurrent layer's steps come one after another, so threads share one step. With few units they wait for each other
    most of the time, and on a machine with other work they are slower than one thread. *Environment* in the
    documentation has the times.

    Args:
        model: what is trained on the CPU.

    Returns:
        A sentence that says so; None where nothing changes.
    """
    size, threads = recurrent_size(model) if is_recurrent(model) else None, torch.get_num_threads()
    if size is None or size >= SMALL or threads == 1 or any(os.environ.get(name) for name in _VARIABLES):
        return None
    torch.set_num_threads(1)
    return (
        f"One thread computes instead of {threads}, since no recurrent layer has {SMALL} units or more; "
        "OMP_NUM_THREADS sets another number."
    )
