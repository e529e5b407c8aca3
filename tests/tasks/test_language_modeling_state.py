"""What the language modelling task carries: hidden states from batch to batch, and itself from run to run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_advdrop import GlobalRandomState, LanguageModelingTask, NonMonotonicAveraging
from lightning_advdrop.datamodules import Vocabulary
from tests.helpers.small_texts import regularizer, small_data, small_task, small_trainer


def test_evaluation_is_one_long_forward(tmp_path: Path) -> None:
    data, task, trainer = small_data(tmp_path, test_batch_size=1), small_task(), small_trainer()
    [tested] = trainer.test(task, data, verbose=False)
    text = torch.as_tensor(data.text("test").copy(), dtype=torch.int64)
    with torch.no_grad():
        logits = task.eval()(text[:-1].unsqueeze(1)).logits.squeeze(1)
    expected = torch.nn.functional.cross_entropy(logits, text[1:])
    assert tested["test/loss"] == pytest.approx(float(expected), rel=1e-5)


class Noting(LanguageModelingTask):
    """Notes the states that batches begin with, and what a plain forward of the batch ends with."""

    def on_train_start(self) -> None:
        super().on_train_start()
        self.before: list[Any] = []
        self.after: list[Any] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        states = self.states_before("train", batch_idx, batch[0])
        self.before.append(states)
        state = torch.get_rng_state()
        with torch.no_grad():
            self.after.append(self(batch[0], states).states)
        torch.set_rng_state(state)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("share_masks", [False, True])
def test_training_carries_the_states_of_the_base_pass(tmp_path: Path, share_masks: bool) -> None:
    task = Noting(None, 6, 8, 2, learning_rate=1.0)
    trainer = small_trainer(callbacks=[regularizer(share_masks=share_masks)])
    trainer.fit(task, small_data(tmp_path, random_lengths=False))
    batches = len(task.before) // 2
    for number, states in enumerate(task.before):
        if number % batches == 0:
            assert states is None  # a text's beginning
            continue
        for given, ended in zip(states, task.after[number - 1], strict=True):
            for one, other in zip(given, ended, strict=True):
                assert not one.requires_grad
                torch.testing.assert_close(one, other)


def test_another_number_of_columns_is_refused() -> None:
    task = small_task(vocabulary_size=9)
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    wide, narrow = (torch.zeros(5, columns, dtype=torch.int64) for columns in (4, 3))
    task.training_step((wide, wide), 0)
    message = "batch must go on where the one before ended and have as many columns, got 3 behind 4."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        task.training_step((narrow, narrow), 1)
    task.training_step((narrow, narrow), 0)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("averaged", [False, True])
def test_a_run_that_is_resumed_in_the_middle_of_an_epoch(tmp_path: Path, averaged: bool) -> None:
    def callbacks(folder: str) -> Iterator[Any]:
        yield from (regularizer(rampup_epochs=3), GlobalRandomState())
        yield ModelCheckpoint(tmp_path / folder, "{step}", every_n_train_steps=8, save_top_k=-1)
        if averaged:
            yield NonMonotonicAveraging(nonmono=1, from_start=True)

    whole = small_task()
    trainer = small_trainer(callbacks=list(callbacks("saved")), enable_checkpointing=True)
    trainer.fit(whole, small_data(tmp_path))
    middle = tmp_path / "saved" / "step=40.ckpt"
    position = torch.load(middle, weights_only=True)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert position["current"]["completed"] > 0
    assert not position["is_last_batch"]
    assert trainer.global_step > 45
    resumed = small_task()
    trainer = small_trainer(callbacks=list(callbacks("again")), enable_checkpointing=True)
    trainer.fit(resumed, small_data(tmp_path), ckpt_path=middle, weights_only=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def trained(folder: Path, **arguments: Any) -> Path:
    task, trainer = small_task(**arguments), small_trainer(max_epochs=1)
    trainer.fit(task, small_data(folder))
    trainer.save_checkpoint(folder / "trained.ckpt")
    return folder / "trained.ckpt"


def test_a_checkpoint_holds_the_words(tmp_path: Path) -> None:
    content = torch.load(trained(tmp_path), weights_only=True)
    assert set(content["vocabulary"]) == {"words", "counts", "unknown"}
    assert content["vocabulary"]["words"][:2] == ["<unk>", "<eos>"]
    assert len(content["vocabulary"]["words"]) == len(content["vocabulary"]["counts"]) == 14
    assert "text" not in content
    assert [tuple(h.shape) for h, c in content["carried_states"]] == [(1, 4, 14), (1, 4, 10)]
    task = LanguageModelingTask.load_from_checkpoint(tmp_path / "trained.ckpt", weights_only=True)
    assert task.vocabulary is not None
    assert vars(task.vocabulary) == vars(Vocabulary(**content["vocabulary"]))
    assert torch.equal(task.state_dict()["model.decoder.bias"], content["state_dict"]["model.decoder.bias"])


def test_data_with_other_words_are_refused(tmp_path: Path) -> None:
    path, other = trained(tmp_path), small_data(tmp_path, of=9)
    with pytest.raises(ValueError, match=r"^ckpt_path has another vocabulary than the data: "):
        small_trainer().test(small_task(), other, ckpt_path=path, weights_only=True)
    task = LanguageModelingTask.load_from_checkpoint(path, weights_only=True)
    with pytest.raises(ValueError, match=r"^the LanguageModelingTask has another vocabulary than the data: "):
        small_trainer().test(task, other)
    with pytest.raises(ValueError, match=r"^pretrained='.*trained.ckpt' has another vocabulary than the data: "):
        small_trainer().fit(small_task(pretrained=str(path)), other)


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
    with pytest.raises(FileNotFoundError, match=r"^pretrained='.*' must be a checkpoint file, got no such file"):
        small_trainer().fit(small_task(pretrained=str(path)), small_data(tmp_path))


def test_what_does_not_fit_is_no_start(tmp_path: Path) -> None:
    path, data = trained(tmp_path), small_data(tmp_path)
    (tmp_path / "cut.ckpt").write_bytes(path.read_bytes()[:2000])
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    torch.save([1], tmp_path / "list.ckpt")
    content = torch.load(path, weights_only=True)
    content["state_dict"]["model.extra"] = torch.zeros(1)
    torch.save(content, tmp_path / "more.ckpt")
    cases = {
        "cut": ({}, "must be a checkpoint file, got one that can't be read."),
        "other": ({}, "must be a checkpoint of LanguageModelingTask, got one of another kind."),
        "list": ({}, "must be a checkpoint of LanguageModelingTask, got one of another kind."),
        "more": (
            {},
            "must be a checkpoint of the same settings: model.extra must have the shape None, got (1,) (None: it is "
            "missing).",
        ),
        "trained": (
            {"hidden_size": 15},
            "must be a checkpoint of the same settings: model.rnns.0.bias_hh_l0 must have the shape (60,), got (56,).",
        ),
    }
    for name, (arguments, message) in cases.items():
        start = str(tmp_path / f"{name}.ckpt")
        with pytest.raises(ValueError, match=f"^{re.escape(f'pretrained={start!r} {message}')}$"):
            small_trainer().fit(small_task(pretrained=start, **arguments), data)

    # As those of text classification, whose vocabulary is no list.
    torch.save({"state_dict": {}, "vocabulary": {"words": ["a"]}, "pytorch-lightning_version": "2.6"}, path)
    for load in (
        lambda: small_trainer().test(small_task(), data, ckpt_path=path, weights_only=True),
        lambda: LanguageModelingTask.load_from_checkpoint(path, weights_only=True, vocabulary_size=3),
    ):
        with pytest.raises(ValueError, match=r"^ckpt_path must be a checkpoint of LanguageModelingTask, got one of an"):
            load()
