"""CUDA graphs of masked layers: the same numbers as launching each kernel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.nn import MaskedGRU, MaskedLSTM, MaskedRNN, graphs
from lightning_advdrop.nn.graphs import GRAPHS, GraphCache, cuda_graphs

LAYERS = {"lstm": MaskedLSTM, "gru": MaskedGRU, "tanh": MaskedRNN}


def test_on_the_cpu_functions_are_just_called() -> None:
    cache = GraphCache()
    x = torch.ones(2)
    assert all(cache("same", lambda given: [given], [x])[0] is x for _ in range(3))


def test_the_context_restores_what_was_set() -> None:
    with cuda_graphs(False):
        assert not GRAPHS.enabled
        with cuda_graphs(True):
            assert GRAPHS.enabled
        assert not GRAPHS.enabled
    assert GRAPHS.enabled


def test_what_cannot_be_captured_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", refuse)
    assert graphs._capture(lambda x: [x], [torch.ones(1)], None) is None


def test_the_number_of_graphs_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = GraphCache()
    monkeypatch.setattr(graphs, "_capture", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    for number in range(3 * graphs._MAX_GRAPHS):
        for _ in range(2):
            cache._graph((number, "stream", ()), lambda x: [x], [torch.ones(1)])
    assert len(cache._graphs) == graphs._MAX_GRAPHS
    assert next(iter(cache._graphs))[0] == 2 * graphs._MAX_GRAPHS  # type: ignore[index] # the ones used last stay
    cache.clear()
    assert not cache._graphs


def test_graphs_leave_the_memory_to_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, x = GraphCache(), [torch.ones(1)]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=1000))
    small, large = (graphs._Graph(None, [], [], size) for size in (60, 101))  # type: ignore[arg-type]
    assert cache._fitting(small, x) is small
    assert cache._fitting(large, x) is None
    cache._graphs["other"] = small
    assert cache._fitting(small, x) is None


def results(layer: Any, x: Tensor, mask: Tensor, **given: Any) -> list[Tensor]:
    """The output of a layer and the gradients of everything that has one."""
    x, mask = x.clone().requires_grad_(), mask.clone().requires_grad_()
    output = layer(x, recurrent_mask=mask, **given)[0]
    grads = torch.autograd.grad(output.square().sum(), [x, mask, *layer.parameters()])
    return [output.detach(), *grads]


@pytest.mark.gpu
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_graphs_give_what_single_launches_give(kind: str, per_step: bool) -> None:
    torch.manual_seed(0)
    GRAPHS.clear()
    layer = LAYERS[kind](3, 5).double().cuda()
    kept = []
    for number in range(8):
        steps = (6, 9)[number % 2]  # two shapes in turn, and new numbers each time
        x = torch.randn(steps, 4, 3, dtype=torch.float64, device="cuda")
        mask = torch.randn(*([steps] if per_step else []), 4, 5, dtype=torch.float64, device="cuda")
        found = results(layer, x, mask)
        with cuda_graphs(True):
            GRAPHS.enabled = False
            expected = results(layer, x, mask)
        kept.append((found, expected))
    # All at the end: a later call must not write over what an earlier one returned.
    for found, expected in kept:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    captured = list(GRAPHS._graphs.values())
    assert len(captured) == 4  # forward and backward of each shape
    assert all(graph is not None for graph in captured)


@pytest.mark.gpu
def test_a_search_that_asks_for_the_masks_gradient_alone_has_a_graph_of_its_own() -> None:
    GRAPHS.clear()
    torch.manual_seed(0)
    layer = MaskedLSTM(3, 5).double().cuda()
    x = torch.randn(6, 4, 3, dtype=torch.float64, device="cuda")
    gradients = []
    for _ in range(3):
        mask = torch.ones(4, 5, dtype=torch.float64, device="cuda").requires_grad_()
        output = layer(x, recurrent_mask=mask)[0]
        gradients.append(torch.autograd.grad(output.square().sum(), mask, retain_graph=True)[0])
        torch.autograd.grad(output.sum(), list(layer.parameters()))
    assert torch.allclose(gradients[0], gradients[2])
    assert len(GRAPHS._graphs) == 3


@pytest.mark.gpu
def test_another_precision_of_products_has_graphs_of_its_own() -> None:
    GRAPHS.clear()
    layer, x, mask = MaskedGRU(3, 5).cuda(), torch.randn(6, 4, 3, device="cuda"), torch.ones(4, 5, device="cuda")
    before = torch.get_float32_matmul_precision()
    try:
        for precision, graphs_held in (("highest", 2), ("high", 4), ("highest", 4)):
            torch.set_float32_matmul_precision(precision)
            for _ in range(2):
                results(layer, x, mask)
            assert len(GRAPHS._graphs) == graphs_held
    finally:
        torch.set_float32_matmul_precision(before)
