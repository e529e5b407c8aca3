"""NaN and infinity end the training, naming the step, or leave the penalty out of it."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from lightning_advdrop import AdversarialDropoutCallback, RegularizerCallback
from lightning_advdrop.regularizers import Penalty
from tests.helpers.family import CALLBACKS, REGULARIZERS, sites_of
from tests.helpers.messages import names, refused
from tests.helpers.plain_models import Delegating, QuietModel, fitted_weights, loader, quiet_trainer, seeded

NAN, INF = float("nan"), float("inf")


class Breaks(QuietModel):
    """Predicts NaN in the second batch of each epoch, in a part of its prediction that its loss leaves out."""

    value = NAN
    broken: tuple[int, ...] = (1,)

    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return torch.where(torch.arange(len(x))[:, None] == 0, self.value, logits) if self.is_broken() else logits

    def is_broken(self) -> bool:
        return self.trainer.fit_loop.batch_idx in self.broken

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        x, y = batch
        return torch.nn.functional.cross_entropy(self(x)[1:], y[1:])


class BreaksDelegating(Delegating, Breaks):
    pass


class Healthy(Breaks):
    broken = ()


def regularizer_callback(regularizer: Any, **arguments: Any) -> RegularizerCallback:
    make: Any = CALLBACKS[regularizer]
    callback: RegularizerCallback = make(sites_of(regularizer), **arguments)
    return callback


WITH_PENALTY = [each for each in REGULARIZERS if each.__name__ != "VariationalDropout"]


@pytest.mark.parametrize("regularizer", WITH_PENALTY)
@pytest.mark.parametrize("model", [Breaks, BreaksDelegating])
def test_it_raises_naming_the_step(regularizer: Any, model: Any) -> None:
    parts = ("finite", CALLBACKS[regularizer].__name__, "epoch 0", "step 1", "nonfinite='skip'")
    with refused(*parts, error=FloatingPointError):
        quiet_trainer(callbacks=[regularizer_callback(regularizer)]).fit(seeded(model), loader())


def test_infinity_is_as_bad() -> None:
    class Overflows(Breaks):
        value = INF

    with refused("finite", "epoch 0", "step 1", error=FloatingPointError):
        quiet_trainer(callbacks=[AdversarialDropoutCallback()]).fit(seeded(Overflows), loader())


@pytest.mark.parametrize("regularizer", WITH_PENALTY)
def test_it_leaves_the_penalty_out_and_counts(regularizer: Any) -> None:
    callback = regularizer_callback(regularizer, nonfinite="skip")
    heard: list[Penalty] = []
    callback.listeners.append(heard.append)
    trainer = quiet_trainer(callbacks=[callback], limit_train_batches=3)
    network = seeded(Breaks)
    network.broken = (0, 1)
    with pytest.warns(UserWarning, match=names(type(callback).__name__, "epoch 0", "step 0", "finite")) as warned:
        trainer.fit(network, loader())
    assert len([each for each in warned if "leaves the penalty out" in str(each.message)]) == 1
    assert [bool(penalty.value.isfinite()) for penalty in heard] == [True] * 2  # the third step of each epoch
    metrics = trainer.callback_metrics
    assert metrics[f"{callback.log_prefix}/skipped"] == 2
    assert metrics[f"{callback.log_prefix}/divergence"].isfinite()
    assert all(value.isfinite().all() for value in network.parameters())


@pytest.mark.filterwarnings("ignore:AdversarialDropoutCallback leaves the penalty out")
def test_a_step_without_penalty_is_the_plain_one() -> None:
    class AlwaysBroken(Breaks):
        broken = tuple(range(4))

    plain = fitted_weights(seeded(AlwaysBroken))
    callback = AdversarialDropoutCallback(search="gradient", nonfinite="skip")  # no mask acts in the base pass
    skipping = fitted_weights(seeded(AlwaysBroken), callback)
    assert all(torch.equal(skipping[name], value) for name, value in plain.items())


def test_a_healthy_training_is_the_same_either_way() -> None:
    weights = [
        fitted_weights(seeded(Healthy), AdversarialDropoutCallback(nonfinite=policy)) for policy in ("raise", "skip")
    ]
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())


def test_how_many_are_left_out_is_logged_where_it_may_happen() -> None:
    counts = []
    for policy in ("raise", "skip"):
        trainer = quiet_trainer(callbacks=[AdversarialDropoutCallback(nonfinite=policy)], max_epochs=1)
        trainer.fit(seeded(Healthy), loader())
        counts.append(trainer.callback_metrics.get("advdrop/skipped"))
    assert counts == [None, 0]


def test_the_choice_is_checked() -> None:
    with refused("nonfinite", "raise, skip", "'ignore'"):
        AdversarialDropoutCallback(nonfinite="ignore")  # type: ignore[arg-type]


def test_all_processes_leave_it_out_if_one_does() -> None:
    """The decision is the strategy's, which takes part of it from the other processes."""
    asked: list[bool] = []

    class Elsewhere(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            def decide(decision: bool, all: bool = True) -> bool:  # noqa: A002 - Lightning's name
                asked.append(decision)
                return False

            trainer.strategy.reduce_boolean_decision = decide  # type: ignore[method-assign]

    trainer = quiet_trainer(callbacks=[AdversarialDropoutCallback(nonfinite="skip"), Elsewhere()], max_epochs=1)
    with pytest.warns(UserWarning, match=names("leaves the penalty out", "another process")):
        trainer.fit(seeded(Healthy), loader())
    assert asked == [True] * 4
    assert trainer.callback_metrics["advdrop/skipped"] == 4
    assert "advdrop/divergence" not in trainer.callback_metrics
