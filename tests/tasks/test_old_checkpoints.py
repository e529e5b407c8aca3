"""Checkpoints in the format of release 0.1, written out here by hand, still load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop import LanguageModelingTask, SequentialMNISTTask, TextClassificationTask, TextPretrainingTask
from lightning_advdrop.tasks import generate, load_language_model, load_text_classifier
from tests.helpers.documents import Documents, words_of
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.small_texts import small_data, small_task, small_trainer

WORDS = words_of(2).words
DOCUMENTS: dict[str, Any] = {
    "vocabulary": {"words": WORDS, "counts": [0, 0, *range(15, 2, -1)], "unknown": "<unk>"},
    "text": {
        **{"tokenizer": "blanks", "max_tokens": 10, "padding_index": 1, "num_classes": 2},
        **{"class_names": ("negative", "positive"), "reverse": False},
    },
}
ENCODER = {
    **{"embedding.weight": (15, 2), "embedding.frequencies": (15,), "lstm.weight_ih_l0": (16, 2)},
    **{"lstm.weight_hh_l0": (16, 4), "lstm.bias_ih_l0": (16,), "lstm.bias_hh_l0": (16,)},
}
OPTIMIZER = {"learning_rate": 1e-3, "decay": 0.9999, "clip_norm": 1.0}
Shapes = dict[str, tuple[int, ...]]

IMAGES: Shapes = {
    **{"lstm.weight_ih_l0": (12, 2), "lstm.weight_hh_l0": (12, 3), "lstm.bias_ih_l0": (12,)},
    **{"lstm.bias_hh_l0": (12,), "head.weight": (4, 3), "head.bias": (4,)},
}
CLASSIFIER: Shapes = {
    **{f"encoder.{name}": shape for name, shape in ENCODER.items()},
    **{"head.0.weight": (3, 4), "head.0.bias": (3,), "head.2.weight": (1, 3), "head.2.bias": (1,)},
}
PRETRAINED: Shapes = {
    **{f"encoder.{name}": shape for name, shape in ENCODER.items()},
    **{"softmax.head.weight": (7, 4), "softmax.tail.0.0.weight": (1, 4), "softmax.tail.0.1.weight": (9, 1)},
}
LANGUAGE: Shapes = {
    **{"embedding.weight": (15, 3), "rnns.0.weight_ih_l0": (16, 3), "rnns.0.weight_hh_l0": (16, 4)},
    **{"rnns.0.bias_ih_l0": (16,), "rnns.0.bias_hh_l0": (16,), "rnns.1.weight_ih_l0": (12, 4)},
    **{"rnns.1.weight_hh_l0": (12, 3), "rnns.1.bias_ih_l0": (12,), "rnns.1.bias_hh_l0": (12,)},
    **{"decoder.weight": (15, 3), "decoder.bias": (15,)},
}


def old(path: Path, shapes: Shapes, settings: dict[str, Any], **more: Any) -> tuple[Path, dict[str, Tensor]]:
    """Write a checkpoint of release 0.1; returns its path and its weights."""
    weights = {f"model.{name}": torch.rand(shape) for name, shape in shapes.items()}
    if "model.decoder.weight" in weights:
        weights["model.decoder.weight"] = weights["model.embedding.weight"]
    content = {"epoch": 1, "global_step": 2, "pytorch-lightning_version": "2.6.0", "state_dict": weights}
    torch.save({**content, "hparams_name": "kwargs", "hyper_parameters": settings, **more}, path)
    return path, weights


def states(*widths: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.ones(1, 4, width), torch.ones(1, 4, width)) for width in widths]


def same(task: Any, weights: dict[str, Tensor]) -> bool:
    found = task.state_dict()
    return found.keys() == weights.keys() and all(torch.equal(value, found[name]) for name, value in weights.items())


def test_sequential_mnist(tmp_path: Path) -> None:
    path, weights = old(tmp_path / "old.ckpt", IMAGES, {"input_size": 2, "hidden_size": 3, "num_classes": 4})
    assert same(SequentialMNISTTask.load_from_checkpoint(path, weights_only=True), weights)


def test_text_classification(tmp_path: Path) -> None:
    settings = {"num_classes": None, "embedding_size": 2, "hidden_size": 4, "classifier_size": 3, **OPTIMIZER}
    path, weights = old(tmp_path / "old.ckpt", CLASSIFIER, settings, **DOCUMENTS)
    task = load_text_classifier(path)
    assert same(task, weights)
    assert task.classify(["n1 c00"])[0].name in {"negative", "positive"}
    fresh = TextClassificationTask(None, 2, 4, 3)
    quiet_trainer().test(fresh, Documents(), ckpt_path=path, verbose=False, weights_only=True)
    assert same(fresh, weights)


def test_text_pretraining(tmp_path: Path) -> None:
    settings = {"embedding_size": 2, "hidden_size": 4, "dropout": 0.5, "cutoffs": [6], **OPTIMIZER}
    path, weights = old(tmp_path / "old.ckpt", PRETRAINED, settings, **DOCUMENTS, carried_states=states(4))
    task = TextPretrainingTask.load_from_checkpoint(path, weights_only=True)
    assert same(task, weights)
    kept = task.carried["train"]
    assert kept[0][0].shape == (1, 4, 4)
    started = TextClassificationTask(None, 2, 4, 3, pretrained=path, learning_rate=1e-30)
    quiet_trainer(max_steps=1, max_epochs=-1, limit_val_batches=0).fit(started, Documents())
    for name in ENCODER:
        assert torch.equal(started.state_dict()[f"model.encoder.{name}"], weights[f"model.encoder.{name}"])


def test_language_modeling(tmp_path: Path) -> None:
    """Its vocabulary was a list of words."""
    settings = {"vocabulary_size": None, "embedding_size": 3, "hidden_size": 4, "num_layers": 2}
    more = {"vocabulary": WORDS, "carried_states": states(4, 3)}
    path, weights = old(tmp_path / "old.ckpt", LANGUAGE, settings, **more)
    task = load_language_model(path)
    assert same(task, weights)
    assert task.vocabulary is not None
    assert (task.vocabulary.words, task.vocabulary.unknown) == (WORDS, "<unk>")
    assert len(generate(task, "n1 n2", 3).words) == 3
    kept = task.carried["train"]
    assert [tuple(h.shape) for h, _ in kept] == [(1, 4, 4), (1, 4, 3)]


def test_language_modeling_without_words(tmp_path: Path) -> None:
    settings = {"vocabulary_size": 15, "embedding_size": 3, "hidden_size": 4, "num_layers": 2}
    path, weights = old(tmp_path / "old.ckpt", LANGUAGE, settings, vocabulary=None, carried_states=None)
    task = LanguageModelingTask.load_from_checkpoint(path, weights_only=True)
    assert same(task, weights)
    assert task.vocabulary is None


@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory")
def test_a_language_model_goes_on_from_one_and_starts_from_one(tmp_path: Path) -> None:
    trainer = small_trainer(max_epochs=1)
    trainer.fit(small_task(), small_data(tmp_path))
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    content = torch.load(tmp_path / "new.ckpt", weights_only=True)
    torch.save({**content, "vocabulary": content["vocabulary"]["words"]}, tmp_path / "old.ckpt")
    ends = []
    for name in ("new", "old"):
        task, path = small_task(), tmp_path / f"{name}.ckpt"
        small_trainer(max_epochs=2).fit(task, small_data(tmp_path), ckpt_path=path, weights_only=True)
        ends.append(task.state_dict())
        tuned = small_task(pretrained=str(path), learning_rate=1e-30)
        small_trainer(max_epochs=1).fit(tuned, small_data(tmp_path))
        assert same(tuned, content["state_dict"])
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
