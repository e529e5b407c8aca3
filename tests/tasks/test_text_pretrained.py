"""Classifiers that start from pre-trained language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from lightning_advdrop import TextClassificationTask, TextPretrainingTask
from tests.helpers.documents import Documents, words_of
from tests.helpers.messages import refused
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.text_tasks import SIZES, fit_steps


@pytest.fixture
def checkpoints(tmp_path: Path) -> dict[bool, Path]:
    """A forward and a backward language model, by ``reverse``."""
    paths = {}
    for reverse in (False, True):
        task = TextPretrainingTask(**SIZES, cutoffs=[6])
        trainer = fit_steps(task, Documents(task="pretrain", reverse=reverse), 2)
        paths[reverse] = tmp_path / f"{reverse}.ckpt"
        trainer.save_checkpoint(paths[reverse])
    return paths


class AtStart(L.Callback):
    """Keeps the weights that training starts from."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.weights = {name: weight.clone() for name, weight in pl_module.state_dict().items()}


def start(data: Documents | None = None, **kwargs: Any) -> dict[str, Any]:
    seen, task = AtStart(), TextClassificationTask(**(SIZES | kwargs))
    fit_steps(task, Documents() if data is None else data, callbacks=[seen])
    return seen.weights


def test_the_weights_are_moved_over_exactly(checkpoints: dict[bool, Path]) -> None:
    weights = start(pretrained=checkpoints[False], bidirectional=True, pretrained_backward=checkpoints[True])
    for name, reverse in (("encoder", False), ("backward_encoder", True)):
        saved = torch.load(checkpoints[reverse], weights_only=True)["state_dict"]
        moved = [key for key in saved if key.startswith("model.encoder.")]
        assert len(moved) == 6  # the table, the frequencies, and the LSTM's four
        for key in moved:
            assert torch.equal(weights[key.replace("model.encoder.", f"model.{name}.")], saved[key])


def test_one_direction_can_start_alone(checkpoints: dict[bool, Path]) -> None:
    weights = start(bidirectional=True, pretrained_backward=checkpoints[True])
    name = "lstm.weight_hh_l0"
    saved = torch.load(checkpoints[True], weights_only=True)["state_dict"]
    assert torch.equal(weights[f"model.backward_encoder.{name}"], saved[f"model.encoder.{name}"])
    assert not torch.equal(weights[f"model.encoder.{name}"], saved[f"model.encoder.{name}"])


def test_a_finished_classifier_needs_the_language_model_no_more(checkpoints: dict[bool, Path], tmp_path: Path) -> None:
    task = TextClassificationTask(**SIZES, pretrained=checkpoints[False])
    fit_steps(task, Documents()).save_checkpoint(tmp_path / "last.ckpt")
    checkpoints[False].unlink()
    again = TextClassificationTask.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert again.hparams["pretrained"] == str(checkpoints[False])
    same = TextClassificationTask(**SIZES, pretrained=checkpoints[False])
    quiet_trainer().test(same, Documents(), ckpt_path=tmp_path / "last.ckpt", weights_only=True, verbose=False)
    assert torch.equal(same.model.head[0].weight, again.model.head[0].weight)  # type: ignore[arg-type]


def test_word_vectors_are_taken_where_nothing_is_pretrained() -> None:
    vectors = torch.randn(len(words_of(2)), 8)
    weights = start(Documents(vectors=vectors))
    torch.testing.assert_close(weights["model.encoder.embedding.weight"], vectors)


def test_another_vocabulary_is_refused_with_its_first_difference(checkpoints: dict[bool, Path]) -> None:
    words = words_of(2)
    words.words[5], words.words[6] = words.words[6], words.words[5]
    with refused(f"pretrained={str(checkpoints[False])!r}", "vocabulary", "word 5", "'n2'", "'n3'"):
        start(Documents(vocabulary=words), pretrained=checkpoints[False])
    with refused("pretrained=", "vocabulary", 15, 18):
        start(Documents(3), pretrained=checkpoints[False])


@pytest.mark.parametrize("argument", ["pretrained", "pretrained_backward"])
def test_the_other_direction_is_refused(checkpoints: dict[bool, Path], argument: str) -> None:
    backward = argument == "pretrained_backward"
    given: dict[str, Any] = {argument: checkpoints[not backward]}
    with refused(f"{argument}=", f"reverse={backward}", f"reverse={not backward}"):
        start(bidirectional=True, **given)


def test_other_sizes_are_refused(checkpoints: dict[bool, Path]) -> None:
    with refused("pretrained=", "embedding_size", "hidden_size", "lstm.bias_hh_l0", "(80,)", "(64,)"):
        start(pretrained=checkpoints[False], hidden_size=20)


def test_a_classifier_is_no_language_model(checkpoints: dict[bool, Path]) -> None:
    content = torch.load(checkpoints[False], weights_only=True)
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if "softmax" not in k}
    torch.save(content, checkpoints[False])
    with refused("pretrained=", "TextPretrainingTask", "another kind"):
        start(pretrained=checkpoints[False])
