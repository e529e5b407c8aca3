"""Fraternal dropout's supervised loss is the mean of both passes', whatever the model predicts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_advdrop import FraternalDropoutCallback
from lightning_advdrop.nn import MaskedLSTM
from lightning_advdrop.regularizers import FraternalDropout, Passes
from tests.helpers.plain_models import quiet_trainer

BATCH, STEPS, FEATURES = 6, 5, 3
Loss = Callable[[Tensor, Tensor], Tensor]


class Predictor(nn.Module):
    """A prediction ``(B, outputs)`` of a sequence, or ``(B, outputs, T)`` with classes in front of the steps."""

    def __init__(self, outputs: int, steps: bool = False) -> None:
        super().__init__()
        self.rnn, self.out, self.steps = nn.LSTM(FEATURES, 8, batch_first=True), nn.Linear(8, outputs), steps

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.rnn(x)
        found: Tensor = self.out(outputs)
        return found.transpose(1, 2) if self.steps else found[:, -1]


def cases() -> dict[str, tuple[Predictor, Loss, Tensor]]:
    torch.manual_seed(0)
    return {
        "classes": (Predictor(3), F.cross_entropy, torch.randint(3, (BATCH,))),
        "some without a label": (Predictor(3), F.cross_entropy, torch.tensor([0, -100, 2, -100, 1, 1])),
        "classes before steps": (Predictor(4, steps=True), F.cross_entropy, torch.randint(4, (BATCH, STEPS))),
        "numbers": (Predictor(2), F.mse_loss, torch.randn(BATCH, 2)),
        "several labels": (
            Predictor(4),
            # Summed over the labels, as the package's own loss: the mean over them is a weight.
            lambda p, y: 4 * F.binary_cross_entropy_with_logits(p, y.float()),
            torch.randint(2, (BATCH, 4)),
        ),
    }


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_the_loss_is_the_mean_of_both(name: str, weight: float) -> None:
    model, loss, target = cases()[name]
    x, method = torch.randn(BATCH, STEPS, FEATURES), FraternalDropout(rate=0.4)
    passes = method.first_pass(lambda: model(x), model, target=target)
    others: list[Tensor] = []

    class Watched(Passes):
        def run(self, *args: Any, **more: Any) -> Tensor:
            others.append(super().run(*args, **more))
            return others[-1]

    arguments = {name: getattr(passes, name) for name in ("recorded", "forward", "result", "target", "generator")}
    term = method.evaluate(Watched(**arguments)).weighted(weight)
    (other,) = others
    total = loss(passes.base, target) + term
    both = (loss(passes.base, target) + loss(other, target)) / 2
    torch.testing.assert_close(total, both + weight * (passes.base - other).square().mean())
    assert not torch.allclose(loss(passes.base, target), loss(other, target))


def test_half_of_a_loss_of_the_models_own_is_left_where_it_is_known() -> None:
    model, _, target = cases()["classes"]
    x, method = torch.randn(BATCH, STEPS, FEATURES), FraternalDropout(rate=0.4)
    passes = method.first_pass(lambda: model(x), model, target=target)
    own = F.multi_margin_loss(passes.base, target)
    found = method.evaluate(replace(passes, loss=own, generator=torch.Generator().manual_seed(3))).supervised
    other = method.evaluate(replace(passes, generator=torch.Generator().manual_seed(3))).supervised
    assert found is not None
    assert other is not None
    second = 2 * other + F.cross_entropy(passes.base, target)
    torch.testing.assert_close(own + found, (own + second) / 2)


class Module(L.LightningModule):
    """Knows nothing of regularizers, and keeps the gradient that it is trained by."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Predictor(3)
        self.gradient = torch.zeros(())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.model(batch[0]), batch[1])

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.gradient = torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_callback_trains_on_the_mean_of_both() -> None:
    """With a weight close to 0, the gradient of a step is the mean of those of the two masks' losses."""
    torch.manual_seed(0)
    x, y, module = torch.randn(BATCH, STEPS, FEATURES), torch.randint(3, (BATCH,)), Module()
    callback, masks = FraternalDropoutCallback(rate=0.4, weight=1e-12), []
    draw = callback.regularizer.random_mask

    def watched(*args: Any) -> Any:
        masks.append(draw(*args))
        return masks[-1]

    vars(callback.regularizer)["random_mask"] = watched
    layer = MaskedLSTM(FEATURES, 8, batch_first=True)
    layer.load_state_dict(module.model.rnn.state_dict())
    head = copy.deepcopy(module.model.out)
    quiet_trainer(max_steps=1, callbacks=[callback]).fit(module, DataLoader(TensorDataset(x, y), BATCH))
    first, second = (head(layer(x, recurrent_mask=mask)[0][:, -1]) for mask in masks)
    both = (F.cross_entropy(first, y) + F.cross_entropy(second, y)) / 2
    parameters = [*layer.parameters(), *head.parameters()]
    expected = torch.autograd.grad(both, parameters)
    torch.testing.assert_close(module.gradient, torch.cat([each.flatten() for each in expected]), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(first, second)


def test_without_it_no_labels_are_needed_and_nothing_is_added() -> None:
    model, _, _ = cases()["classes"]
    x, method = torch.randn(BATCH, STEPS, FEATURES), FraternalDropout(rate=0.4, both_losses=False)
    assert method.evaluate(method.first_pass(lambda: model(x), model)).supervised is None
    assert not method.needs_target
