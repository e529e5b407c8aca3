"""Regularizers in a Trainer of Hugging Face, by the recipe of the documentation."""

from __future__ import annotations

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_advdrop.regularizers import AdversarialDropout, RDrop, Regularizer

# Typed in such detail that a small override of its trainer would need all of its arguments.
transformers: Any = import_module("transformers")
SIZE = 16


def bert() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": SIZE, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=3, **sizes)
    return transformers.BertForSequenceClassification(config)


def gpt() -> Any:
    """A language model without any dropout that has an effect on its loss."""
    torch.manual_seed(0)
    off = {"resid_pdrop": 1e-9, "embd_pdrop": 1e-9, "attn_pdrop": 1e-9}
    sizes = {"n_embd": SIZE, "n_layer": 1, "n_head": 2, "n_positions": 16, "bos_token_id": 0, "eos_token_id": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=50, **sizes, **off))


def words() -> Tensor:
    return torch.randint(1, 50, (8, 6), generator=torch.Generator().manual_seed(0))


def documents() -> list[dict[str, Tensor]]:
    return [{"input_ids": row, "labels": row[0] % 3} for row in words()]


def texts() -> list[dict[str, Tensor]]:
    return [{"input_ids": row, "labels": row} for row in words()]


def regularized(regularizer: Regularizer, weight: float = 1.0, **settings: Any) -> type[Any]:
    class Trainer(transformers.Trainer):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            plain = super().compute_loss
            (loss, outputs), penalty = regularizer(
                lambda: plain(model, inputs, True, num_items_in_batch),
                model,
                "dropout",
                target=inputs["labels"],
                output=lambda result: result[1].logits,
                weight=weight * model.training,  # 0 where the trainer evaluates
                **settings,
            )
            if num_items_in_batch is not None:
                penalty = penalty / self.args.gradient_accumulation_steps
            return (loss + penalty, outputs) if return_outputs else loss + penalty

    return Trainer


def arguments(path: Path, **changed: Any) -> Any:
    settings: dict[str, Any] = {"max_steps": 2, "report_to": "none", "use_cpu": True, "disable_tqdm": True}
    return transformers.TrainingArguments(output_dir=str(path), **settings | {"save_strategy": "no"} | changed)


def test_a_hugging_face_trainer(tmp_path: Path) -> None:
    model = bert()
    before = copy.deepcopy(model.state_dict())
    trainer = regularized(RDrop(rate=0.2))(model, arguments(tmp_path), train_dataset=documents())
    assert trainer.train().global_step == 2
    assert not torch.equal(before["classifier.weight"], model.classifier.weight)
    inputs = next(iter(DataLoader(documents(), batch_size=4)))  # type: ignore[arg-type]
    loss, outputs = trainer.compute_loss(model.train(), inputs, return_outputs=True)
    assert loss > outputs.loss  # a second cross-entropy, and the divergence
    with torch.no_grad():
        loss, outputs = trainer.compute_loss(model.eval(), inputs, return_outputs=True)
    assert loss == outputs.loss


def update(kind: type[Any], path: Path, batch: int) -> Tensor:
    """The change of all weights by one step over 8 texts."""
    model = gpt()
    start = torch.cat([each.detach().flatten().clone() for each in model.parameters()])
    settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 8 // batch, "max_grad_norm": 1e9}
    step = arguments(path, max_steps=1, optim="sgd", learning_rate=1.0, lr_scheduler_type="constant", **settings)
    kind(model, step, train_dataset=texts()).train()
    return torch.cat([each.detach().flatten() for each in model.parameters()]) - start


def test_accumulated_batches_weigh_as_in_plain_training(tmp_path: Path) -> None:
    plain = update(transformers.Trainer, tmp_path, 2)
    torch.testing.assert_close(update(regularized(RDrop(rate=0.2), 0.0), tmp_path, 2), plain)
    method = AdversarialDropout(rate=0.1, search="top", divergence="kl")
    whole, parts = (update(regularized(method, 10.0), tmp_path, batch) for batch in (8, 2))
    assert (whole - plain).norm() > 0.1 * plain.norm()
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch", [2, 8])
def test_label_smoothing_stays_that_of_the_trainer(batch: int, tmp_path: Path) -> None:
    smooth = arguments(tmp_path, label_smoothing_factor=0.1)
    inputs = next(iter(DataLoader(documents(), batch_size=batch)))  # type: ignore[arg-type]
    kinds = transformers.Trainer, regularized(RDrop(rate=0.2), 0.0)
    found = [
        kind(bert(), smooth, train_dataset=documents()).compute_loss(bert().eval(), dict(inputs)) for kind in kinds
    ]
    assert found[0] == found[1]
