"""Text classification: what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from lightning_advdrop import DigitsDataModule, TextClassificationTask
from tests.helpers.documents import Documents, words_of
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.text_tasks import built, saved_classifier, small_classifier

pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed",
    "ignore:Checkpoint directory",
)


def test_another_vocabulary_than_the_checkpoint_is_refused(tmp_path: Path) -> None:
    _, path = saved_classifier(tmp_path, Documents())
    words = words_of(2)
    words.words[4] = "other"
    with pytest.raises(ValueError, match=r"ckpt_path has another vocabulary than the data: word 4 is 'n1' there and"):
        quiet_trainer().test(small_classifier(), Documents(vocabulary=words), ckpt_path=path, weights_only=True)
    task = TextClassificationTask.load_from_checkpoint(path, weights_only=True)
    with pytest.raises(ValueError, match=r"the TextClassificationTask has another vocabulary than the data: word 4"):
        quiet_trainer().test(task, Documents(vocabulary=words))


def test_one_string_is_no_list_of_texts() -> None:
    with pytest.raises(TypeError, match="texts must be a list of strings, got the string 'good film'"):
        built(Documents()).classify("good film")


def test_strings_need_a_vocabulary() -> None:
    with pytest.raises(ValueError, match="texts need a task with a vocabulary, got one that was neither trained nor"):
        small_classifier().classify(["good"])


def test_a_checkpoint_of_another_task_is_refused() -> None:
    message = "ckpt_path must be a checkpoint of TextClassificationTask, got one of another kind"
    # A language model's vocabulary is a list.
    for vocabulary in ({}, {"vocabulary": ["a"]}):
        with pytest.raises(ValueError, match=message):
            small_classifier().on_load_checkpoint({"state_dict": {}, **vocabulary})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bidirectional": True}, "model.backward_encoder.embedding.frequencies must have the shape (15,), got None"),
        ({"classifier_size": 7}, "model.head.0.bias must have the shape (7,), got (6,)"),
    ],
    ids=str,
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    _, path = saved_classifier(tmp_path, Documents())
    with pytest.raises(ValueError, match="ckpt_path must be a checkpoint of the same settings") as info:
        quiet_trainer().test(small_classifier(**arguments), Documents(), ckpt_path=path, weights_only=True)
    assert message in str(info.value)


@pytest.mark.parametrize("data", [Documents(task="pretrain"), DigitsDataModule()], ids=["pretrain", "digits"])
def test_data_of_another_kind_are_refused(data: L.LightningDataModule) -> None:
    message = "datamodule must be one of documents with task='classify' for TextClassificationTask, got "
    with pytest.raises(ValueError, match=message + type(data).__name__):
        quiet_trainer().fit(small_classifier(), data)


def test_more_classes_than_there_are_names_are_numbered() -> None:
    task = built(Documents(), num_classes=3)
    last: Any = task.model.head[2]
    torch.nn.init.constant_(last.bias, 0)
    last.bias.data[2] = 100
    assert [found.name for found in task.classify(["n1"])] == ["2"]


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_loaders_without_a_data_module_are_refused() -> None:
    with pytest.raises(ValueError, match=r"datamodule must have a vocabulary for TextClassificationTask .* got none"):
        quiet_trainer().fit(small_classifier(), Documents().train_dataloader())


def test_fewer_classes_than_the_data_have_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 3, that of the data, got 2"):
        quiet_trainer().fit(small_classifier(num_classes=2), Documents(3))
