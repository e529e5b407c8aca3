"""What is compared in a trainer: chosen by the module's own loss, said once, kept, and shared with the monitor."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor, RegularizerCallback
from lightning_advdrop.callbacks import RDropCallback, VariationalDropoutCallback
from lightning_advdrop.regularizers import Comparison, LossWatch, Penalty, Regularizer
from tests.helpers.family import CALLBACKS, REGULARIZERS, sites_of
from tests.helpers.forecasters import Delegating, Forecaster, Loss, data, fitted, last, penalty
from tests.helpers.messages import refused
from tests.helpers.plain_models import quiet_trainer

FUTURE = torch.randn(16, 12, generator=torch.Generator().manual_seed(3))
BINARY = torch.arange(16) % 2


def squares(p: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(p, y)


@pytest.mark.parametrize("model", [Forecaster, Delegating])
def test_a_forecast_is_compared_as_numbers(model: type[Forecaster]) -> None:
    found, named, softmax = (
        penalty(model(12, squares), FUTURE, AdversarialDropoutCallback(rate=0.3, divergence=name))
        for name in ("auto", "mse", "mse_logits")
    )
    assert found == named == pytest.approx(softmax)
    with pytest.warns(UserWarning, match="'kl'.*'mse'"):
        assert penalty(model(12, squares), FUTURE, AdversarialDropoutCallback(rate=0.3, divergence="kl")) != found


@pytest.mark.parametrize(
    ("method", "divergence"),
    [
        *((AdversarialDropoutCallback, each) for each in ("auto", "kl", "bernoulli_kl", "mse_probs", "ce")),
        *((RDropCallback, each) for each in ("auto", "kl", "bernoulli_kl")),
    ],
)
def test_one_logit_for_each_example_is_compared_like_a_column(method: Any, divergence: str) -> None:
    loss = F.binary_cross_entropy_with_logits
    column = Forecaster(1, lambda p, y: loss(p.squeeze(-1), y.float()))
    vector = Forecaster(1, lambda p, y: loss(p, y.float()), lambda o: o[:, -1, 0])
    assert penalty(column, BINARY, method(rate=0.3, divergence=divergence)) == penalty(
        vector, BINARY, method(rate=0.3, divergence=divergence)
    )


def test_classes_in_dimension_one_are_compared_as_in_the_last() -> None:
    tags = torch.arange(80).view(16, 5) % 3
    here = Forecaster(3, F.cross_entropy, lambda o: o.transpose(1, 2))
    plain = Forecaster(3, lambda p, y: F.cross_entropy(p.transpose(1, 2), y), lambda o: o)
    mask = ((torch.arange(80).view(16, 5) % 4) > 0).long()
    for arguments in ({}, {"padding_mask": 2}, {"divergence": "ce"}, {"divergence": "kl", "class_dim": 1}):
        other = {**arguments, "class_dim": -1} if "class_dim" in arguments else arguments
        found = [
            penalty(model, tags, AdversarialDropoutCallback(rate=0.3, **known), more=[mask])
            for model, known in ((here, arguments), (plain, other))
        ]
        assert found[0] == pytest.approx(found[1])


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "site" in record.message]


def test_what_is_compared_is_said_once_in_a_fit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    callback, monitor = AdversarialDropoutCallback(rate=0.3), InferenceGapMonitor(rate=0.3)
    model = Forecaster(12, squares, layers=2)
    fitted(model, FUTURE, callback, monitor, max_epochs=2)
    said = "2 sites: gru.l0, gru.l1; comparing Forecaster output (8, 12) as numbers (mse)"
    assert lines(caplog) == [f"AdversarialDropoutCallback: {said}", f"InferenceGapMonitor: {said}"]
    assert monitor.comparison == callback.comparison
    caplog.clear()
    fitted(Delegating(3, F.cross_entropy), BINARY, callback)
    assert lines(caplog) == [
        "AdversarialDropoutCallback: 1 site: gru.l0; comparing Delegating output (8, 3) as classes (kl)"
    ]
    caplog.clear()
    fitted(Forecaster(3, F.cross_entropy), BINARY, VariationalDropoutCallback(rate=0.1))
    assert lines(caplog) == ["VariationalDropoutCallback: 1 site: gru.l0; nothing is compared"]


def test_many_sites_of_several_kinds_are_named_in_part(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model = Forecaster(3, F.cross_entropy, layers=4)
    fitted(model, BINARY, AdversarialDropoutCallback(["recurrent", "weight"], rate=0.3))
    assert "8 sites: gru.l0:recurrent, " in lines(caplog)[0]
    assert ", ..., gru.l3:weight; comparing" in lines(caplog)[0]


def test_losses_are_watched_until_it_is_decided_only(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []
    enter: Any = LossWatch.__enter__

    def counted(watch: LossWatch) -> Any:
        entered.append("watch")
        return enter(watch)

    monkeypatch.setattr(LossWatch, "__enter__", counted)
    callbacks = AdversarialDropoutCallback(rate=0.3), InferenceGapMonitor(rate=0.3)
    fitted(Forecaster(12, squares), FUTURE, *callbacks, max_epochs=2)
    assert len(entered) == 2  # in the first training step and in the first validation step
    fitted(Forecaster(12, squares), FUTURE, InferenceGapMonitor(rate=0.3), max_epochs=2)
    assert len(entered) == 3


def test_a_loss_written_by_hand_leaves_it_to_the_labels() -> None:
    by_hand = Forecaster(12, lambda p, y: (p - y).square().mean())
    callback = AdversarialDropoutCallback(rate=0.3)
    fitted(by_hand, FUTURE, callback)
    assert str(callback.comparison) == "as numbers (mse)"
    with refused("divergence='auto'", (8, 12), "no labels", "'kl'", "'mse'"):
        fitted(by_hand, FUTURE, AdversarialDropoutCallback(rate=0.3, target="nowhere"))


def test_the_decision_is_resumed(tmp_path: Any) -> None:
    callback = AdversarialDropoutCallback(rate=0.3)
    trainer = fitted(Forecaster(12, squares), FUTURE, callback)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"][callback.state_key]["comparison"]
    assert Comparison(**state) == callback.comparison
    resumed, named = AdversarialDropoutCallback(rate=0.3), AdversarialDropoutCallback(rate=0.3, divergence="mse_logits")
    for each in (resumed, named):
        each.load_state_dict(callback.state_dict())
    assert resumed.comparison == callback.comparison
    assert named.comparison is None


@pytest.mark.parametrize(
    ("outputs", "loss", "target", "expected"),
    [
        (12, squares, FUTURE, "as numbers (mse)"),
        (3, F.cross_entropy, BINARY, "as classes (kl)"),
        (1, lambda p, y: F.binary_cross_entropy_with_logits(p[:, 0], y.float()), BINARY, "as labels (bernoulli_kl)"),
        (2, lambda p, y: -p.log_softmax(-1).gather(1, y[:, None]).mean(), BINARY, "as classes (kl)"),
    ],
)
def test_the_monitor_alone_decides_in_validation(outputs: int, loss: Loss, target: Tensor, expected: str) -> None:
    alone, model = InferenceGapMonitor(rate=0.3), Forecaster(outputs, loss)
    trainer = fitted(model, target, alone, max_epochs=2)
    assert str(alone.comparison) == expected
    assert "validation_step" not in vars(model)
    assert alone.comparison is not None
    named = InferenceGapMonitor(rate=0.3, divergence=alone.comparison.divergence)
    again = fitted(model, target, named, max_epochs=2)
    assert {**trainer.callback_metrics} == {**again.callback_metrics}
    trainer.validate(model, data(target), verbose=False)
    assert str(alone.comparison) == expected


def test_the_monitor_takes_what_the_regularizer_names() -> None:
    for name in ("mse_logits", "ce"):
        monitor = InferenceGapMonitor(rate=0.3)
        callback = AdversarialDropoutCallback(rate=0.3, divergence=name)
        fitted(Forecaster(3, F.cross_entropy), BINARY, callback, monitor)
        assert monitor.comparison is not None
        assert monitor.comparison.divergence == ("kl" if name == "ce" else name)


def test_the_monitor_decides_itself_where_the_regularizer_looks_elsewhere() -> None:
    for alike in (True, False):
        monitor = InferenceGapMonitor(rate=0.3)
        sites = "recurrent" if alike else "input"
        callback = AdversarialDropoutCallback(sites=sites, rate=0.3, divergence="mse_logits")
        fitted(Forecaster(3, F.cross_entropy), BINARY, callback, monitor)
        assert monitor.comparison is not None
        assert monitor.comparison.divergence == ("mse_logits" if alike else "kl")


def test_the_monitor_leaves_out_the_steps_that_the_loss_ignores() -> None:
    tags = torch.arange(80).view(16, 5) % 4
    model = Forecaster(4, lambda p, y: F.cross_entropy(p.transpose(1, 2), y, ignore_index=0), lambda o: o)
    gaps = [
        fitted(model, tags, InferenceGapMonitor(rate=0.3, padding_mask=place)).callback_metrics["gap/random"]
        for place in (None, lambda batch: batch[1] > 0, lambda batch: batch[1] >= 0)
    ]
    assert gaps[0] == gaps[1] == gaps[2]
    half = InferenceGapMonitor(rate=0.3, padding_mask=lambda batch: batch[1] > 1)
    assert fitted(model, tags, half).callback_metrics["gap/random"] != gaps[0]


def test_a_padding_mask_of_steps_that_are_read_as_labels_is_refused() -> None:
    steps, real = torch.arange(80).view(16, 5) % 2.0, torch.arange(80).view(16, 5) % 3 > 0
    binary = Forecaster(1, F.binary_cross_entropy_with_logits, lambda o: o[..., 0])
    with refused("padding_mask=2", (8, 5), "labels", (8, 5), "(batch, time, 1)"):
        penalty(binary, steps, AdversarialDropoutCallback(rate=0.3, padding_mask=2), more=[real])
    numbers = Forecaster(1, F.mse_loss, lambda o: o[..., 0])
    assert penalty(numbers, steps, AdversarialDropoutCallback(rate=0.3, padding_mask=2), more=[real]) > 0


class OfSeries(Forecaster):
    """Forecasts the last value of each series; a batch is a tensor of series."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        return self.loss(self(batch[:, :-1]), batch[:, -1, 0])

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)


