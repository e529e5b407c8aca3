"""Text classification: what is refused, and how it is said."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch

from lightning_advdrop import DigitsDataModule
from tests.helpers.documents import Documents
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.text_tasks import built, small_classifier

pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed",
    "ignore:Checkpoint directory",
)


def test_one_string_is_no_list_of_texts() -> None:
    with pytest.raises(TypeError, match="texts must be a list of strings, got the string 'good film'"):
        built(Documents()).classify("good film")


def test_strings_need_a_vocabulary() -> None:
    with pytest.raises(ValueError, match="texts need a task with a vocabulary, got one that was neither trained nor"):
        small_classifier().classify(["good"])


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
