"""
Fine-tune a Hugging Face model
==============================

A model of ``transformers`` is used as it is, inside a LightningModule. The callback
reads its output's ``logits``, and finds its dropout as it finds any other. The BERT
here is tiny and has random weights, so that the page needs no download;
``BertForSequenceClassification.from_pretrained(...).train()`` takes its place in
practice: ``from_pretrained`` returns a model in evaluation mode, a fit leaves it there,
and its dropout would do nothing, in plain training too. In a ``Trainer`` of
``transformers`` see :doc:`/without_a_trainer`.
"""

# %%
# The task: does the first word occur again in the sentence? Sentences have different
# lengths, and an attention mask.

import lightning as L
import matplotlib.pyplot as plt
import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

WORDS = 30


def sentences(count, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, WORDS, (count, 12), generator=generator)
    lengths = torch.randint(6, 13, (count, 1), generator=generator)
    again = torch.rand(count, generator=generator) < 0.5
    places = 1 + (torch.rand(count, generator=generator) * (lengths[:, 0] - 1)).long()
    ids[again, places[again]] = ids[again, 0]
    real = torch.arange(12) < lengths
    ids = ids * real
    labels = (ids[:, 1:] == ids[:, :1]).any(1).long()
    return [
        {"input_ids": words, "attention_mask": mask.long(), "labels": label}
        for words, mask, label in zip(ids, real, labels, strict=True)
    ]


class Finetuning(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.bert = BertForSequenceClassification(
            BertConfig(
                vocab_size=WORDS,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=12,
                num_labels=2,
            )
        )
        self.accuracies = []

    def training_step(self, batch, batch_idx):
        return self.bert(**batch).loss

    def validation_step(self, batch, batch_idx):
        outputs = self.bert(**batch)
        self.log(
            "val/accuracy",
            (outputs.logits.argmax(-1) == batch["labels"]).float().mean(),
        )

    def on_validation_epoch_end(self):
        self.accuracies.append(float(self.trainer.callback_metrics["val/accuracy"]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-3)


# %%
# R-Drop was made for fine-tuning: two passes under random masks, both trained on the
# labels. The second callback starts from such a random mask and drops a few more units,
# those that raise the loss most. See :doc:`/regularizers`.
#
# A batch of ``transformers`` is a mapping: ``target="labels"``.

from lightning_advdrop import AdversarialDropoutCallback, RDropCallback

callbacks = {
    "plain": [],
    "R-Drop": [RDropCallback(sites="dropout", rate=0.1, target="labels")],
    "on top of random dropout": [
        AdversarialDropoutCallback(
            sites="dropout",
            rate=0.02,
            target="labels",
            start="sampled",
            start_rate=0.1,
            reference_in_base=True,
            flips="drop",
            rescaling="expected",
            both_losses=True,
        )
    ],
}

print(callbacks["R-Drop"][0].describe(Finetuning()))

# %%
# The same training with each:

train, val = sentences(300, seed=1), sentences(400, seed=2)


def fit(chosen):
    L.seed_everything(0, verbose=False)
    model = Finetuning()
    trainer = L.Trainer(
        max_epochs=10,
        accelerator="cpu",
        callbacks=chosen,
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        model,
        DataLoader(train, batch_size=30, shuffle=True),
        DataLoader(val, batch_size=400),
    )
    return model.accuracies


accuracies = {name: fit(chosen) for name, chosen in callbacks.items()}

# %%
# One seed, and settings that nobody tuned: the picture shows that training works with
# each, not which is better.

figure, axes = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
for (name, values), color in zip(
    accuracies.items(), ("#000000", "#0072B2", "#D55E00"), strict=True
):
    axes.plot(range(1, len(values) + 1), values, color=color, label=name)
axes.set(xlabel="Epoch", ylabel="Validation accuracy")
_ = axes.legend(frameon=False)
