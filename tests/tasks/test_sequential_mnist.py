"""Sequential MNIST: initialisation, schedules, learning, and delegation to regularizers."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback, DigitsDataModule, MNISTDataModule, SequentialMNISTTask
from lightning_advdrop.tasks import RMSpropTF, SequenceClassifier
from tests.helpers.messages import refused
from tests.helpers.plain_models import quiet_trainer


def rows(train_size: int = 600) -> DigitsDataModule:
    return DigitsDataModule(by="row", train_size=train_size, batch_size=20)


def small_task(**kwargs: Any) -> SequentialMNISTTask:
    L.seed_everything(5, verbose=False)
    defaults: dict[str, Any] = {"input_size": 8, "hidden_size": 32, "learning_rate": 3e-3, "rampdown_epochs": 0}
    return SequentialMNISTTask(**(defaults | kwargs))


@pytest.mark.parametrize("inputs", [1, 28])
def test_the_published_initialisation(inputs: int) -> None:
    """Whole matrices are orthogonal: rows of a kernel (inputs, 4 H) or (H, 4 H), as TensorFlow has it."""
    torch.manual_seed(0)
    model = SequenceClassifier(inputs, 100, 10)
    weight_ih, weight_hh, bias_ih, bias_hh = model.lstm.all_weights[0]
    for weight in (weight_ih, weight_hh):
        torch.testing.assert_close(weight.t() @ weight, torch.eye(weight.shape[1]), atol=1e-5, rtol=0)
    head = model.head.weight
    torch.testing.assert_close(head @ head.t(), torch.eye(10), atol=1e-5, rtol=0)
    assert weight_hh.norm().item() == pytest.approx(10, rel=1e-4)
    assert weight_ih.norm().item() == pytest.approx(inputs**0.5, rel=1e-4)
    bias = (bias_ih + bias_hh).chunk(4)
    others, forget = torch.cat([bias[0], *bias[2:]]), bias[1] - 1
    for drawn, bound in ((others, 0.0866), (forget, 0.0866), (model.head.bias, 0.5477)):
        assert 0.7 * bound < drawn.abs().max() <= bound + 1e-4
        assert drawn.min() < 0 < drawn.max()


def test_the_published_optimizer_and_schedule() -> None:
    task = SequentialMNISTTask()
    task.trainer = quiet_trainer(max_epochs=250)
    configured = task.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert isinstance(optimizer, RMSpropTF)
    # The schedule starts with the whole rate.
    expected = {"lr": 1e-3, "initial_lr": 1e-3, "alpha": 0.5, "eps": 1e-10}
    (group,) = optimizer.param_groups
    assert {name: group[name] for name in expected} == expected
    factor = scheduler.lr_lambdas[0]
    assert [round(factor(epoch), 4) for epoch in (0, 200, 220)] == [1.0, 1.0, 0.1353]


@pytest.mark.parametrize("regularized", [False, True])
def test_it_learns(regularized: bool) -> None:
    callbacks: list[L.Callback] = [AdversarialDropoutCallback(rate=0.05)] if regularized else []
    losses: list[float] = []

    class Watch(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            losses.append(float(trainer.callback_metrics["train/loss"]))

    task = small_task()
    trainer = quiet_trainer(max_epochs=8, callbacks=[*callbacks, Watch()])
    trainer.fit(task, rows())
    result = trainer.test(task, rows(), verbose=False)[0]
    assert losses[-1] < 0.5 * losses[0]
    assert result["test/accuracy"] > 0.7
    assert trainer.callback_metrics["test/loss"] < 1.2


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_delegating_is_the_same_as_being_wrapped() -> None:
    """The same network written by somebody who knows nothing of regularizers ends with the same weights."""

    class Plain(L.LightningModule):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return RMSpropTF(self.parameters(), lr=3e-3, alpha=0.5)

    weights = []
    for wrap in (False, True):
        task = small_task(clip_value=None)
        module = Plain(task.model) if wrap else task
        L.seed_everything(2, verbose=False)
        quiet_trainer(callbacks=[AdversarialDropoutCallback(rate=0.05)], max_epochs=1, limit_val_batches=0).fit(
            module, train_dataloaders=_train_loader()
        )
        weights.append(torch.cat([p.detach().flatten() for p in task.model.parameters()]))
    assert torch.equal(*weights)


def _train_loader() -> Any:
    data = rows()
    data.setup("fit")
    return data.train_dataloader()


def test_predictions_are_labels_and_probabilities() -> None:
    task = small_task()
    trainer = quiet_trainer(max_epochs=1)
    batches = trainer.predict(task, rows())
    assert batches is not None
    first: Any = batches[0]
    torch.testing.assert_close(first["probabilities"].sum(-1), torch.ones(len(first["label"])))
    assert first["label"].shape == first["probabilities"].shape[:1]


def test_other_data_than_the_task_was_made_for_is_refused() -> None:
    with refused("(batch, steps, 1)", "input_size=1", "(2, 28, 28)"):
        SequentialMNISTTask(hidden_size=4)(torch.zeros(2, 28, 28))


def test_images_that_are_read_in_another_order_are_refused(tmp_path: Any) -> None:
    path = tmp_path / "pixels.ckpt"
    trainer = quiet_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(small_task(input_size=1), DigitsDataModule(train_size=20, batch_size=20))
    trainer.save_checkpoint(path)
    again = {"ckpt_path": path, "weights_only": True}
    permuted = DigitsDataModule(train_size=20, batch_size=20, permuted=True)
    parts = "ckpt_path", "trained on images with permuted=False", "data with permuted=True"
    with refused(*parts):
        quiet_trainer().test(small_task(input_size=1), permuted, **again)
    with refused(*parts):
        quiet_trainer(max_steps=2).fit(small_task(input_size=1), permuted, **again)
    quiet_trainer().test(small_task(input_size=1), DigitsDataModule(), verbose=False, **again)


def test_a_ramp_needs_a_last_epoch() -> None:
    with refused("rampdown_epochs=50", "max_epochs"):
        quiet_trainer(max_epochs=-1, max_steps=2).fit(SequentialMNISTTask(8, 4), rows())


@pytest.mark.real_data
def test_real_mnist_row_by_row_is_learnt(real_data_root: Any) -> None:
    data = MNISTDataModule(real_data_root, by="row", train_size=4000)
    task = small_task(input_size=28, hidden_size=64)
    trainer = quiet_trainer(max_epochs=6, callbacks=[AdversarialDropoutCallback(rate=0.03)])
    trainer.fit(task, data)
    assert trainer.test(task, data, verbose=False)[0]["test/accuracy"] > 0.8
