"""
Classify with a Transformer
===========================

A network without recurrent layers has sites, too: ``sites="dropout"`` takes the units
that its own dropout acts on, that of attention included. In the pass under the masks
found, these masks replace the random ones.
"""

# %%
# A Transformer encoder that reads the rows of 300 digits:

import lightning as L
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from lightning_advdrop import (
    AdversarialDropoutCallback,
    DigitsDataModule,
)
from torch import nn


class Classifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.positions = nn.Parameter(0.1 * torch.randn(8, 32))
        layer = nn.TransformerEncoderLayer(
            32, nhead=4, dim_feedforward=64, dropout=0.1, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, num_layers=2, enable_nested_tensor=False
        )
        self.head = nn.Linear(32, 10)
        self.curve = []

    def forward(self, rows):  # (B, 8, 8)
        return self.head(self.encoder(self.embed(rows) + self.positions).mean(1))

    def training_step(self, batch, batch_idx):
        rows, labels = batch
        return F.cross_entropy(self(rows), labels)

    def validation_step(self, batch, batch_idx):
        rows, labels = batch
        self.log("val/loss", F.cross_entropy(self(rows), labels))

    def on_validation_epoch_end(self):
        self.curve.append(
            {
                name: float(value)
                for name, value in self.trainer.callback_metrics.items()
            }
        )

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 2e-3)


# %%
# The sites: the dropout modules, named by their place in the network. Dropout within
# attention is called as a function, and found when the forward runs.

callback = AdversarialDropoutCallback(sites="dropout", rate=0.02)
print(callback.describe(Classifier()))

# %%
# The same training twice: plain, and with the callback.


def fit(*callbacks):
    L.seed_everything(0, verbose=False)
    model = Classifier()
    trainer = L.Trainer(
        max_epochs=20,
        accelerator="cpu",
        callbacks=[*callbacks],
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DigitsDataModule(by="row", train_size=300))
    return model.curve


curves = {"plain": fit(), "adversarial dropout": fit(callback)}

# %%
# On the left the validation loss. On the right the penalty: how far the masks that the
# search finds move the predictions in training.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for (name, curve), color in zip(curves.items(), ("#000000", "#D55E00"), strict=True):
    epochs = range(1, len(curve) + 1)
    left.plot(epochs, [each["val/loss"] for each in curve], color=color, label=name)
    if name != "plain":
        penalties = [each["train/penalty"] for each in curve[1:]]
        right.plot(epochs[1:], penalties, color=color, label=name)
left.set(xlabel="Epoch", ylabel="Validation loss")
right.set(xlabel="Epoch", ylabel="Penalty (KL)", yscale="log")
_ = left.legend(frameon=False)
