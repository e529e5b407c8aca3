"""Pre-training: learning, the state carried from batch to batch, resuming, and checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from lightning_advdrop import AdversarialDropoutCallback, IMDBDataModule, TextPretrainingTask
from lightning_advdrop.cli import run_experiment
from tests.helpers.document_files import Sizes, make_texts, write_imdb
from tests.helpers.documents import Documents, words_of
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.text_tasks import Losses, fit_steps, small_pretraining

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory")

CONFIG = Path(__file__).parents[2] / "configs" / "imdb_small_pretrain.yaml"


def pretraining(**kwargs: Any) -> Documents:
    return Documents(task="pretrain", **kwargs)


class Watch(Losses):
    def __init__(self) -> None:
        super().__init__()
        self.states: list[Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        self.states.append(pl_module.carried["train"][0][0].clone())


def test_it_learns() -> None:
    watch, task, data = Watch(), small_pretraining(dropout=0.1), pretraining()
    trainer = quiet_trainer(max_epochs=4, callbacks=[watch])
    trainer.fit(task, data)
    assert watch.seen[-1] < watch.seen[0] - 0.2
    logged = trainer.callback_metrics
    assert logged["val/loss"] < math.log(len(data.vocabulary)) - 0.3
    assert logged["val/perplexity"] == pytest.approx(math.exp(float(logged["val/loss"])), rel=1e-4)
    assert trainer.test(task, data, verbose=False)[0]["test/perplexity"] > 1


def test_the_state_is_carried_from_batch_to_batch_within_an_epoch() -> None:
    watch, task, data = Watch(), small_pretraining(dropout=0.0, learning_rate=1e-9), pretraining()
    quiet_trainer(max_epochs=2, callbacks=[watch], limit_val_batches=0).fit(task, data)
    columns = torch.cat([tokens for tokens, _ in data.contiguous()])  # (T, B)
    outputs, _ = task.model(columns.t())
    ends = outputs[:, 6::7].unbind(1)
    assert len(watch.states) == 2 * len(ends)
    for number, state in enumerate(watch.states):
        torch.testing.assert_close(state[0], ends[number % len(ends)], atol=1e-4, rtol=1e-3)


def test_gradients_end_at_the_beginning_of_a_batch() -> None:
    watch, task, data = Watch(), small_pretraining(), pretraining()
    quiet_trainer(max_steps=2, max_epochs=-1, callbacks=[watch], limit_val_batches=0).fit(task, data)
    states = task.carried["train"]
    assert not any(state.requires_grad for state in states[0])


def test_further_passes_leave_the_carried_state_alone() -> None:
    """A regularizer with a weight that changes nothing leads to the same states and weights as none."""
    ends = []
    for callbacks in ([], [AdversarialDropoutCallback(rate=0.2, divergence="mse_logits", weight=1e-30)]):
        watch, task = Watch(), small_pretraining()
        L.seed_everything(2, verbose=False)
        quiet_trainer(max_epochs=1, callbacks=[*callbacks, watch], limit_val_batches=0).fit(task, pretraining())
        ends.append(torch.cat([watch.states[-1].flatten(), *(p.detach().flatten() for p in task.parameters())]))
    torch.testing.assert_close(*ends, atol=1e-6, rtol=1e-4)


def test_validation_leaves_the_carried_state_alone() -> None:
    ends = []
    for interval in (2, None):
        watch, task = Watch(), small_pretraining(dropout=0.0)
        validation = {"limit_val_batches": 0} if interval is None else {"val_check_interval": interval}
        quiet_trainer(max_epochs=1, callbacks=[watch], **validation).fit(task, pretraining())
        ends.append(watch.states[-1])
    torch.testing.assert_close(*ends)


def test_a_run_that_is_resumed_takes_the_state_up_again(tmp_path: Path) -> None:
    task = small_pretraining()
    fit_steps(task, pretraining(), 2).save_checkpoint(tmp_path / "stopped.ckpt")
    again = TextPretrainingTask.load_from_checkpoint(tmp_path / "stopped.ckpt", weights_only=True)
    torch.testing.assert_close(again.carried["train"], task.carried["train"])


@pytest.mark.filterwarnings("ignore:The `srun` command is available")
def test_resuming_in_the_middle_of_an_epoch_gives_the_bits_of_an_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real loader, dropout, a regularizer and the carried state; as the command runs it."""
    monkeypatch.setattr(IMDBDataModule, "n_documents", None)
    write_imdb(tmp_path, make_texts(Sizes(train=40, test=4, unlabelled=24)))

    def fit(folder: str, *options: str) -> dict[str, Tensor]:
        saving = f"{{dirpath: {tmp_path / folder}, filename: '{{step}}', every_n_train_steps: 1, save_top_k: -1}}"
        command = run_experiment(
            [
                *("fit", "--config", str(CONFIG), "--trainer.logger", "false", "--test_after_fit", "null"),
                *("--data.init_args.root", str(tmp_path), "--data.init_args.cache", str(tmp_path)),
                *("--data.init_args.max_vocabulary", "100", "--data.init_args.max_tokens", "6"),
                *("--data.init_args.train_size", "24", "--data.init_args.unlabelled_size", "24"),
                *("--data.init_args.batch_size", "8", "--data.init_args.eval_batch_size", "4"),
                *("--model.init_args.embedding_size", "6", "--model.init_args.hidden_size", "8"),
                *("--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"),
                "--regularizer={class_path: lightning_advdrop.AdversarialDropoutCallback, init_args: "
                "{sites: recurrent, rate: 0.3, start: ones, divergence: mse_logits, weight: 0.1}}",
                "--trainer.callbacks=[{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: "
                f"{saving}}}]",
                *options,
            ]
        )
        return {name: value.clone() for name, value in command.model.state_dict().items()}

    whole = fit("whole")
    for step in (14, 18):  # of 22, the second epoch's being 12 to 22
        resumed = fit(f"from {step}", "--ckpt_path", str(tmp_path / "whole" / f"step={step}.ckpt"))
        assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_word_vectors_are_taken() -> None:
    words = words_of(2)
    vectors = torch.randn(len(words), 8)
    vectors[3] = 0
    task = small_pretraining(learning_rate=1e-12)
    fit_steps(task, pretraining(vectors=vectors))
    table = task.model.encoder.embedding.weight.detach()
    known = torch.arange(len(words)) != 3
    torch.testing.assert_close(table[known], vectors[known])
    assert table[3].ne(0).all()


def test_a_checkpoint_has_the_words_in_plain_types(tmp_path: Path) -> None:
    task, data = small_pretraining(), pretraining(reverse=True)
    fit_steps(task, data).save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["vocabulary"] == {"words": data.vocabulary.words, "counts": data.vocabulary.counts, "unknown": "<unk>"}
    assert saved["text"]["reverse"] is True
    again = TextPretrainingTask.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    for name, weight in task.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
