"""What the fused cells of `lightning_advdrop._operators` compute, written out, for devices that don't have them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_advdrop import _operators


def lstm_cell(projected: Tensor, product: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    i, f, g, o = (projected + product).chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    new_c = f * c + i * g
    return o * new_c.tanh(), new_c, torch.cat([i, f, g, o], 1)


def lstm_cell_backward(
    grad_h: Tensor, grad_c: Tensor, c_prev: Tensor, c: Tensor, gates: Tensor
) -> tuple[Tensor, Tensor]:
    i, f, g, o = gates.chunk(4, 1)
    dc = grad_c + grad_h * o * (1 - c.tanh() ** 2)
    inner = dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * (1 - g**2), grad_h * c.tanh() * o * (1 - o)
    return torch.cat(inner, 1), dc * f


def gru_cell(projected: Tensor, product: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    (xr, xz, xn), (hr, hz, hn) = projected.chunk(3, 1), product.chunk(3, 1)
    r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
    n = (xn + r * hn).tanh()
    return n + z * (h - n), torch.cat([r, z, n, h, hn], 1)


def gru_cell_backward(grad_h: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r, z, n, h, hn = kept.chunk(5, 1)
    d_n = grad_h * (1 - z) * (1 - n**2)
    d_r, d_z = d_n * hn * r * (1 - r), grad_h * (h - n) * z * (1 - z)
    return torch.cat([d_r, d_z, d_n], 1), torch.cat([d_r, d_z, d_n * r], 1), grad_h * z


def use_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets masked layers on the CPU run on the fused kernels, with these cells."""
    monkeypatch.setattr(_operators, "has_fused_cells", lambda _: True)
    for cell in (lstm_cell, lstm_cell_backward, gru_cell, gru_cell_backward):
        monkeypatch.setattr(_operators, cell.__name__, cell)
