"""Arguments of tasks that are out of their ranges: the message names the argument, what is allowed and the value."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from lightning_advdrop import LanguageModelingTask, SequentialMNISTTask, TextClassificationTask, TextPretrainingTask
from lightning_advdrop._ranges import check_range
from lightning_advdrop.nn import AWDLSTM
from lightning_advdrop.tasks import BaseTask
from tests.helpers.messages import refused

TEXT: dict[str, Any] = {
    **{"embedding_size": 0, "hidden_size": 0, "dropout": 1.0, "learning_rate": 0.0, "decay": 1.1, "clip_norm": 0.0}
}
REFUSED: dict[type[BaseTask], dict[str, Any]] = {
    SequentialMNISTTask: {
        **{"input_size": 0, "hidden_size": 0, "num_classes": 0, "learning_rate": 0.0},
        **{"smoothing": 1.0, "clip_value": 0.0, "rampdown_epochs": -1},
    },
    LanguageModelingTask: {
        **{"learning_rate": 0.0, "clip_norm": 0.0, "weight_decay": -1.0, "decay_after": -1, "alpha": -1.0},
        **{"beta": -1.0, "vocabulary_size": 0, "reference_length": 0, "rate_decay": 1.5},
    },
    TextClassificationTask: {**TEXT, "num_classes": 1, "classifier_size": 0, "pretrained_backward": "b.ckpt"},
    TextPretrainingTask: TEXT,
}


@pytest.mark.parametrize("task", REFUSED, ids=lambda task: task.__name__)
def test_arguments_are_checked(task: type[BaseTask]) -> None:
    for name, value in REFUSED[task].items():
        got = False if name == "pretrained_backward" else value  # of ``bidirectional``, which it needs
        with refused(name, got):
            task(**{name: value})


def test_arguments_of_the_network() -> None:
    """They are checked, and part of the hyperparameters with their defaults."""
    with refused("output_dropout", "[0, 1)", 1.0):
        LanguageModelingTask(9, output_dropout=1.0)
    with refused("LanguageModelingTask.__init__()", "'output'", error=TypeError):
        LanguageModelingTask(output=1.0)
    with refused("LanguageModelingTask.__init__()", "positional", error=TypeError):
        LanguageModelingTask(9, 4, 6, 2, 0.1)  # type: ignore[call-arg]
    defaults = {name: each.default for name, each in inspect.signature(AWDLSTM).parameters.items()}
    found = LanguageModelingTask(word_dropout=0.2).hparams
    assert {name: found[name] for name in defaults} == defaults | {"vocabulary_size": None, "word_dropout": 0.2}


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        ("at least 0", (0, 7), (-1, float("nan"))),
        ("at least 1", (1, 7), (0, None)),
        ("above 0 or None", (1e-9, None), (0, float("nan"))),
        ("in [0, 1)", (0, 0.9), (-0.1, 1, None)),
        ("in (0, 1]", (0.1, 1), (0, 1.1)),
    ],
)
def test_ranges(allowed: str, inside: tuple[Any, ...], outside: tuple[Any, ...]) -> None:
    for value in inside:
        check_range(allowed, rate=value)
    for value in outside:
        with refused("rate", allowed, value):
            check_range(allowed, rate=value)
