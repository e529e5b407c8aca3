"""Every method as a callback: what it logs, adds to the loss, and leaves alone; and several at once."""

from __future__ import annotations

import inspect
import math
from typing import Any

import lightning as L
import pytest
import torch

from lightning_advdrop import (
    AdversarialDropoutCallback,
    AdversarialTrainingCallback,
    FraternalDropoutCallback,
    PseudoEnsembleCallback,
    RDropCallback,
    RegularizerCallback,
    VariationalDropoutCallback,
    VirtualAdversarialCallback,
)
from lightning_advdrop.regularizers import Penalty, VariationalDropout
from tests.helpers.family import CALLBACKS, sites_of
from tests.helpers.plain_models import PlainModel, QuietModel, fitted_weights, loader, quiet_trainer, seeded


def make(callback: type[RegularizerCallback], **arguments: Any) -> RegularizerCallback:
    """The callback with a strong setting, at sites that the plain models have."""
    (regularizer,) = [method for method, found in CALLBACKS.items() if found is callback]
    strength = {"rate": 0.4} if "rate" in inspect.signature(callback).parameters else {"epsilon": 1.0}
    return callback(**{"sites": sites_of(regularizer), **strength, **arguments})


every_callback = pytest.mark.parametrize("callback", CALLBACKS.values(), ids=lambda found: found.__name__)


def one_step(model: L.LightningModule, *callbacks: L.Callback) -> dict[str, float]:
    """What is logged in one step."""
    L.seed_everything(3, verbose=False)
    trainer = quiet_trainer(callbacks=list(callbacks), max_steps=1, max_epochs=-1)
    trainer.fit(model, loader())
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@every_callback
def test_it_changes_training_reproducibly(callback: type[RegularizerCallback]) -> None:
    plain = fitted_weights(seeded(PlainModel), max_epochs=1)
    first, second = (fitted_weights(seeded(PlainModel), make(callback), max_epochs=1) for _ in range(2))
    assert any(not torch.equal(first[name], plain[name]) for name in plain)
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_callback
def test_a_weight_of_zero_is_plain_training(callback: type[RegularizerCallback]) -> None:
    plain = fitted_weights(seeded(PlainModel), max_epochs=1)
    found = fitted_weights(seeded(PlainModel), make(callback, weight=0.0), max_epochs=1)
    assert all(torch.equal(found[name], plain[name]) for name in plain)


@every_callback
def test_what_it_logs(callback: type[RegularizerCallback]) -> None:
    penalties: list[Penalty] = []
    regularizer = make(callback, weight=0.5, rampup_epochs=2)
    regularizer.listeners.append(penalties.append)
    logged = one_step(seeded(PlainModel), regularizer)
    (penalty,) = penalties
    prefix = callback.log_prefix
    weight = 0.5 * math.exp(-5)
    assert logged[f"{prefix}/weight"] == pytest.approx(weight)
    assert logged[f"{prefix}/divergence"] == pytest.approx(penalty.value.item(), rel=1e-5)
    supervised = 0.0 if penalty.supervised is None else penalty.supervised.item()
    assert logged["train/penalty"] == pytest.approx(weight * penalty.value.item() + supervised, rel=1e-5)
    names = {f"{prefix}/{name}" for name in ("weight", "divergence", *penalty.metrics)}
    assert {name for name in logged if name.startswith(prefix)} == names | {f"{name}_step" for name in names}
    assert penalty.value > 0 or isinstance(regularizer.regularizer, VariationalDropout)


@every_callback
def test_a_resumed_run_is_the_uninterrupted_one(callback: type[RegularizerCallback], tmp_path: Any) -> None:
    def run(epochs: int, checkpoint: Any = None) -> L.Trainer:
        L.seed_everything(3, verbose=False)
        trainer = quiet_trainer(callbacks=[make(callback)], max_epochs=epochs, limit_train_batches=2)
        trainer.fit(seeded(QuietModel), loader(), ckpt_path=checkpoint)
        return trainer

    run(1).save_checkpoint(tmp_path / "stopped.ckpt")
    resumed, whole = run(2, tmp_path / "stopped.ckpt").lightning_module, run(2).lightning_module
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_r_drop_trains_both_passes_on_the_labels_whatever_its_weight() -> None:
    found: list[Penalty] = []
    regularizer = RDropCallback(rate=0.4, weight=1e-12)
    regularizer.listeners.append(found.append)
    logged = one_step(seeded(QuietModel), regularizer)
    assert found[0].supervised is not None
    assert logged["train/penalty"] == pytest.approx(found[0].supervised.item())


SEVERAL: list[tuple[type[RegularizerCallback], type[RegularizerCallback]]] = [
    (AdversarialDropoutCallback, VirtualAdversarialCallback),
    (VirtualAdversarialCallback, AdversarialDropoutCallback),
    (AdversarialDropoutCallback, AdversarialTrainingCallback),
    (PseudoEnsembleCallback, VirtualAdversarialCallback),
    (AdversarialDropoutCallback, VariationalDropoutCallback),
    (FraternalDropoutCallback, RDropCallback),
]


@pytest.mark.parametrize("several", SEVERAL, ids=lambda found: "-".join(each.__name__ for each in found))
def test_penalties_of_several_add_up(several: tuple[type[RegularizerCallback], ...]) -> None:
    callbacks = [make(each, weight=weight) for each, weight in zip(several, (0.5, 2.0), strict=True)]
    penalties: list[Penalty] = []
    for callback in callbacks:
        callback.listeners.append(penalties.append)
    logged = one_step(seeded(PlainModel), *callbacks)
    added = [
        w * p.value.item() + (0.0 if p.supervised is None else p.supervised.item())
        for w, p in zip((0.5, 2.0), penalties, strict=True)
    ]
    assert logged["train/penalty"] == pytest.approx(sum(added), rel=1e-5)
    for each, found in zip(several, penalties, strict=True):
        assert logged[f"{each.log_prefix}/divergence"] == pytest.approx(found.value.item(), rel=1e-5)


def test_the_order_of_two_does_not_matter() -> None:
    """Where neither acts in the base pass, and nothing else is random."""
    results = []
    for order in (1, -1):
        callbacks = [make(AdversarialDropoutCallback), make(VirtualAdversarialCallback)][::order]
        results.append(fitted_weights(seeded(QuietModel), *callbacks, max_epochs=1))
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name])
