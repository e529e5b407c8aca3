"""Modules that `torch.compile` returned. The backend `eager` traces like any other and needs no C++ compiler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback
from tests.helpers.plain_models import CLASSES, FEATURES, Delegating, PlainModel, QuietModel, fitted_weights, seeded


@pytest.fixture(autouse=True)
def _compile_afresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Outer(L.LightningModule):
    def __init__(self, *, compiled: bool) -> None:
        super().__init__()
        network = QuietModel()
        self.network: Any = torch.compile(network, backend="eager") if compiled else network

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class DelegatingModel(Delegating, QuietModel):
    pass


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))


def test_a_compiled_submodule_is_the_original_to_the_callback() -> None:
    callback = AdversarialDropoutCallback(rate=0.2)
    compiled = fitted_weights(seeded(Outer, compiled=True), callback)
    assert callback.sites[0].layer == "network._orig_mod.lstm"
    assert same(compiled, fitted_weights(seeded(Outer, compiled=False), AdversarialDropoutCallback(rate=0.2)))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # tracing's own
@pytest.mark.parametrize("factory", [PlainModel, DelegatingModel])
def test_a_compiled_lightning_module(factory: type[L.LightningModule]) -> None:
    compiled: Any = torch.compile(seeded(factory), backend="eager")
    found = fitted_weights(compiled, AdversarialDropoutCallback(rate=0.2))
    uncompiled = fitted_weights(seeded(factory), AdversarialDropoutCallback(rate=0.2))
    assert same(found, uncompiled)
    assert not same(uncompiled, fitted_weights(seeded(factory)))


class LastStep(nn.Module):
    """A cell, which torch compiles, in contrast to whole recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(FEATURES, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Any:
        state = (x.new_zeros(len(x), 8), x.new_zeros(len(x), 8))
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0])


def test_nothing_is_compiled_with_the_callback_and_everything_without() -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(1)
        return graph.forward

    def fitted(*callbacks: L.Callback) -> int:
        graphs.clear()
        torch._dynamo.reset()
        model = seeded(Outer, compiled=False)
        model.network = torch.compile(LastStep(), backend=backend)
        fitted_weights(model, *callbacks)
        return len(graphs)

    assert fitted() > 0
    assert fitted(AdversarialDropoutCallback(rate=0.0)) > 0
    assert fitted(AdversarialDropoutCallback(rate=0.2)) == 0
