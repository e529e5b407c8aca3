"""Sampling, rescaling and flipping binary dropout masks.

A mask holds ones (kept) and zeros (dropped). Its last dimension is a row, whose units share one budget of flips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_advdrop._ranges import check_range

Flips = Literal["both", "drop"]

# The largest relative error of a rate that was computed as a quotient or written as a decimal number, and of a product.
_ROUNDING = 1e-12


def flip_budget(rate: float, units: int) -> int:
    """Compute the most flips of a row, ``max(1, floor(rate * units))``, and 0 for a rate of 0 (Park et al. 2019).

    A product that is a whole number but for the rounding of the rate counts as that: 0.29 of 100 units are 29, not 28,
    and ``2 / 6`` of 6 units are 2.

    Args:
        rate: share of a row's units that may flip, in [0, 1].
        units: number of units of a row, at least 1.

    Raises:
        ValueError: if ``rate`` is not in [0, 1] or ``units`` is below 1.

    Example:
        >>> flip_budget(0.03, 100), flip_budget(0.001, 100), flip_budget(0.0, 100)
        (3, 1, 0)
    """
    check_range("in [0, 1]", rate=rate)
    check_range("at least 1", units=units)
    product = rate * units
    nearest = round(product)
    flips = nearest if math.isclose(product, nearest, rel_tol=_ROUNDING) else math.floor(product)
    return max(1, flips) if rate > 0 else 0


def sample_bernoulli(
    shape: Sequence[int],
    rate: float,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw a mask in which each unit is dropped with probability ``rate``, not rescaled.

    Args:
        shape: the mask's shape.
        rate: the probability of a zero, in [0, 1].
        generator: a CPU generator. Masks are drawn on the CPU and then moved, so that every device gets the same ones.
        device: the mask's device.
        dtype: the mask's type.

    Raises:
        ValueError: if ``rate`` is not in [0, 1].

    Example:
        >>> sample_bernoulli((2, 3), rate=0.0)
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """
    check_range("in [0, 1]", rate=rate)
    kept = torch.rand(tuple(shape), generator=generator) >= rate
    return kept.to(device=device, dtype=dtype)


def sample_one_drop(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw a mask of ones with one zero at a uniformly random place of each row.

    Args:
        shape: the mask's shape; the last dimension is a row.
        generator: a CPU generator.
        device: the mask's device.
        dtype: the mask's type.

    Example:
        >>> sample_one_drop((4, 10)).sum(-1)
        tensor([9., 9., 9., 9.])
    """
    return drop_one(torch.ones(*shape, dtype=dtype), generator=generator).to(device)


def drop_one(mask: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Drop one unit of each row, uniformly at random among those that the row keeps.

    Args:
        mask: binary, any shape; the last dimension is a row. A row without a kept unit stays as it is.
        generator: a CPU generator. The places are drawn on the CPU, so that every device gets the same ones.

    Returns:
        A new mask like ``mask``, without a gradient.

    Example:
        >>> drop_one(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """
    kept = (mask > 0).cumsum(-1)  # the number of kept units up to each place
    count = kept[..., -1:]
    rank = (torch.rand(count.shape, generator=generator, dtype=torch.float64).to(mask.device) * count).floor()
    dropped = (kept > rank).to(mask.dtype).argmax(-1, keepdim=True)  # the first place at which there are more than rank
    return mask.detach().scatter(-1, dropped, 0)


def rescale_mask(mask: Tensor) -> Tensor:
    """Multiply each row by ``units / kept``, so that the expected input of the next layer is unchanged.

    Differentiable with respect to the binary mask. A row without a kept unit stays zero.

    Args:
        mask: binary, any shape; the last dimension is a row.

    Returns:
        A tensor like ``mask``.

    Raises:
        ValueError: if ``mask`` is a scalar.

    Example:
        >>> rescale_mask(torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
        tensor([[2., 2., 0., 0.],
                [1., 1., 1., 1.]])
    """
    _check_rows(mask)
    kept = mask.sum(-1, keepdim=True).clamp_min(1)
    return mask * (mask.shape[-1] / kept)


def _check_rows(mask: Tensor) -> None:
    if mask.dim() == 0:
        raise ValueError("mask must have at least one dimension, its rows, got a scalar.")


def adversarial_flips(mask: Tensor, grad: Tensor, budget: int, flips: Flips = "both") -> Tensor:
    """Flip the units that raise a linearised objective most (Park et al. 2019).

    Flipping unit ``i`` changes ``mask[i]`` by ``s[i] = 1 - 2 mask[i]``, and the objective by ``grad[i] * s[i]`` to
    first order. Each row flips its at most ``budget`` units of the largest strictly positive gains. The result
    maximises the linear objective over all masks within the Hamming distance ``budget``. Ties at the boundary are
    broken arbitrarily.

    Args:
        mask: binary, any shape; the last dimension is a row.
        grad: the objective's gradient with respect to ``mask``, of the same shape.
        budget: the most flips of a row, at least 0; it may exceed the number of units.
        flips: ``both``, or ``drop`` for changes from 1 to 0 only.

    Returns:
        A new mask like ``mask``, without a gradient.

    Raises:
        ValueError: if the shapes differ, ``budget`` is negative, ``flips`` is unknown, or ``grad`` is not finite.

    Example:
        >>> mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
        >>> adversarial_flips(mask, torch.tensor([[-3.0, 2.0, -1.0, 2.0]]), budget=2)
        tensor([[0., 1., 1., 1.]])
        >>> adversarial_flips(mask, torch.tensor([[-3.0, 2.0, -1.0, 2.0]]), budget=2, flips="drop")
        tensor([[0., 1., 0., 0.]])
    """
    if mask.shape != grad.shape:
        raise ValueError(f"grad must have the shape of mask, {tuple(mask.shape)}, got {tuple(grad.shape)}.")
    _check_rows(mask)
    check_range("at least 0", budget=budget)
    if flips not in get_args(Flips):
        raise ValueError(f"flips must be one of {', '.join(get_args(Flips))}, got {flips!r}.")
    binary, grad = mask.detach().to(grad.dtype), grad.detach()
    if not torch.isfinite(grad).all():
        raise ValueError(
            "grad must be finite, got NaN or infinity: the model's output at the start mask is probably not finite "
            "either; lower the learning rate, clip gradients, or look for the layer that overflows."
        )
    change = 1 - 2 * binary
    gain = grad * change
    if flips == "drop":
        gain = torch.where(binary > 0, gain, 0)
    best = gain.topk(min(budget, mask.shape[-1]), dim=-1)
    flipped = torch.zeros_like(grad).scatter(-1, best.indices, (best.values > 0).to(grad.dtype))
    return (binary + flipped * change).to(mask.dtype)
