"""Every method with logits at the ends of the ranges of numbers, with sizes of 1, and with gradients accumulated."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_advdrop import (
    AdversarialDropoutCallback,
    RandomPerturbationCallback,
    RegularizerCallback,
    TerminateOnNaN,
    VirtualAdversarialCallback,
)
from lightning_advdrop.regularizers import AdversarialDropout, FraternalDropout
from tests.callbacks.test_family import every_callback, make
from tests.helpers.plain_models import CLASSES, FEATURES, PlainModel, QuietModel, learnable_data, quiet_trainer, seeded


class Loud(PlainModel):
    """Has very large logits, whose order masks change."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.head.bias.data.zero_()

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * self.factor

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


extreme_logits = pytest.mark.parametrize(
    ("precision", "factor"), [("32-true", 1e4), ("32-true", 1e30), ("bf16-mixed", 1e4)]
)
ignoring_anomaly_mode = pytest.mark.filterwarnings(
    "ignore:Anomaly Detection has been enabled", "ignore:TF32 acceleration on top of oneDNN"
)


@ignoring_anomaly_mode
@extreme_logits
@every_callback
def test_extreme_logits_give_finite_penalties_and_weights_or_are_named(
    callback: type[RegularizerCallback], precision: Any, factor: float
) -> None:
    strong = {"epsilon": 30.0} if issubclass(callback, RandomPerturbationCallback) else {}
    # Where the prediction is certain, the gradient by which a perturbation or a mask is searched is zero.
    by_gradient = issubclass(callback, VirtualAdversarialCallback | AdversarialDropoutCallback)
    check_extreme_logits(make(callback, **strong), precision, factor, finds=not (factor == 1e30 and by_gradient))


@ignoring_anomaly_mode
@extreme_logits
def test_a_probe_finds_something_where_the_prediction_is_certain(precision: Any, factor: float) -> None:
    method = make(AdversarialDropoutCallback, search="gradient", share_masks=False)
    check_extreme_logits(method, precision, factor, finds=True)


def check_extreme_logits(method: RegularizerCallback, precision: Any, factor: float, *, finds: bool) -> None:
    """In anomaly mode, where torch names the first gradient that is NaN; the squares of 1e30 are infinite."""
    model, found = seeded(Loud), []
    model.factor = factor
    method.listeners.append(lambda penalty: found.append(penalty.value.item()))
    data = DataLoader(TensorDataset(*learnable_data()), batch_size=64)
    options: dict[str, Any] = {"max_steps": 1, "max_epochs": -1, "precision": precision, "detect_anomaly": True}
    # oneDNN's own LSTM trains in bfloat16 only on CPUs that have instructions for it.
    with torch.backends.mkldnn.flags(enabled=False):
        try:
            quiet_trainer(callbacks=[method, TerminateOnNaN()], **options).fit(model, data)
        except FloatingPointError:
            assert factor == 1e30
            assert getattr(method.regularizer, "divergence", "") == "mse_logits"
        else:
            assert len(found) == 1
            assert math.isfinite(found[0])
            assert (found[0] != 0) == (method.regularizer.compares and finds)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


class Reader(nn.Module):
    """The last output of a layer, as logits."""

    def __init__(self, layer: Any, hidden: int) -> None:
        super().__init__()
        self.layer = layer(FEATURES, hidden, batch_first=True)
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.layer(x)[0][:, -1])


LAYERS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}
SIZES = {"batch": (1, 5, 6), "sequence": (4, 1, 6), "hidden": (4, 5, 1), "all": (1, 1, 1)}
each_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


@each_layer
@every_callback
def test_sizes_of_one(callback: type[RegularizerCallback], layer: Any) -> None:
    method = make(callback)
    for name, (batch, steps, hidden) in SIZES.items():
        torch.manual_seed(2)
        model = Reader(layer, hidden)
        x, y = torch.randn(batch, steps, FEATURES), torch.randint(CLASSES, (batch,))
        base, penalty = method.regularizer(lambda model=model, x=x: model(x), model, method.site_specs, target=y)
        assert base.shape == (batch, CLASSES)
        (F.cross_entropy(base, y) + penalty).backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert penalty.isfinite(), name
        if not isinstance(method.regularizer, FraternalDropout):  # which adds the difference of two losses
            assert penalty > -1e-7, name  # a divergence of 0, rounded
        assert all(gradient.isfinite().all() for gradient in gradients), name


@each_layer
@pytest.mark.parametrize(("steps", "hidden"), [(5, 6), (1, 6), (5, 1)])
def test_the_penalty_of_a_batch_is_the_mean_of_those_of_its_examples(layer: Any, steps: int, hidden: int) -> None:
    torch.manual_seed(2)
    model, method = Reader(layer, hidden), AdversarialDropout(rate=0.3, divergence="ce")
    x, y = torch.randn(4, steps, FEATURES), torch.randint(CLASSES, (4,))

    def penalty(rows: slice) -> float:
        return float(method(lambda: model(x[rows]), model, "recurrent", target=y[rows])[1].detach())

    singles = [penalty(slice(row, row + 1)) for row in range(4)]
    assert penalty(slice(4)) == pytest.approx(sum(singles) / 4, rel=1e-5)


def by_hand(method: RegularizerCallback, batches: list[list[Tensor]], accumulate: int) -> dict[str, Tensor]:
    """The weights after a loop in plain torch, with the gradients of ``accumulate`` batches, or the rest, in a step."""
    model = seeded(QuietModel)
    optimizer = model.configure_optimizers()
    generator = torch.Generator().manual_seed(torch.initial_seed())
    for number, (x, y) in enumerate(batches, start=1):
        base, penalty = method.regularizer(
            lambda x=x: model(x), model, method.site_specs, target=y, generator=generator
        )
        ((F.cross_entropy(base, y) + penalty) / accumulate).backward()
        if number % accumulate == 0 or number == len(batches):
            optimizer.step()
            optimizer.zero_grad()
    state: dict[str, Tensor] = model.state_dict()
    return state


@every_callback
def test_gradients_of_a_short_last_batch_are_accumulated(callback: type[RegularizerCallback]) -> None:
    """Batches of 4, 4 and 2, two for each step; Lightning divides by two for the last one, too."""
    data = DataLoader(TensorDataset(*learnable_data(10)), batch_size=4)
    model: L.LightningModule = seeded(QuietModel)
    quiet_trainer(callbacks=[make(callback)], max_epochs=1, accumulate_grad_batches=2).fit(model, data)
    expected = by_hand(make(callback), list(data), accumulate=2)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
