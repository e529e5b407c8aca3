"""Steps that the model's own loss ignores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor
from lightning_advdrop.callbacks import RDropCallback
from tests.helpers.forecasters import Forecaster, Loss, fitted, penalty

BINARY = torch.arange(16) % 2


@pytest.mark.parametrize("method", [AdversarialDropoutCallback, RDropCallback])
def test_steps_that_the_loss_ignores_are_padding(method: Any) -> None:
    tags = torch.arange(80).view(16, 5) % 4
    ignoring = Forecaster(4, lambda p, y: F.cross_entropy(p.transpose(1, 2), y, ignore_index=0), lambda o: o)
    masked = Forecaster(
        4, lambda p, y: F.cross_entropy(p.transpose(1, 2), torch.where(y > 0, y, -100), ignore_index=-100), lambda o: o
    )
    found = penalty(ignoring, tags, method(rate=0.3))
    assert found == penalty(masked, tags, method(rate=0.3, padding_mask=lambda batch: batch[1] > 0))
    given = Forecaster(4, lambda p, y: -p.log_softmax(-1).gather(-1, y[..., None]).mean(), lambda o: o)
    assert found != penalty(given, tags, method(rate=0.3))
    unlabelled = Forecaster(4, F.cross_entropy)
    examples = torch.where(torch.arange(16) % 2 > 0, torch.arange(16) % 4, -100)
    all_count = penalty(unlabelled, examples, AdversarialDropoutCallback(rate=0.3))
    half = AdversarialDropoutCallback(rate=0.3, padding_mask=lambda batch: batch[1] >= 0)
    assert penalty(unlabelled, examples, half) != all_count


class Elsewhere(Forecaster):
    """Takes the labels from the third part of the batch, without the first step, and the prediction, too, or not."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(self(batch[0])[:, -4:], batch[2][:, 1:])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)


IGNORED: dict[str, Loss] = {
    "transposed": lambda p, y: F.cross_entropy(p.transpose(1, 2), y, ignore_index=0),
    "flat": lambda p, y: F.cross_entropy(p.reshape(-1, 4), y.reshape(-1), ignore_index=0),
    "log-softmax": lambda p, y: F.nll_loss(p.log_softmax(-1).transpose(1, 2), y, ignore_index=0),
}


@pytest.mark.parametrize("name", IGNORED)
def test_steps_that_the_loss_ignores_are_padding_wherever_their_labels_are(name: str) -> None:
    tags = torch.arange(80).view(16, 5) % 4
    model = Elsewhere(4, IGNORED[name], lambda o: o[:, 1:])
    named = AdversarialDropoutCallback(rate=0.3, padding_mask=lambda batch: batch[2][:, 1:] > 0)
    found = [
        penalty(model, BINARY, callback, more=[tags], max_epochs=2)
        for callback in (AdversarialDropoutCallback(rate=0.3), named)
    ]
    assert found[0] == found[1]


class Third(Forecaster):
    """Takes the labels from the third part of the batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(self(batch[0]), batch[2])


@pytest.mark.parametrize("name", IGNORED)
def test_what_only_looks_like_the_labels_is_not_taken_for_them(name: str) -> None:
    tags = torch.arange(80).view(16, 5) % 4
    segments = (torch.arange(80).view(16, 5) % 3 > 0).long()
    model = Third(4, IGNORED[name], lambda o: o)
    here, named, told = (
        penalty(model, segments, AdversarialDropoutCallback(rate=0.3, **arguments), more=[tags], max_epochs=2)
        for arguments in ({}, {"padding_mask": lambda batch: batch[2] > 0}, {"target": 2})
    )
    assert here == named == told


def test_labels_that_nobody_shows_are_warned_about() -> None:
    tags = torch.arange(80).view(16, 5) % 4
    model = Elsewhere(4, IGNORED["flat"], lambda o: o)
    with pytest.warns(UserWarning, match=r"ignore_index: .* labelled 0, but .* target=1 .* name padding_mask="):
        penalty(model, BINARY, AdversarialDropoutCallback(rate=0.3), more=[tags])
    whole = AdversarialDropoutCallback(rate=0.3, padding_mask=lambda batch: batch[2] > 0)
    assert penalty(model, BINARY, whole, more=[tags]) > 0


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("name", IGNORED)
def test_the_monitor_leaves_ignored_steps_out(name: str, beside: bool) -> None:
    tags = torch.arange(80).view(16, 5) % 4
    monitors = (
        InferenceGapMonitor(rate=0.3, limit_batches=2),
        InferenceGapMonitor(rate=0.3, limit_batches=2, padding_mask=lambda batch: batch[2][:, 1:] > 0),
    )
    all_count = Elsewhere(4, lambda p, y: F.cross_entropy(p.flatten(0, 1), y.flatten()), lambda o: o[:, 1:])
    model = Elsewhere(4, IGNORED[name], lambda o: o[:, 1:])
    regularizer = [AdversarialDropoutCallback(rate=0.3)] if beside else []
    found = [
        fitted(each, BINARY, *regularizer, monitor, more=[tags], max_epochs=2)
        for each, monitor in ((model, monitors[0]), (model, monitors[1]), (all_count, monitors[0]))
    ]
    here, named, whole = (trainer.callback_metrics["gap/random"].item() for trainer in found)
    assert here == named
    assert here != whole


def test_the_monitor_warns_of_labels_that_nobody_shows() -> None:
    tags = torch.arange(80).view(16, 5) % 4
    model = Elsewhere(4, IGNORED["flat"], lambda o: o)
    with pytest.warns(UserWarning, match=r"ignore_index: .* labelled 0, but .* target=1 .* name padding_mask="):
        fitted(model, BINARY, InferenceGapMonitor(rate=0.3), more=[tags])
