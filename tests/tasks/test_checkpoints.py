"""Checkpoints that are loaded, started from and resumed: what they hold, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from lightning_advdrop import LanguageModelingTask, SequentialMNISTTask, TextClassificationTask
from lightning_advdrop.datamodules import Vocabulary
from lightning_advdrop.tasks import load_language_model, load_text_classifier
from tests.helpers.documents import Documents, words_of
from tests.helpers.messages import refused
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.small_texts import small_data, small_task, small_trainer
from tests.helpers.text_tasks import saved_classifier, small_classifier, small_pretraining

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory")


def trained(folder: Path) -> Path:
    """The checkpoint of a language model."""
    trainer = small_trainer(max_epochs=1)
    trainer.fit(small_task(), small_data(folder))
    trainer.save_checkpoint(folder / "trained.ckpt")
    return folder / "trained.ckpt"


def test_a_checkpoint_has_all_that_is_needed(tmp_path: Path) -> None:
    saved = torch.load(trained(tmp_path), weights_only=True)
    words = saved["vocabulary"]
    assert set(words) == {"words", "counts", "unknown"}
    assert words["words"][:2] == ["<unk>", "<eos>"]
    assert len(words["words"]) == len(words["counts"]) == 14
    assert "text" not in saved
    assert [tuple(h.shape) for h, c in saved["carried_states"]] == [(1, 4, 14), (1, 4, 10)]
    task = load_language_model(tmp_path / "trained.ckpt")
    assert not task.training
    assert vars(task.vocabulary) == vars(Vocabulary(**words))
    assert all(torch.equal(value, saved["state_dict"][name]) for name, value in task.state_dict().items())


def stored(path: Path, module: L.LightningModule) -> Path:
    trainer = quiet_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
    return path


# How a path comes to a task: the function, the argument that names the path, and the task that it must be of.
ROUTES: dict[str, tuple[Callable[[str, Path], object], str, str]] = {
    "language model": (lambda path, _: load_language_model(path), "ckpt_path", "LanguageModelingTask"),
    "classifier": (lambda path, _: load_text_classifier(path), "ckpt_path", "TextClassificationTask"),
    "fine-tuning": (
        lambda path, folder: small_trainer().fit(small_task(pretrained=path), small_data(folder)),
        "pretrained",
        "LanguageModelingTask",
    ),
    "pre-training": (
        lambda path, _: quiet_trainer().fit(small_classifier(pretrained=path), Documents()),
        "pretrained",
        "TextPretrainingTask",
    ),
}


@pytest.mark.parametrize(("load", "argument", "task"), ROUTES.values(), ids=ROUTES)
def test_what_is_no_checkpoint_of_the_task_is_refused(
    load: Callable[[str, Path], object], argument: str, task: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.ckpt"

    def check(*parts: str) -> None:
        with refused(f"{argument}={str(path)!r}", "checkpoint", *parts) as caught:
            load(str(path), tmp_path)
        assert isinstance(caught.value, FileNotFoundError) == (not path.exists())

    check("no such file")
    for content in (b"", b"no checkpoint", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        check("read")
    nothing: Any = {"state_dict": {}}
    for saved in ([1], nothing, nothing | {"vocabulary": ["a"]}, nothing | {"vocabulary": {"words": ["a"]}}):
        torch.save(saved, path)
        check(task, "another kind")
    stored(path, SequentialMNISTTask(hidden_size=3))
    check(task, "another kind")


def test_a_resumed_run_refuses_a_checkpoint_of_another_task(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}, "vocabulary": {"words": ["a"]}, "pytorch-lightning_version": "2.6"}, path)
    with refused("ckpt_path", "LanguageModelingTask", "another kind"):
        small_trainer().test(small_task(), small_data(tmp_path), ckpt_path=path, weights_only=True)
    for task in (LanguageModelingTask, TextClassificationTask):
        with refused("checkpoint_path", task.__name__, "another kind"):
            task.load_from_checkpoint(path, weights_only=True, hidden_size=3)


def test_a_model_without_words_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "bare.ckpt", LanguageModelingTask(5, 3, 4, 2))
    with refused("ckpt_path=", "bare.ckpt", "vocabulary"):
        load_language_model(path)


@pytest.mark.parametrize("kind", ["language model", "classifier"])
def test_data_with_other_words_are_refused(kind: str, tmp_path: Path) -> None:
    make: Callable[..., Any]
    other: L.LightningDataModule
    if kind == "classifier":
        words, (_, path), make = words_of(2), saved_classifier(tmp_path, Documents()), small_classifier
        words.words[4] = "other"
        other, load, parts = Documents(vocabulary=words), load_text_classifier, ("word 4", "'n1'", "'other'")
    else:
        path, make, other = trained(tmp_path), small_task, small_data(tmp_path, of=9)
        load, parts = load_language_model, ("word 2", "'w10'", "'w4'")  # type: ignore[assignment]
    task = load(path)
    with refused("ckpt_path", "vocabulary", *parts):
        quiet_trainer().test(make(), other, ckpt_path=path, weights_only=True)
    with refused(type(task).__name__, "vocabulary", *parts):
        quiet_trainer().test(task, other)
    if kind == "language model":
        with refused(f"pretrained={str(path)!r}", "vocabulary", *parts):
            small_trainer().fit(small_task(pretrained=str(path)), other)


@pytest.mark.parametrize(
    ("kind", "name", "there", "here"),
    [
        ("pretrain", "reverse", False, True),
        ("pretrain", "tokenizer", "blanks", "characters"),
        ("classify", "padding_index", 1, 2),
        ("classify", "class_names", ("negative", "positive"), ("positive", "negative")),
    ],
)
def test_texts_that_are_prepared_in_another_way_are_refused(
    kind: str, name: str, there: object, here: object, tmp_path: Path
) -> None:
    make: Callable[..., Any] = small_pretraining if kind == "pretrain" else small_classifier
    trainer, path = quiet_trainer(max_steps=1, limit_val_batches=0), tmp_path / "saved.ckpt"
    trainer.fit(make(), Documents(task=kind))
    trainer.save_checkpoint(path)
    other = Documents(task=kind)
    setattr(other, name, here)
    expected = (f"trained on texts with {name}={there!r}", f"got data with {name}={here!r}")
    with refused("ckpt_path", *expected):
        quiet_trainer().test(make(), other, ckpt_path=path, weights_only=True)
    with refused("ckpt_path", *expected):
        quiet_trainer(max_steps=2).fit(make(), other, ckpt_path=path, weights_only=True)
    with refused(make().__class__.__name__, *expected):
        quiet_trainer().test(type(make()).load(path), other)
    longer = Documents(task=kind)
    longer.max_tokens = 9
    quiet_trainer().test(make(), longer, ckpt_path=path, weights_only=True, verbose=False)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"bidirectional": True}, ("model.backward_encoder.embedding.frequencies", "(15,)", None)),
        ({"classifier_size": 7}, ("model.head.0.bias", "(7,)", "(6,)")),
    ],
    ids=str,
)
def test_a_classifier_of_other_settings_is_refused(
    tmp_path: Path, arguments: dict[str, Any], parts: tuple[object, ...]
) -> None:
    _, path = saved_classifier(tmp_path, Documents())
    with refused("ckpt_path", "same settings", *parts):
        quiet_trainer().test(small_classifier(**arguments), Documents(), ckpt_path=path, weights_only=True)


def test_fine_tuning_refuses_a_model_of_other_settings(tmp_path: Path) -> None:
    path = trained(tmp_path)
    content = torch.load(path, weights_only=True)
    content["state_dict"]["model.extra"] = torch.zeros(1)
    torch.save(content, tmp_path / "more.ckpt")
    for name, arguments, parts in (
        ("more", {}, ("model.extra", None, (1,))),
        ("trained", {"hidden_size": 15}, ("model.rnns.0.bias_hh_l0", (60,), (56,))),
    ):
        start = str(tmp_path / f"{name}.ckpt")
        with refused(f"pretrained={start!r}", "same settings", *parts):
            small_trainer().fit(small_task(pretrained=start, **arguments), small_data(tmp_path))


def test_fine_tuning_starts_from_earlier_weights(tmp_path: Path) -> None:
    path = trained(tmp_path)
    weights = torch.load(path, weights_only=True)["state_dict"]
    task = small_task(pretrained=str(path), learning_rate=1e-12)
    trainer = small_trainer(max_epochs=1)
    trainer.fit(task, small_data(tmp_path))
    for name, value in task.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-6)
    trainer.save_checkpoint(tmp_path / "tuned.ckpt")
    # Neither a resumed run nor an evaluation looks for them again.
    path.unlink()
    again = small_task(pretrained=str(path), learning_rate=1e-12)
    small_trainer(max_epochs=2).fit(again, small_data(tmp_path), ckpt_path=tmp_path / "tuned.ckpt", weights_only=True)
    small_trainer().test(small_task(pretrained=str(path)), small_data(tmp_path), verbose=False)
