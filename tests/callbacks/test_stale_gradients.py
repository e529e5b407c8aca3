"""Gradients of the step before are free while a step makes other passes, unless something may look at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import nn

from lightning_advdrop import AdversarialDropoutCallback
from tests.helpers.early import APART, Classifier, data
from tests.helpers.plain_models import quiet_trainer


class Watching(Classifier):
    """Has a parameter that no loss depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.apart = nn.Parameter(torch.zeros((), dtype=torch.float64))


class OwnClearing(Watching):
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        optimizer.zero_grad()


class Hook(Watching):
    def on_before_zero_grad(self, optimizer: Any) -> None:
        """Do nothing."""


class HookOfCallback(L.Callback):
    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Do nothing."""


class Keeping(torch.optim.SGD):
    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none=False)


class OwnOptimizer(Watching):
    def configure_optimizers(self) -> Any:
        return Keeping(self.parameters(), lr=0.1)


class Changed(Watching):
    """Changes how its optimizer clears gradients."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]
        return optimizer


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bool]]:
    """Whether there are no gradients when other passes are made, in each of two steps."""
    told: list[bool] = []
    term = AdversarialDropoutCallback.term

    def watched(callback: Any, pl_module: Any, calls: Any) -> Any:
        told.append(pl_module.head.bias.grad is None)
        return term(callback, pl_module, calls)

    def run(model: Callable[[], L.LightningModule], *callbacks: L.Callback, **settings: Any) -> list[bool]:
        accumulated = settings.pop("accumulate_grad_batches", 1)
        own = AdversarialDropoutCallback(rate=0.3, **settings)
        trainer = quiet_trainer(
            callbacks=[own, *callbacks], max_epochs=1, limit_train_batches=2, accumulate_grad_batches=accumulated
        )
        trainer.fit(model(), data())
        return told

    monkeypatch.setattr(AdversarialDropoutCallback, "term", watched)
    return run


@pytest.mark.parametrize("settings", [{}, APART, {"detach_base": False}])
def test_they_are_freed_before_other_passes(freed: Any, settings: dict[str, Any]) -> None:
    assert freed(Watching, **settings) == [True, True]


@pytest.mark.parametrize("model", [OwnClearing, Hook, OwnOptimizer, Changed])
def test_they_are_kept_where_the_model_has_a_say(freed: Any, model: Any) -> None:
    assert freed(model) == [True, False]


@pytest.mark.parametrize("callback", [HookOfCallback, lambda: LambdaCallback(on_before_zero_grad=lambda *_: None)])
def test_they_are_kept_where_a_callback_may_look(freed: Any, callback: Any) -> None:
    assert freed(Watching, callback()) == [True, False]


def test_they_are_kept_where_gradients_are_accumulated(freed: Any) -> None:
    assert freed(Watching, accumulate_grad_batches=2) == [True, False]


def test_they_are_kept_where_no_other_pass_is_made(freed: Any) -> None:
    assert freed(Watching, weight=0.0) == [True, False]


class Partly(Watching):
    """Trains its head alone; a gradient that is not cleared stays."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.head.parameters(), lr=0.1)

    def on_train_start(self) -> None:
        self.apart.grad = torch.ones((), dtype=torch.float64)


def test_a_parameter_that_no_optimizer_has_keeps_its_gradient(freed: Any) -> None:
    model = Partly()
    assert freed(lambda: model) == [True, True]
    assert model.apart.grad is not None
    assert model.apart.grad.item() == 1
