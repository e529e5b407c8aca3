"""Classification of documents: learning, unlabelled documents, padding, resuming, prediction on strings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_advdrop import AdversarialDropoutCallback, DigitsDataModule, ExponentialAveraging, TextClassificationTask
from lightning_advdrop.datamodules.text_batches import UNLABELLED
from lightning_advdrop.tasks.document_classification import joined
from tests.helpers.documents import END, PADDING, Documents, documents
from tests.helpers.messages import refused
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.text_tasks import SIZES, Losses, as_text, built, fit_steps, saved_classifier, small_classifier

pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed",
    "ignore:Checkpoint directory",
)


def park(**kwargs: Any) -> AdversarialDropoutCallback:
    """Adversarial dropout as published for text."""
    published: dict[str, Any] = {"rate": 0.04, "steps": 2, "start": "ones", "flips": "drop"}
    published |= {"search": "gradient", "share_masks": False}
    return AdversarialDropoutCallback(**(published | kwargs))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("regularized", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_it_learns(classes: int, regularized: bool, bidirectional: bool) -> None:
    watch, data = Losses(), Documents(classes, train_size=96)
    task = small_classifier(bidirectional=bidirectional)
    trainer = quiet_trainer(max_epochs=8, callbacks=[watch, *([park(rate=0.1)] if regularized else [])])
    trainer.fit(task, data)
    assert watch.seen[-1] < 0.6 * watch.seen[0]
    assert {"train/error", "train/loss_step", "val/error", "val/f1", "val/loss"} <= set(trainer.callback_metrics)
    result = trainer.test(task, data, verbose=False)[0]
    chance = 1 - 1 / classes
    assert result["test/error"] < 0.7 * chance
    assert result["test/f1"] > 1 - 0.85 * chance


def test_the_error_rate_and_the_loss_are_those_of_all_documents() -> None:
    data = Documents()
    task = built(data)
    result = quiet_trainer().validate(task, data, verbose=False)[0]
    batch = data.held_out
    with torch.no_grad():
        logits = task(batch.tokens, batch.lengths).squeeze(-1)
    wrong = ((logits > 0).long() != batch.labels).float().mean()
    assert result["val/error"] == pytest.approx(float(wrong), abs=1e-6)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.labels.float())
    assert result["val/loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("logit", [0.3, -0.3])
def test_the_error_rate_is_right_where_all_logits_look_like_probabilities(logit: float) -> None:
    data = Documents()
    task = built(data)
    last: Any = task.model.head[2]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, logit)
    result = quiet_trainer().validate(task, data, verbose=False)[0]
    positive = float(data.held_out.labels.float().mean())
    assert result["val/error"] == pytest.approx(1 - positive if logit > 0 else positive)
    assert result["val/f1"] == pytest.approx(2 * positive / (1 + positive) if logit > 0 else 0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_does_not_change_the_logits(bidirectional: bool) -> None:
    task, batch = built(Documents(), bidirectional=bidirectional), documents(8)
    alone = [task(t[:n].unsqueeze(0), n.unsqueeze(0)) for t, n in zip(batch.tokens, batch.lengths, strict=True)]
    padded = torch.cat([batch.tokens, torch.full((8, 5), PADDING)], 1)
    torch.testing.assert_close(task(padded, batch.lengths), torch.cat(alone), rtol=1e-5, atol=1e-6)


def test_the_backward_direction_reads_the_reversed_document() -> None:
    task, batch = built(Documents(), bidirectional=True), documents(4)
    encoder: Any = task.model.backward_encoder
    turned = [t[:n].flip(0).unsqueeze(0) for t, n in zip(batch.tokens, batch.lengths, strict=True)]
    backward = torch.cat([encoder(t, torch.tensor([t.shape[1]])) for t in turned])
    forward = task.model.encoder(batch.tokens, batch.lengths)
    expected = task.model.head(torch.cat([forward, backward], -1))
    torch.testing.assert_close(task(batch.tokens, batch.lengths), expected)


def test_unlabelled_documents_do_not_change_the_supervised_loss() -> None:
    """With a weight of next to nothing, training is that without unlabelled documents."""
    ends = []
    for size, callbacks in ((64, [park(weight=1e-30, start="one_drop")]), (0, [])):
        watch, task = Losses(), small_classifier(dropout=0.0)
        data = Documents(unlabelled_size=size)
        quiet_trainer(max_epochs=2, callbacks=[*callbacks, watch], limit_val_batches=0).fit(task, data)
        ends.append(torch.cat([p.detach().flatten() for p in task.parameters()]))
        ends.append(torch.tensor(watch.seen))
    torch.testing.assert_close(ends[:2], ends[2:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("callbacks", "size"), [([], 16), ([park(weight=0.0)], 16), ([park()], 32), ([park(rate=0.0)], 16)]
)
def test_unlabelled_documents_are_read_where_a_regularizer_looks_at_them(callbacks: list[Any], size: int) -> None:
    sizes: list[int] = []

    class Watched(TextClassificationTask):
        def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
            sizes.append(len(tokens))
            return super().forward(tokens, lengths)

    task = Watched(**SIZES)
    fit_steps(task, Documents(), callbacks=callbacks)
    assert set(sizes) == {size}


def test_documents_that_are_joined_keep_their_order() -> None:
    long, short = documents(3, seed=3), documents(2, seed=4, longest=7)
    both = joined(short, long._replace(labels=torch.full((3,), UNLABELLED)), PADDING)
    assert both.labels.tolist() == [*short.labels.tolist(), *[UNLABELLED] * 3]
    for number, (row, length) in enumerate(zip(both.tokens, both.lengths, strict=True)):
        source, place = (short, number) if number < 2 else (long, number - 2)
        assert torch.equal(row[:length], source.tokens[place][:length])
        assert row[length:].eq(PADDING).all()


def test_a_moving_average_of_the_weights_is_what_a_checkpoint_holds(tmp_path: Path) -> None:
    """And what is tested after the fit, from the checkpoint."""
    task, data = small_classifier(), Documents()
    averaging = ExponentialAveraging(decay=0.9, use_buffers=False)
    trainer = quiet_trainer(max_epochs=2, callbacks=[averaging])
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    weight = "model.encoder.lstm.weight_hh_l0"
    again = TextClassificationTask.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(again.state_dict()[weight], saved["state_dict"][weight])
    assert torch.equal(task.state_dict()[weight], saved["state_dict"][weight])
    assert not torch.equal(saved["current_model_state"][weight], saved["state_dict"][weight])
    trainer.test(task, data, ckpt_path=tmp_path / "last.ckpt", weights_only=True, verbose=False)
    assert torch.equal(task.state_dict()[weight], saved["state_dict"][weight])


def test_strings_are_classified_by_what_a_checkpoint_holds(tmp_path: Path) -> None:
    task, path = saved_classifier(tmp_path, Documents())
    again = TextClassificationTask.load_from_checkpoint(path, weights_only=True)
    batch = documents(5, seed=9, longest=10)
    assert batch.tokens[0, batch.lengths[0] - 1] == END
    texts = as_text(batch)
    found = again.classify(texts, batch_size=2)
    expected = task.eval().predict_step(batch)
    assert [each.label for each in found] == expected["label"].tolist()
    for each, probabilities in zip(found, expected["probabilities"].tolist(), strict=True):
        assert each.probability == pytest.approx(probabilities[each.label], abs=1e-5)
        assert each.name == ("negative", "positive")[each.label]
    assert again.classify([]) == []
    loader: Any = DataLoader(texts, batch_size=2)  # type: ignore[arg-type]
    predicted: Any = quiet_trainer().predict(again, loader)
    assert torch.cat([part["label"] for part in predicted]).tolist() == [each.label for each in found]


def test_batches_are_predicted() -> None:
    task, data = built(Documents(3)), Documents(3)
    predicted: Any = quiet_trainer().predict(task, data)
    probabilities = torch.cat([part["probabilities"] for part in predicted])
    assert probabilities.shape == (64, 3)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(64))


def test_one_string_is_no_list_of_texts() -> None:
    with refused("texts", "'good film'", error=TypeError):
        built(Documents()).classify("good film")


def test_strings_need_a_vocabulary() -> None:
    with refused("texts", "vocabulary", "trained"):
        small_classifier().classify(["good"])


@pytest.mark.parametrize("data", [Documents(task="pretrain"), DigitsDataModule()], ids=["pretrain", "digits"])
def test_data_of_another_kind_are_refused(data: L.LightningDataModule) -> None:
    with refused("datamodule", "task='classify'", "TextClassificationTask", type(data).__name__):
        quiet_trainer().fit(small_classifier(), data)


def test_more_classes_than_there_are_names_are_numbered() -> None:
    task = built(Documents(), num_classes=3)
    last: Any = task.model.head[2]
    torch.nn.init.constant_(last.bias, 0)
    last.bias.data[2] = 100
    assert [found.name for found in task.classify(["n1"])] == ["2"]


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_loaders_without_a_data_module_are_refused() -> None:
    with refused("datamodule", "vocabulary", "TextClassificationTask", "none"):
        quiet_trainer().fit(small_classifier(), Documents().train_dataloader())


def test_fewer_classes_than_the_data_have_are_refused() -> None:
    with refused("num_classes", 3, 2):
        quiet_trainer().fit(small_classifier(num_classes=2), Documents(3))
