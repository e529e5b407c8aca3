"""The kernels with fused cells: on the CPU with cells that are written out, against the other kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.nn import LayerWeights, MaskedGRU, MaskedLSTM, gru_kernel, lstm_kernel
from lightning_advdrop.nn.fused_kernels import FusedGRUKernel, FusedLSTMKernel
from tests.helpers import fused_cells
from tests.helpers.masked_layers import KINDS, leaves, outputs

ragged = pytest.mark.parametrize("sizes", [[2, 2, 2], [4, 4, 2, 1, 1], [1]], ids=str)
each_kind = pytest.mark.parametrize("name", ["lstm", "gru"])


def results(name: str, sizes: list[int], **options: Any) -> list[Tensor]:
    """The outputs of a layer, and the gradients of everything that has one."""
    given = leaves(KINDS[name], sizes, **options)
    parts = outputs(KINDS[name], sizes, given)
    grads = torch.autograd.grad(
        [part.sin().sum() for part in parts], [tensor for tensor in given.values() if tensor.requires_grad]
    )
    return [*(part.detach() for part in parts), *grads]


@each_kind
@ragged
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("biases", [True, False])
def test_fused_cells_give_the_same_layer(
    monkeypatch: pytest.MonkeyPatch, name: str, sizes: list[int], per_step: bool, biases: bool
) -> None:
    expected = results(name, sizes, per_step=per_step, biases=biases)
    fused_cells.use_everywhere(monkeypatch)
    torch.testing.assert_close(results(name, sizes, per_step=per_step, biases=biases), expected, rtol=1e-11, atol=1e-12)


@each_kind
def test_a_search_has_the_masks_gradient_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected = results(name, [3, 2, 2], needed=["mask"])
    fused_cells.use_everywhere(monkeypatch)
    torch.testing.assert_close(results(name, [3, 2, 2], needed=["mask"]), expected, rtol=1e-11, atol=1e-12)


def test_a_projection_runs_on_the_other_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []
    monkeypatch.setattr(lstm_kernel, "run_layer", lambda _, kernel, *args: used.append(kernel))
    monkeypatch.setattr(gru_kernel, "run_layer", lambda _, kernel, *args: used.append(kernel))
    fused_cells.use_everywhere(monkeypatch)
    for name in ("lstm", "projected lstm", "gru"):
        kind = KINDS[name]
        given = leaves(kind, [2])
        states = tuple(given[state] for state in ("h0", "c0") if state in given)
        weights = LayerWeights(**{key: given[key] for key in LayerWeights._fields if key in given})
        kind.function(given["x"], [2], states, given["mask"], weights)
    assert used == [FusedLSTMKernel, lstm_kernel.LSTMKernel, FusedGRUKernel]


@pytest.mark.gpu
@pytest.mark.parametrize("layer_type", [MaskedLSTM, MaskedGRU])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_on_cuda_a_mask_of_ones_gives_the_stock_layer(layer_type: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = layer_type(6, 8).to("cuda", dtype)
    x = torch.randn(7, 4, 6, dtype=dtype, device="cuda").requires_grad_()
    ones = torch.ones(4, 8, dtype=dtype, device="cuda")
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2}[dtype]
    found, expected = layer(x, recurrent_mask=ones)[0], layer(x)[0]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    grads = [torch.autograd.grad(out.square().sum(), [x, *layer.parameters()]) for out in (found, expected)]
    torch.testing.assert_close(*grads, rtol=10 * tolerance, atol=10 * tolerance)
