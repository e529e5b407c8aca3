from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_advdrop.datamodules import DigitsDataModule
from lightning_advdrop.datamodules.sequences import Batch
from tests.helpers.messages import refused


def with_a_trainer(test: Any) -> Any:
    """Let pass what Lightning itself warns of: the number of workers, and its use of a class that torch renames."""
    for message in (".*does not have many workers", ".*treespec, LeafSpec"):
        test = pytest.mark.filterwarnings(f"ignore:{message}")(test)
    return test


def ready(**arguments: Any) -> DigitsDataModule:
    digits = DigitsDataModule(**arguments)
    digits.setup(None)
    return digits


def everything(loader: DataLoader[Batch]) -> Batch:
    sequences, labels = zip(*loader, strict=True)
    return torch.cat(sequences), torch.cat(labels)


def sorted_rows(sequences: Tensor) -> list[bytes]:
    return sorted(row.numpy().tobytes() for row in sequences)


class Recorder(LightningModule):
    """Notes every training batch, epoch by epoch, and leaves the checkpoints that a killed run would leave."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.batches: dict[int, list[list[float]]] = {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        sequences, labels = batch
        noted = (labels + sequences.mean((1, 2))).tolist()
        self.batches.setdefault(self.current_epoch, []).append(noted)
        return self.scale**2

    def on_train_epoch_end(self) -> None:
        if self.folder is not None:
            self.trainer.save_checkpoint(self.folder / f"epoch={self.current_epoch}.ckpt")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return batch[1]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **arguments: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    defaults = quiet | {"accelerator": "cpu", "default_root_dir": folder, "enable_checkpointing": False}
    return Trainer(**(defaults | arguments))


@pytest.mark.parametrize(
    ("by", "steps", "features"),
    [("pixel", 64, 1), ("row", 8, 8)],
)
def test_shapes_are_known_before_setup_and_kept(by: str, steps: int, features: int) -> None:
    digits = DigitsDataModule(by=cast(Any, by))
    assert (digits.num_steps, digits.input_size, digits.num_classes) == (steps, features, 10)
    digits.setup("fit")
    sequences, labels = next(iter(digits.train_dataloader()))
    assert sequences.shape == (50, steps, features)
    assert sequences.dtype == torch.float32
    assert labels.shape == (50,)
    assert labels.dtype == torch.int64


def test_splits_hold_every_image_once() -> None:
    digits = ready(by="row")
    splits = [
        everything(loader()) for loader in (digits.train_dataloader, digits.val_dataloader, digits.test_dataloader)
    ]
    assert [len(labels) for _, labels in splits] == [1297, 200, 300]
    sequences = torch.cat([part for part, _ in splits])
    assert sequences.min() == 0
    assert sequences.max() == 1
    published = load_digits()
    assert sorted_rows(sequences) == sorted_rows(torch.from_numpy(published.images).float() / 16)
    assert torch.cat([labels for _, labels in splits]).bincount().tolist() == np.bincount(published.target).tolist()


def test_labels_belong_to_their_images() -> None:
    sequences, labels = everything(ready(by="row").test_dataloader())
    published = load_digits()
    known = {
        image.astype(np.float32).tobytes(): label
        for image, label in zip(published.images, published.target, strict=True)
    }
    assert [known[(image * 16).numpy().tobytes()] for image in sequences] == labels.tolist()


def test_rows_and_pixels_are_the_same_images() -> None:
    pixels, _ = everything(ready(by="pixel").test_dataloader())
    rows, _ = everything(ready(by="row").test_dataloader())
    torch.testing.assert_close(pixels.reshape(-1, 8, 8), rows, rtol=0, atol=0)


def test_permutation_is_numpys_legacy_one() -> None:
    plain, _ = everything(ready().test_dataloader())
    permuted, _ = everything(ready(permuted=True, seed=5).test_dataloader())
    order = np.random.RandomState(10).permutation(64)
    torch.testing.assert_close(permuted, plain[:, order], rtol=0, atol=0)


def test_seed_changes_the_order_but_not_the_split() -> None:
    first, second = ready(seed=0), ready(seed=1)
    for name in ("val_dataloader", "test_dataloader"):
        batches = [everything(getattr(digits, name)()) for digits in (first, second)]
        torch.testing.assert_close(*batches, rtol=0, atol=0)
    one, _ = everything(first.train_dataloader())
    other, _ = everything(second.train_dataloader())
    assert not torch.equal(one, other)
    assert sorted_rows(one) == sorted_rows(other)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    orders: list[list[int]] = []
    for _ in range(2):
        torch.manual_seed(len(orders))  # the global state has no part in it
        loader = ready(seed=3).train_dataloader()
        for epoch in (0, 4):
            cast(Any, loader.sampler).set_epoch(epoch)
            orders.append(everything(loader)[1].tolist())
    assert orders[0] == orders[2]
    assert orders[1] == orders[3]
    assert orders[0] != orders[1]


@settings(max_examples=10, deadline=None)
@given(smaller=st.integers(1, 1297), larger=st.integers(1, 1297), seed=st.integers(0, 2**32 - 1))
def test_a_smaller_training_set_is_part_of_a_larger_one(smaller: int, larger: int, seed: int) -> None:
    smaller, larger = sorted((smaller, larger))
    few, _ = everything(ready(train_size=smaller, seed=seed).train_dataloader())
    many, _ = everything(ready(train_size=larger, seed=seed).train_dataloader())
    assert len(few) == smaller
    assert len(many) == larger
    assert set(sorted_rows(few)) <= set(sorted_rows(many))


def test_batch_sizes() -> None:
    digits = ready(batch_size=500, eval_batch_size=150)
    assert [len(labels) for _, labels in digits.train_dataloader()] == [500, 500, 297]
    assert [len(labels) for _, labels in digits.val_dataloader()] == [150, 50]
    assert [len(labels) for _, labels in digits.test_dataloader()] == [150, 150]


def test_prediction_sees_the_test_batches() -> None:
    digits = ready()
    predicted, tested = everything(digits.predict_dataloader()), everything(digits.test_dataloader())
    torch.testing.assert_close(predicted, tested, rtol=0, atol=0)


def test_single_examples_agree_with_batches() -> None:
    dataset: Any = ready().val_dataloader().dataset
    sequences, labels = dataset.__getitems__([7, 7, 2])
    for row, index in enumerate([7, 7, 2]):
        torch.testing.assert_close(dataset[index], (sequences[row], labels[row]))


# From Python 3.12 on, starting workers by fork warns of the threads of torch.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_worker_processes_deliver_the_same_batches() -> None:
    alone, helped = everything(ready().val_dataloader()), everything(ready(num_workers=1).val_dataloader())
    torch.testing.assert_close(alone, helped, rtol=0, atol=0)


def test_processes_share_the_training_set() -> None:
    shares = []
    for rank in range(2):
        digits = ready(train_size=100)
        digits.trainer = cast(Any, SimpleNamespace(world_size=2, global_rank=rank))
        shares.append(sorted_rows(everything(digits.train_dataloader())[0]))
    assert [len(share) for share in shares] == [50, 50]
    assert sorted(shares[0] + shares[1]) == sorted_rows(everything(ready(train_size=100).train_dataloader())[0])


@with_a_trainer
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Recorder(tmp_path)
    trainer(tmp_path, max_epochs=4).fit(whole, DigitsDataModule(train_size=60, batch_size=25, seed=2))
    assert len({str(batches) for batches in whole.batches.values()}) == 4
    for finished in (1, 2, 3):
        resumed = Recorder()
        again = DigitsDataModule(train_size=60, batch_size=25, seed=2)
        trainer(tmp_path, max_epochs=4).fit(resumed, again, ckpt_path=tmp_path / f"epoch={finished - 1}.ckpt")
        assert resumed.batches == {epoch: whole.batches[epoch] for epoch in range(finished, 4)}


@with_a_trainer
def test_a_run_made_longer_sees_new_batches(tmp_path: Path) -> None:
    whole, first, second = Recorder(), Recorder(), Recorder()
    trainer(tmp_path, max_epochs=3).fit(whole, DigitsDataModule(train_size=60))
    short = trainer(tmp_path, max_epochs=2)
    short.fit(first, DigitsDataModule(train_size=60))
    short.save_checkpoint(tmp_path / "end.ckpt")
    trainer(tmp_path, max_epochs=3).fit(second, DigitsDataModule(train_size=60), ckpt_path=tmp_path / "end.ckpt")
    assert first.batches | second.batches == whole.batches


@with_a_trainer
def test_prediction_with_a_trainer(tmp_path: Path) -> None:
    batches = trainer(tmp_path).predict(Recorder(), DigitsDataModule())
    _, labels = everything(ready().test_dataloader())
    assert torch.cat(cast(list[Tensor], batches)).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"by": "column"}, ("by", "'pixel'", "'row'", "'column'")),
        (
            {"by": "row", "permuted": True},
            ("permuted=True", "by='pixel'", "by='row'"),
        ),
        ({"train_size": 0}, ("train_size", 1, 1297, 0)),
        ({"train_size": 1298}, ("train_size", 1, 1297, 1298)),
        ({"batch_size": 0}, ("batch_size", 1, 0)),
        ({"eval_batch_size": -1}, ("eval_batch_size", 1, -1)),
        ({"num_workers": -1}, ("num_workers", 0, -1)),
        ({"seed": -1}, ("seed", 0, 4294967295, -1)),
        ({"seed": 2**32}, ("seed", 0, 4294967295, 4294967296)),
    ],
)
def test_values_out_of_range(arguments: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        DigitsDataModule(**arguments)


@pytest.mark.parametrize("name", ["train_size", "batch_size", "eval_batch_size", "num_workers", "seed"])
@pytest.mark.parametrize("value", [True, 2.0, "3"])
def test_numbers_must_be_integers(name: str, value: object) -> None:
    with refused(name, repr(value), error=TypeError):
        DigitsDataModule(**{name: cast(Any, value)})


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("train_dataloader", ("train", "setup('fit')")),
        ("val_dataloader", ("val", "setup('validate')")),
        ("test_dataloader", ("test", "setup('test')")),
        ("predict_dataloader", ("test", "setup('predict')")),
    ],
)
def test_loaders_need_setup(name: str, parts: tuple[object, ...]) -> None:
    with refused(*parts, error=RuntimeError):
        getattr(DigitsDataModule(), name)()


def test_unknown_stage() -> None:
    with refused("stage", "'fit'", "'validate'", "'test'", "'predict'", None, "'train'"):
        DigitsDataModule().setup("train")


def test_loaders_leave_the_global_random_numbers_alone() -> None:
    module = DigitsDataModule()
    module.setup()
    for loader in (module.train_dataloader(), module.val_dataloader(), module.predict_dataloader()):
        before = torch.get_rng_state()
        next(iter(loader))
        assert torch.equal(torch.get_rng_state(), before)
