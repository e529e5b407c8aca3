"""The models and batches whose steps are measured, at the published sizes or others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader

from lightning_advdrop import LanguageModelingTask, SequentialMNISTTask, TextClassificationTask
from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.datamodules.text_batches import TextBatch


class Sizes(NamedTuple):
    """Time steps, examples of a batch, recurrent units, and words of the vocabulary, where there is one."""

    steps: int
    batch: int
    units: int
    words: int = 0


def _as_it_is(batch: Any) -> Any:
    return batch


class Batches(LightningDataModule):
    """Serves batches, one in each step.

    Args:
        batches: the batches.
        words: the size of the vocabulary of documents; 0 for other data.
    """

    # What `TextClassificationTask` asks of its data.
    task, tokenizer, max_tokens, padding_index = "classify", "punctuation", None, 1
    num_classes, class_names, vectors = 2, None, None

    def __init__(self, batches: Sequence[Any], words: int = 0) -> None:
        super().__init__()
        self.batches: Any = batches
        if words:
            self.vocabulary = Vocabulary([str(number) for number in range(words)], [1] * words, unknown="0")

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.batches, batch_size=None, collate_fn=_as_it_is)


def sequential_mnist(sizes: Sizes) -> tuple[LightningModule, Any]:
    """The task with a batch of random pixels."""
    x, y = torch.rand(sizes.batch, sizes.steps, 1), torch.randint(10, (sizes.batch,))
    return SequentialMNISTTask(1, sizes.units, rampdown_epochs=0), (x, y)


def language_model(sizes: Sizes) -> tuple[LightningModule, Any]:
    """The full AWD-LSTM of three layers with all its dropout, and a batch of random words."""
    tokens, targets = (torch.randint(sizes.words, (sizes.steps, sizes.batch)) for _ in range(2))
    embedding = min(400, sizes.units)
    return LanguageModelingTask(sizes.words, embedding, sizes.units), (tokens, targets)


def reviews(sizes: Sizes) -> tuple[LightningModule, Any]:
    """The classifier of documents, and a batch of labelled ones, all of full length."""
    tokens = torch.randint(2, sizes.words, (sizes.batch, sizes.steps))
    lengths = torch.full((sizes.batch,), sizes.steps)
    labelled = TextBatch(tokens, lengths, torch.randint(2, (sizes.batch,)))
    embedding = min(256, sizes.units)
    return TextClassificationTask(2, embedding, sizes.units), {"labelled": labelled, "unlabelled": None}


ALL = ("plain", "r_drop", "fraternal", "gradient", "published", "fisher", "top", "label", "leading")


@dataclass(frozen=True)
class Shape:
    """A model, its sizes and the settings of its methods.

    Attributes:
        title: what the tables call it.
        make: makes the module and a batch.
        sizes: those of the published experiment.
        small: sizes for a quick try.
        settings: arguments of all callbacks.
        adversarial: further arguments of adversarial dropout.
        published: what the published form adds to them.
        methods: which methods are measured.
        repeats: rounds that are timed by default.
        warm_up: rounds before.
    """

    title: str
    make: Callable[[Sizes], tuple[LightningModule, Any]]
    sizes: Sizes
    small: Sizes
    settings: Mapping[str, Any] = field(default_factory=dict)
    adversarial: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = ALL
    repeats: int = 7
    warm_up: int = 2


_PTB = Shape(
    "full PTB model, weights of layer 3",
    language_model,
    Sizes(70, 20, 1150, 10_000),
    Sizes(5, 4, 16, 50),
    {"sites": "model.rnns.2:weight", "weight": 0.1},
    {"rate": 0.06, "divergence": "mse_logits"},
    {"start": "ones", "reference_in_base": True},
    repeats=5,
)
SHAPES: dict[str, Shape] = {
    "smnist": Shape(
        "sequential MNIST",
        sequential_mnist,
        Sizes(784, 100, 100),
        Sizes(12, 10, 20),
        {"sites": "recurrent", "weight": 1.0},
        {"rate": 0.03, "divergence": "kl"},
        {"direction": "adv_base", "detach_base": False, "keep_start": True},
    ),
    "ptb": _PTB,
    "ptb_shared": replace(
        _PTB,
        title="full PTB model, weights of layer 3, shared masks",
        adversarial={**_PTB.adversarial, "share_masks": True},
        published={"start": "ones"},
        methods=("plain", "r_drop", "gradient", "published", "fisher", "top", "label", "leading"),
    ),
    "imdb": Shape(
        "IMDB, labelled reviews",
        reviews,
        Sizes(400, 64, 1024, 20_000),
        Sizes(6, 4, 16, 50),
        {"sites": "recurrent", "weight": 1.0},
        {"rate": 0.0385, "divergence": "kl"},
        {"start": "ones", "flips": "drop"},
        methods=("plain", "r_drop", "gradient", "label", "leading"),
        repeats=2,
        warm_up=1,
    ),
}
