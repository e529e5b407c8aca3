"""Descriptions of experiments: the same at each start, and others for other experiments."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_advdrop import DigitsDataModule
from lightning_advdrop.tuning import Objects
from lightning_advdrop.tuning.describing import describe
from tests.helpers.tuned import Sequences, Tagger

ROOT = Path(__file__).parents[2]


class Maker:
    """Makes a module when it is called."""

    def __call__(self) -> Tagger:
        return Tagger()


def make(size: int) -> Tagger:
    return Tagger(size)


EXPERIMENTS: list[Any] = [
    Tagger,
    Tagger(),
    Tagger(7),
    make,
    partial(make, 4),
    partial(make, 5),
    partial(make, size=5),
    Maker(),
    lambda: Tagger(4),
    lambda: Tagger(5),
    Sequences,
    Sequences(),
    DigitsDataModule(by="row"),
    DigitsDataModule(by="pixel"),
    {"train": 3},
    {"train": 4},
    {*"abcdefgh"},
    None,
]


def test_experiments_are_told_apart() -> None:
    described = [describe(each) for each in EXPERIMENTS]
    assert len({*described}) == len(described)
    assert not any("0x" in each for each in described)


def test_the_next_start_gives_the_same() -> None:
    program = "from tests.tuning.test_describing import EXPERIMENTS, describe; print([*map(describe, EXPERIMENTS)])"
    started = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert started.stdout.strip() == str([*map(describe, EXPERIMENTS)])


@pytest.mark.parametrize(
    "other",
    [
        {"data": DigitsDataModule(by="row")},
        {"trainer": {"max_epochs": 2}},
        {"trainer": {"callbacks": Maker}},
        {"model": Tagger(9)},
    ],
)
def test_model_data_and_trainer_count(other: dict[str, Any]) -> None:
    given: dict[str, Any] = {"model": Tagger, "data": Sequences, "trainer": {"max_epochs": 1}}
    assert Objects(**given).description == Objects(**given).description
    assert Objects(**given | other).description != Objects(**given).description


def test_a_loader_is_known_by_its_class() -> None:
    loader: DataLoader[Any] = Sequences().loader(0)
    assert describe({"val": loader}) == "{'val': torch.utils.data.dataloader.DataLoader}"


def test_addresses_in_the_layers_of_a_module_do_not_count() -> None:
    class Activated(nn.Module):
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.function = function

        def extra_repr(self) -> str:
            return f"function={self.function}"

    def described(function: Any) -> str:
        module = Tagger()
        module.act = Activated(function)
        return describe(module)

    assert described(lambda x: x) == described(lambda x: x)
    assert described(torch.relu) != described(torch.tanh)