def test_a_series_without_labels_may_be_a_batch_itself() -> None:
    series: Any = torch.randn(16, 6, 2, generator=torch.Generator().manual_seed(4))
    trainer = quiet_trainer(callbacks=[AdversarialDropoutCallback(rate=0.3)], max_epochs=1)
    loader = DataLoader(series, 8)
    trainer.fit(OfSeries(1, F.mse_loss, lambda o: o[:, -1, 0]), loader, loader)
    assert trainer.callback_metrics["train/penalty"] > 0


@pytest.mark.parametrize("place", ["lengths", "tokens"])
def test_padding_masks_of_anything_but_zero_and_one_are_refused(place: str) -> None:
    values = {"lengths": torch.arange(16) % 5 + 1, "tokens": torch.arange(80).view(16, 5)}[place]
    model = Forecaster(3, lambda p, y: F.cross_entropy(p[:, -1], y), lambda o: o)
    callback = AdversarialDropoutCallback(rate=0.3, divergence="kl", padding_mask=2)
    with refused("padding_mask=2", 0, 1, int(values[:8].min()), int(values[:8].max()), "lengths[:, None]"):
        fitted(model, BINARY, callback, more=[values])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("regularizer", [each for each in REGULARIZERS if each.compares])
def test_predictions_that_are_not_finite_are_named_with_every_method(
    regularizer: type[Regularizer], value: float
) -> None:
    made: Any = CALLBACKS[regularizer]
    callback = made(sites=sites_of(regularizer))
    model = Forecaster(3, F.cross_entropy, lambda o: last(o) + value)
    with refused("prediction", "NaN", "infinity", "learning rate", error=FloatingPointError):
        fitted(model, BINARY, callback)


