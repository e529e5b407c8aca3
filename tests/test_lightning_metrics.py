"""What Lightning has logged: read, added to and renamed, and a release that keeps it elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lightning
import torch
from torchmetrics import MeanMetric

from lightning_advdrop._lightning_metrics import add_to_epoch_mean, epoch_means, logged_metrics, rename_metric
from tests.helpers.messages import refused
from tests.helpers.releases import each_package, plain_trainer


@each_package
def test_what_was_logged_is_renamed_in_its_place(package: str) -> None:
    trainer = plain_trainer(package)
    results = trainer.fit_loop.epoch_loop._results
    for name in ("first", "ours", "last"):
        results.log("training_step", name, torch.tensor(3.0))
    rename_metric(trainer, "ours", "other")
    results.log("training_step", "ours", torch.tensor(5.0))
    assert list(results) == [f"training_step.{name}" for name in ("first", "other", "last", "ours")]
    found = results.metrics(on_step=False)["callback"]
    assert {name: float(value) for name, value in found.items()} == {"first": 3, "other": 3, "last": 3, "ours": 5}
    rename_metric(None, "ours", "other")


def test_metrics_that_are_kept_in_another_way_can_not_be_renamed() -> None:
    trainer = plain_trainer()
    trainer.fit_loop.epoch_loop._results["training_step.ours"] = SimpleNamespace()
    with refused("'ours'", lightning.__version__, "2.6", error=RuntimeError):
        rename_metric(trainer, "ours", "other")


@each_package
def test_metrics_of_training_are_told_from_those_of_validation(package: str) -> None:
    trainer = plain_trainer(package)
    training = trainer.fit_loop.epoch_loop
    first, both, last = MeanMetric(), MeanMetric(), MeanMetric()
    for results, logged in ((training._results, (first, both)), (training.val_loop._results, (both, last))):
        results.log("step", "number", torch.tensor(1.0))
        for number, metric in enumerate(logged):
            results.log("step", f"metric_{number}", metric, metric_attribute="metric")
    assert logged_metrics(trainer) == {id(first): True, id(both): True, id(last): False}


def test_sums_of_an_epoch_are_added_to_what_was_logged_since() -> None:
    """Means and sums add up; of a smallest value the smaller one stays."""
    results = plain_trainer().fit_loop.epoch_loop._results
    for name, reduce_fx in (("mean", torch.mean), ("least", torch.min)):
        for value, size in ((3.0, 1), (5.0, 3)):
            results.log("step", name, torch.tensor(value), on_epoch=True, reduce_fx=reduce_fx, batch_size=size)
    results.log("step", "step", torch.tensor(1.0), on_step=True, on_epoch=False)
    trainer: Any = SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(_results=results)))
    means = epoch_means(trainer)
    assert means == {"step.mean": {"value": 18.0, "cumulated_batch_size": 4}, "step.least": {"value": 3.0}}
    assert add_to_epoch_mean(trainer, "step.mean", {k: v * 0.5 for k, v in means["step.mean"].items()})
    assert add_to_epoch_mean(trainer, "step.least", {"value": torch.tensor(4.0)})
    assert float(results["step.mean"].compute()) == (18.0 + 9.0) / (4 + 2)
    assert float(results["step.least"].compute()) == 3.0
    assert not add_to_epoch_mean(trainer, "other", {})
    elsewhere: Any = SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace()))
    assert epoch_means(elsewhere) == {}
    assert logged_metrics(elsewhere) == {}
    assert not add_to_epoch_mean(elsewhere, "step.mean", {})
