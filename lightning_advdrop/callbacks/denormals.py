"""Denormal numbers on the CPU."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_info


def flush_denormals(device: torch.device) -> None:
    """Makes the CPU treat denormal numbers as zero, and says so the first time.

    Gradients through hundreds of steps shrink until they are denormal, and arithmetic with such numbers takes a
    CPU many times longer. The setting reaches threads that have been started already (with torch 2.13 and OpenMP), so
    it may be turned on at any time. It stays on for the process.

    Args:
        device: where the training runs; nothing happens on anything but a CPU.
    """
    probe = torch.tensor([1e-40])
    if device.type != "cpu" or not (probe * 0.5).view(torch.int32).item():
        return
    if torch.set_flush_denormal(True):
        rank_zero_info(
            "Denormal numbers are flushed to zero from here on, which gradients through long sequences need to be fast "
            "on the CPU; torch.set_flush_denormal(False) turns this off."
        )