EXCLUDED = torch.tensor([0.0, 0.0, -math.inf])


@pytest.mark.parametrize("divergence", ["auto", "kl", "bernoulli_kl", "mse_logits", "mse_probs", "ce"])
@pytest.mark.filterwarnings("ignore:divergence='bernoulli_kl'")
def test_excluded_classes_are_compared_without_them(divergence: Any) -> None:
    model = Forecaster(3, F.cross_entropy, lambda o: last(o) + EXCLUDED)
    without = Forecaster(3, F.cross_entropy, lambda o: last(o)[:, :2])
    exactly: dict[str, Any] = {"limit_train_batches": 1, "precision": "64-true"}
    values = [
        penalty(each, BINARY, AdversarialDropoutCallback(rate=0.3, divergence=divergence), **exactly)
        for each in (model, without)
    ]
    share = {"mse_logits": 2 / 3, "mse_probs": 2 / 3}.get(divergence, 1.0)
    assert values[0] == pytest.approx(share * values[1], rel=1e-10)


def test_a_callback_of_a_regularizer_without_a_divergence_decides_nothing() -> None:
    class Own(Regularizer):
        def penalty(self, passes: Any) -> Any:
            return Penalty(passes.distance(passes.run({}), "mse", "base_adv"))

    fitted(Forecaster(12, squares), FUTURE, callback := RegularizerCallback(Own()))
    assert callback.comparison is None


class Featured(Forecaster):
    """Returns what the prediction is made of before it."""

    def forward(self, x: Tensor) -> Any:
        output = self.gru(x)[0]
        return output, self.head(last(output))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(self(batch[0])[1], batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)


def test_the_part_that_the_loss_reads_is_suggested() -> None:
    with refused("divergence='auto'", "mse_loss", "output=1", "divergence='kl'"):
        penalty(Featured(12, squares), FUTURE, AdversarialDropoutCallback(rate=0.3))
    assert penalty(Featured(12, squares), FUTURE, AdversarialDropoutCallback(rate=0.3, output=1)) > 0


def test_the_monitor_suggests_it_too() -> None:
    with refused("divergence='auto'", "mse_loss", "output=1", "divergence='kl'"):
        fitted(Featured(12, squares), FUTURE, InferenceGapMonitor())
