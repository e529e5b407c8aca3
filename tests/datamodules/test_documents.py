"""What all data modules of documents do, on small files of IMDB."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_advdrop.datamodules import UNLABELLED, ContiguousBatches, DocumentError, IMDBDataModule, TextBatch
from tests.helpers.document_files import Sizes, SmallIMDB, make_texts, write_imdb
from tests.helpers.messages import refused

TEXTS = make_texts(Sizes(train=40, test=10, unlabelled=30))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_imdb(folder, TEXTS)
    return folder


def ready(root: Path, **arguments: Any) -> SmallIMDB:
    module = SmallIMDB(root, cache=root / "cache", **{"batch_size": 8, "eval_batch_size": 4, **arguments})
    module.prepare_data()
    module.setup()
    return module


def training(module: SmallIMDB) -> list[dict[str, TextBatch]]:
    loader: Any = module.train_dataloader()
    return [batch for batch, _, _ in loader]


def texts_of(module: SmallIMDB, batch: TextBatch) -> list[str]:
    words = module.vocabulary.words
    return [
        " ".join(words[token] for token in row[:length])
        for row, length in zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
    ]


def labelled_texts(module: SmallIMDB, batches: Any) -> list[tuple[int, str]]:
    return [pair for batch in batches for pair in zip(batch.labels.tolist(), texts_of(module, batch), strict=True)]


def test_training_batches_are_labelled_and_unlabelled(root: Path) -> None:
    module = ready(root)
    batches = training(module)
    assert len(batches) == 5  # of 34 labelled documents
    assert [len(batch["labelled"].labels) for batch in batches].count(8) == 4
    for batch in batches:
        assert set(batch) == {"labelled", "unlabelled"}
        assert set(batch["labelled"].labels.tolist()) <= {0, 1}
        assert set(batch["unlabelled"].labels.tolist()) == {UNLABELLED}
        for part in batch.values():
            assert part.tokens.dtype == torch.int64
            assert (part.tokens == module.padding_index).sum() == part.tokens.numel() - part.lengths.sum()


def test_sizes_of_batches(root: Path) -> None:
    module = ready(root, batch_size=4, unlabelled_batch_size=3, eval_batch_size=5)
    batch = training(module)[0]
    assert (len(batch["labelled"].labels), len(batch["unlabelled"].labels)) == (4, 3)
    validation: Any = module.val_dataloader()
    assert [len(batch.labels) for batch in validation] == [5, 1]
    assert ready(root, batch_size=4).unlabelled_batch_size == 4


def test_without_unlabelled_documents(root: Path) -> None:
    batch = training(ready(root, unlabelled_size=0))[0]
    assert set(batch) == {"labelled"}


def test_documents_of_all_parts_are_there_once(root: Path) -> None:
    module = ready(root, max_tokens=100)
    labelled = [batch["labelled"] for batch in training(module)]
    loaders: list[Any] = [labelled, module.val_dataloader(), module.test_dataloader()]
    train, validation, test = (labelled_texts(module, loader) for loader in loaders)
    assert (len(train), len(validation), len(test)) == (34, 6, 10)
    assert Counter(label for label, _ in validation) == {0: 3, 1: 3}
    for texts, found in ((TEXTS["train"], train + validation), (TEXTS["test"], test)):
        words = Counter(
            (label, tuple(word if word in module.vocabulary.index else "<unk>" for word in re.findall(r"\w+", text)))
            for label, text in texts
        )
        assert words == Counter((label, tuple(text.removesuffix(" <eos>").split())) for label, text in found)


def test_the_end_of_a_document_is_read(root: Path) -> None:
    whole, cut = (
        labelled_texts(module, module.predict_dataloader()) for module in (ready(root), ready(root, max_tokens=4))
    )
    assert [(label, " ".join(text.split()[-4:])) for label, text in whole] == cut


def test_predictions_keep_the_order_of_the_documents(root: Path) -> None:
    module = ready(root)
    ordered = [
        (
            label,
            " ".join(module.vocabulary.words[n] for n in module.vocabulary.encode(re.findall(r"\w+", text))) + " <eos>",
        )
        for label, text in sorted(TEXTS["test"], key=lambda pair: pair[0])
    ]
    assert labelled_texts(module, module.predict_dataloader()) == ordered
    assert isinstance(module.predict_dataloader(), DataLoader)


def test_small_choices_are_balanced_and_part_of_larger_ones(root: Path) -> None:
    chosen = {}
    for size in (4, 10, None):
        module = ready(root, train_size=size, unlabelled_size=size, max_tokens=100)
        batches = training(module)
        chosen[size] = labelled_texts(module, [batch["labelled"] for batch in batches])
        assert len(chosen[size]) == (size or 34)
        assert Counter(label for label, _ in chosen[size]) == dict.fromkeys((0, 1), (size or 34) // 2)
        assert module._sets["unlabelled"].labels.tolist() == [UNLABELLED] * (size or 30)
    assert not Counter(chosen[4]) - Counter(chosen[10])
    assert not Counter(chosen[10]) - Counter(chosen[None])
    other = ready(root, train_size=4, seed=1, max_tokens=100)
    batch = training(other)[0]
    assert Counter(labelled_texts(other, [batch["labelled"]])) != Counter(chosen[4])


@pytest.mark.parametrize(("name", "most"), [("train_size", 34), ("unlabelled_size", 30)])
def test_more_documents_than_there_are(root: Path, name: str, most: int) -> None:
    with refused(name, most, most + 1):
        ready(root, **{name: most + 1})


def test_more_columns_of_text_than_there_are_words(root: Path) -> None:
    module = ready(root, task="pretrain", batch_size=10**6, eval_batch_size=10**5)
    for loader, name, size in (
        (module.train_dataloader, "batch_size", 10**6),
        (module.val_dataloader, "eval_batch_size", 10**5),
    ):
        with refused(name, "tokens", "world_size=1", size):
            loader()


def test_all_seeds_are_measured_on_the_same_documents(root: Path) -> None:
    validation = [labelled_texts(m, m.val_dataloader()) for m in (ready(root), ready(root, seed=3, train_size=6))]
    assert validation[0] == validation[1]


def test_pre_training_reads_all_documents_as_one_text(root: Path) -> None:
    module = ready(root, task="pretrain", batch_size=2, max_tokens=7)
    loader = module.train_dataloader()
    assert isinstance(loader, ContiguousBatches)
    batches = list(loader)
    assert batches[0][0].shape == batches[0][1].shape == (7, 2)
    first = torch.cat([tokens[:, 0] for tokens, _ in batches] + [tokens[:, 1] for tokens, _ in batches]).tolist()
    text = " ".join(module.vocabulary.words[token] for token in first)
    classify = ready(root, max_tokens=100)
    documents = [text for _, text in labelled_texts(classify, [batch["labelled"] for batch in training(classify)])]
    assert text.count("<eos>") in (63, 64)  # the last of 34 + 30 may be cut off
    assert sum(document in text for document in documents) >= 33
    held_out = [text for _, text in labelled_texts(classify, classify.val_dataloader())]
    assert not any(document in text for document in held_out)


def test_the_backward_text_is_the_text_from_its_end(root: Path) -> None:
    forward, backward = (
        next(iter(ready(root, task="pretrain", reverse=reverse, batch_size=1, max_tokens=10_000).train_dataloader()))[
            0
        ][:, 0]
        for reverse in (False, True)
    )
    assert forward[1:].flip(0).tolist() == backward[1:].tolist()
    assert backward[0] == 2


def test_the_order_of_pre_training_is_made_by_the_seed(root: Path) -> None:
    texts = [
        next(iter(ready(root, task="pretrain", batch_size=1, seed=seed).train_dataloader()))[0] for seed in (0, 0, 1)
    ]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])


def test_pre_training_evaluates_on_held_out_text(root: Path) -> None:
    module = ready(root, task="pretrain", eval_batch_size=2, max_tokens=7)
    parts = module.corpus.parts
    for loader, part in ((module.val_dataloader(), parts["validation"]), (module.test_dataloader(), parts["test"])):
        assert isinstance(loader, ContiguousBatches)
        assert loader.num_steps == (int(part.lengths.sum()) - 1) // 2
    with refused("task='classify'", "task='pretrain'", error=RuntimeError):
        module.predict_dataloader()


def test_it_is_encoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(root)
    monkeypatch.setattr(IMDBDataModule, "read", None)
    for arguments in ({}, {"seed": 4, "max_tokens": 9, "task": "pretrain", "train_size": 5}):
        ready(root, **arguments)
    with pytest.raises(TypeError, match="not callable"):
        ready(root, max_vocabulary=5)


def test_other_content_is_encoded_anew(tmp_path: Path) -> None:
    write_imdb(tmp_path, TEXTS)
    before = ready(tmp_path).vocabulary.words
    write_imdb(tmp_path, make_texts(seed=1, classes=2, longest=5))
    assert ready(tmp_path).vocabulary.words != before


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    write_imdb(tmp_path, {**TEXTS, "unlabelled": [(UNLABELLED, "..."), *TEXTS["unlabelled"]]})
    for _ in range(2):
        with refused("aclImdb/train/unsup", "line 1", "without a word", error=DocumentError):
            ready(tmp_path)
        assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    write_imdb(tmp_path, TEXTS)
    ready(tmp_path)


def test_it_is_prepared_by_setup_where_nobody_has(root: Path, tmp_path: Path) -> None:
    module = SmallIMDB(root, cache=tmp_path)
    with refused("SmallIMDB", "prepare_data()", "setup()", error=RuntimeError):
        module.vocabulary  # noqa: B018
    module.setup("test")
    with refused("train", "setup('fit')", error=RuntimeError):
        module.train_dataloader()
    module.setup("fit")
    before = module._sets["train"]
    module.setup("validate")
    assert module._sets["train"] is before
    with refused("stage", "'fit'", "'validate'", "'test'", "'predict'", None, "'train'"):
        module.setup("train")


def test_vectors(root: Path, tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("film 1 2 3\nunseen 4 5 6\n")
    module = ready(root, vectors=tmp_path / "vectors.txt")
    vectors = module.vectors
    assert vectors is not None
    assert vectors.shape == (len(module.vocabulary), 3)
    assert vectors[module.vocabulary.index["film"]].tolist() == [1, 2, 3]
    assert vectors.sum() == 6
    assert module.vectors is vectors  # read once
    assert ready(root).vectors is None


@pytest.mark.parametrize("workers", [0, 1])
def test_worker_processes_yield_the_same(root: Path, workers: int) -> None:
    module = ready(root, num_workers=workers)
    batches = training(module)
    expected = training(ready(root))
    for found, batch in zip(batches, expected, strict=True):
        for part, values in batch.items():
            assert all(torch.equal(one, other) for one, other in zip(found[part], values, strict=True))


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        ({"task": "train"}, ValueError, ("task", "'classify'", "'pretrain'", "'train'")),
        ({"reverse": True}, ValueError, ("reverse=True", "task='pretrain'", "task='classify'")),
        ({"train_size": 0}, ValueError, ("train_size", 1, 0)),
        ({"train_size": 2.5}, TypeError, ("train_size", 1, 2.5)),
        ({"unlabelled_size": -1}, ValueError, ("unlabelled_size", 0, -1)),
        ({"max_tokens": 0}, ValueError, ("max_tokens", 1, 0)),
        ({"max_vocabulary": 0}, ValueError, ("max_vocabulary", 1, 0)),
        ({"batch_size": 0}, ValueError, ("batch_size", 1, 0)),
        ({"unlabelled_batch_size": 0}, ValueError, ("unlabelled_batch_size", 1, 0)),
        ({"eval_batch_size": True}, TypeError, ("eval_batch_size", 1, True)),
        ({"num_workers": -1}, ValueError, ("num_workers", 0, -1)),
        ({"seed": 2**32}, ValueError, ("seed", 0, 4294967295, 4294967296)),
        ({"root": ""}, ValueError, ("root", None, "''")),
    ],
)
def test_values_out_of_range(arguments: dict[str, Any], error: type[Exception], parts: tuple[object, ...]) -> None:
    with refused(*parts, error=error):
        SmallIMDB(**arguments)
