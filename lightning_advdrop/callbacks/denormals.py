"""Flush denormal numbers to zero on the CPU."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

# Enough elements for every thread of torch's pool to get a share of an operation.
_ELEMENTS_PER_THREAD = 2**16


def flush_denormals(device: torch.device) -> None:
    """Make the CPU treat denormal numbers as zero, and say so the first time.

    Gradients through hundreds of steps shrink until they are denormal, and a CPU computes with such numbers many times
    more slowly. The setting belongs to a thread and is inherited by the threads that it starts. torch starts its worker
    threads with the first large operation: if the setting comes later, a warning says what to do. It stays on for the
    process.

    Args:
        device: where the training runs; nothing happens on anything but a CPU.

    Example:
        >>> flush_denormals(torch.device("cpu"))
        >>> torch.tensor([1e-30]).square().item()
        0.0
    """
    if device.type != "cpu" or not _denormal_left(elements=1):
        return
    if not torch.set_flush_denormal(True):  # the CPU can't
        return
    rank_zero_info(
        "Denormal numbers are flushed to zero from here on, which gradients through long sequences need to be fast on "
        "the CPU; torch.set_flush_denormal(False) turns this off."
    )
    if _denormal_left(elements=_ELEMENTS_PER_THREAD * torch.get_num_threads()):
        rank_zero_warn(
            "Threads that torch had started before still compute with denormal numbers, which makes gradients through "
            "long sequences slow; call torch.set_flush_denormal(True) at the start of the program."
        )


def _denormal_left(elements: int) -> bool:
    """Tell whether arithmetic on this many numbers, by as many threads as that takes, leaves a denormal one."""
    smallest = torch.ones(elements, dtype=torch.int32).view(torch.float32)  # written as bits, for no thread to flush
    halved: Tensor = smallest * 1.0
    return bool(halved.view(torch.int32).any())
