"""The language modelling task: what it learns, logs and optimizes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics.text import Perplexity

from lightning_advdrop import LanguageModelingTask
from lightning_advdrop.datamodules import TextFileDataModule
from lightning_advdrop.tasks import TokenPerplexity
from tests.helpers.messages import refused
from tests.helpers.ngrams import perplexities
from tests.helpers.small_texts import regularizer, small_data, small_task, small_trainer


@pytest.mark.parametrize("regularized", [False, True])
def test_it_learns(tmp_path: Path, regularized: bool) -> None:
    data, task = small_data(tmp_path), small_task()
    trainer = small_trainer(max_epochs=4, callbacks=[regularizer()] if regularized else None)
    trainer.fit(task, data)
    train, validation, test = (data.text(split) for split in ("train", "validation", "test"))
    counted = perplexities(train, validation, test, len(data.vocabulary))
    [tested] = trainer.test(task, data, verbose=False)
    assert tested["test/perplexity"] < 1.6 * counted[1]  # guessing has five times that of counted pairs
    assert float(trainer.callback_metrics["test/perplexity"]) == pytest.approx(math.exp(tested["test/loss"]), rel=1e-4)


def test_the_perplexity_is_that_of_all_tokens_whatever_the_batches(tmp_path: Path) -> None:
    task, trainer = small_task(), small_trainer()
    found = [
        trainer.validate(task, small_data(tmp_path, eval_batch_size=3, length=length), verbose=False)[0]
        for length in (7, 12, 1000)
    ]
    for each in found:
        assert each["val/perplexity"] == pytest.approx(found[0]["val/perplexity"], rel=1e-5)
        assert each["val/loss"] == pytest.approx(math.log(found[0]["val/perplexity"]), rel=1e-5)
    reference = Perplexity(ignore_index=-100)
    for tokens, targets in small_data_of(trainer).val_dataloader():
        with torch.no_grad():
            reference.update(task.eval()(tokens).logits, targets)
    assert found[-1]["val/perplexity"] == pytest.approx(float(reference.compute()), rel=1e-5)


def small_data_of(trainer: Any) -> TextFileDataModule:
    data = trainer.datamodule
    assert isinstance(data, TextFileDataModule)
    return data


def test_the_metric_weighs_tokens() -> None:
    perplexity = TokenPerplexity()
    perplexity.update(torch.tensor(1.0), 30)
    perplexity.update(torch.tensor(4.0), 10)
    assert float(perplexity.compute()) == pytest.approx(math.exp(1.75))
    perplexity.update(torch.tensor(math.nan), 1)
    assert math.isnan(perplexity.compute())


class Watching(LanguageModelingTask):
    """Notes the rates of the steps."""

    def on_train_start(self) -> None:
        super().on_train_start()
        self.lengths: list[int] = []
        self.epochs: list[int] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        self.lengths.append(len(batch[0]))
        self.epochs.append(self.current_epoch)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


def test_the_rate_is_scaled_by_the_length_and_falls(tmp_path: Path) -> None:
    task = Watching(None, 6, 6, 2, learning_rate=4.0, reference_length=10, rate_decay=0.5, decay_after=1)
    trainer = small_trainer(max_epochs=3)
    trainer.fit(task, small_data(tmp_path))
    per_step = [rate * 10 / length for rate, length in zip(task.rates, task.lengths, strict=True)]
    steps = sorted({round(rate, 6) for rate in per_step}, reverse=True)
    assert steps == [4.0, 2.0, 1.0]
    assert len(set(task.lengths)) > 3
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.5


def test_the_rate_of_a_step_is_scaled_by_the_mean_length_of_its_batches(tmp_path: Path) -> None:
    task = Watching(None, 6, 6, 2, learning_rate=4.0, reference_length=10)
    small_trainer(max_epochs=2, accumulate_grad_batches=3).fit(task, small_data(tmp_path))
    groups: list[list[int]] = []
    rest = list(zip(task.epochs, task.lengths, strict=True))
    while rest:  # an epoch's last step has the batches that are left
        group = [length for epoch, length in rest[:3] if epoch == rest[0][0]]
        groups, rest = [*groups, group], rest[len(group) :]
    assert {len(group) for group in groups} > {3}
    assert any(len(set(group)) > 1 for group in groups)
    assert task.rates == pytest.approx([4.0 * sum(group) / len(group) / 10 for group in groups])


def test_a_rate_that_does_not_depend_on_the_length(tmp_path: Path) -> None:
    task = Watching(None, 6, 6, 2, learning_rate=4.0, reference_length=None)
    small_trainer(max_epochs=1).fit(task, small_data(tmp_path))
    assert set(task.rates) == {4.0}


def test_activation_regularization(tmp_path: Path) -> None:
    data = small_data(tmp_path)
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    losses = {}
    for alpha, beta in ((0.0, 0.0), (2.0, 0.0), (0.0, 3.0)):
        task = small_task(vocabulary_size=len(data.vocabulary), alpha=alpha, beta=beta)
        torch.manual_seed(0)
        for parameter in task.parameters():
            torch.nn.init.uniform_(parameter, -0.5, 0.5)
        task.log = lambda *_, **__: None  # type: ignore[method-assign]
        torch.manual_seed(1)
        losses[alpha, beta] = task.training_step(batch, 0)
        torch.manual_seed(1)
        output = task(batch[0])
    activation = 2 * output.outputs.square().mean()
    change = 3 * (output.raw_outputs[1:] - output.raw_outputs[:-1]).square().mean()
    torch.testing.assert_close(losses[2.0, 0.0] - losses[0.0, 0.0], activation, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses[0.0, 3.0] - losses[0.0, 0.0], change, rtol=1e-4, atol=1e-6)


def test_what_is_logged(tmp_path: Path) -> None:
    trainer = small_trainer(callbacks=[regularizer()], max_epochs=1)
    trainer.fit(small_task(), small_data(tmp_path))
    names = {"train/loss", "train/loss_step", "train/perplexity", "val/loss", "val/perplexity", "train/penalty"}
    assert names <= set(trainer.callback_metrics)
    assert float(trainer.callback_metrics["advdrop/divergence"]) > 0


def test_predictions(tmp_path: Path) -> None:
    data, task, trainer = small_data(tmp_path), small_task(), small_trainer()
    found = trainer.predict(task, data)
    assert found is not None
    total = torch.cat([each["log_probability"].flatten() for each in found]).sum()  # type: ignore[call-overload]
    [tested] = trainer.test(task, data, verbose=False)
    assert float(total) == pytest.approx(-tested["test/loss"] * (len(data.text("test")) - 1), rel=1e-4)
    assert found[0]["word"].shape == found[0]["log_probability"].shape == (12, 1)  # type: ignore[call-overload]


def test_a_model_without_words_is_refused() -> None:
    with refused("vocabulary_size", None, "configure_model", error=RuntimeError):
        small_task()(torch.zeros(2, 2, dtype=torch.int64))
    with refused("datamodule", "vocabulary", "none", "vocabulary_size"):
        small_trainer().validate(small_task(), [], verbose=False)


def test_another_number_of_words_is_refused(tmp_path: Path) -> None:
    with refused("vocabulary_size", 14, None, 9):
        small_trainer().validate(small_task(vocabulary_size=9), small_data(tmp_path), verbose=False)


def test_a_step_decays_each_weight_once_with_the_scaled_rate() -> None:
    """One that embedding and decoder share, too."""
    task = small_task(vocabulary_size=9, learning_rate=2.0, weight_decay=0.01, reference_length=10)
    optimizer = task.configure_optimizers()
    parameters = dict(task.named_parameters())
    assert len(optimizer.param_groups[0]["params"]) == len(parameters)
    before = {name: value.detach().clone() for name, value in parameters.items()}
    for value in parameters.values():
        value.grad = torch.ones_like(value)
    task.on_train_batch_start((torch.zeros(4, 1), torch.zeros(4, 1)), 0)
    task.optimizer_step(0, 0, optimizer)
    assert optimizer.param_groups[0]["lr"] == 2.0
    for name, value in parameters.items():
        torch.testing.assert_close(value.detach(), before[name] - 0.8 * (1 + 0.01 * before[name]))
