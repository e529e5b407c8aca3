"""GPT-2 of Hugging Face, which shifts its labels inside: a regularizer's labels must be shifted, too."""

from __future__ import annotations

import warnings
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

from lightning_advdrop import RandomPerturbationCallback, RDropCallback
from lightning_advdrop.callbacks.copied_targets import model_input, warn_of_copying
from lightning_advdrop.regularizers import Penalty
from tests.helpers.messages import names
from tests.helpers.plain_models import quiet_trainer, seeded


class LanguageModel(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        config: dict[str, Any] = {"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 20, "n_positions": 8}
        none: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        self.model = GPT2LMHeadModel(GPT2Config(**config, **none))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.model(**batch).loss
        self.log("loss", loss, batch_size=4)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def texts(*, copied: bool = True) -> DataLoader[Any]:
    tokens = torch.randint(20, (4, 8), generator=torch.Generator().manual_seed(0))
    real = torch.arange(8) < torch.tensor([[8], [6], [5], [8]])
    labels = tokens.where(real, -100) if copied else tokens.roll(1)
    examples = [
        {"input_ids": each, "labels": label, "attention_mask": mask.long()}
        for each, label, mask in zip(tokens, labels, real, strict=True)
    ]
    return DataLoader(examples, batch_size=4)  # type: ignore[arg-type]


def shifted(batch: dict[str, Tensor]) -> Tensor:
    """The recipe of `docs/attaching.md`."""
    return F.pad(batch["labels"][:, 1:], (0, 1), value=-100)


def fitted(loader: DataLoader[Any], **arguments: Any) -> tuple[float, float]:
    """The model's loss, and the cross-entropy to the labels under a perturbation that changes nothing."""
    found: list[Penalty] = []
    callback = RandomPerturbationCallback("embedding", epsilon=1e-6, divergence="ce", **arguments)
    callback.listeners.append(found.append)
    trainer = quiet_trainer(callbacks=[callback], max_epochs=1)
    trainer.fit(seeded(LanguageModel), loader)
    return float(trainer.callback_metrics["loss"]), found[0].value.item()


def test_a_second_loss_is_the_models_own_whatever_the_labels() -> None:
    found: list[Penalty] = []
    callback = RDropCallback("embedding", rate=0.0)
    callback.listeners.append(found.append)
    trainer = quiet_trainer(callbacks=[callback], max_epochs=1)
    trainer.fit(seeded(LanguageModel), texts())
    assert found[0].supervised is not None
    assert found[0].supervised.item() == pytest.approx(float(trainer.callback_metrics["loss"]), rel=1e-5)


def test_shifted_labels_give_the_models_own_loss() -> None:
    own, second = fitted(texts(), target=shifted)
    assert second == pytest.approx(own, rel=1e-5)


def test_labels_that_are_the_input_are_told() -> None:
    with pytest.warns(UserWarning, match=names("target='labels'", "input", "Hugging Face", "target=", "-100")):
        own, second = fitted(texts(), target="labels")
    assert second != pytest.approx(own, rel=1e-2)


def test_other_labels_are_fine() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fitted(texts(copied=False), target="labels")


def test_the_input_is_the_first_tensor_or_named_input_ids() -> None:
    first, second = torch.zeros(2, 3), torch.ones(2, 3)
    assert model_input((None, first, second), {}) is first
    assert model_input(([first], second), {}) is first
    assert model_input((), {"labels": second, "input_ids": first}) is first
    assert model_input(({"labels": second, "input_ids": first},), {}) is first
    assert model_input((1,), {"rate": 2}) is None


@pytest.mark.parametrize(
    ("target", "given"),
    [
        (torch.tensor([1, 2]), torch.tensor([1, 2])),  # a label for each example
        (torch.ones(2, 3), torch.ones(2, 3)),  # numbers: an autoencoder
        (torch.ones(2, 3).long(), torch.ones(2, 4).long()),
        (torch.ones(2, 3).long(), None),
    ],
    ids=["classes", "numbers", "shapes", "nothing"],
)
def test_what_is_no_sequence_of_tokens_is_not_told(target: Tensor, given: Tensor | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_copying(target, given, 1)
