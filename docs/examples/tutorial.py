"""
Tutorial: regularize your own model
===================================

This page starts from a model of your own that overfits, finds the places where masks
can act, trains it with adversarial dropout, and ends with a report over several seeds.
It takes ten minutes to read. The words in italics are explained in the :doc:`glossary
</glossary>`.

The model here is a small LSTM that reads the rows of 200 handwritten digits. Nothing in
it knows this package. To follow with a model of your own, replace the two classes of
the first section.
"""

# %%
# A model and its data
# --------------------
#
# An ordinary LightningModule and an ordinary LightningDataModule:

from pathlib import Path

import lightning as L
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class RowReader(L.LightningModule):
    def __init__(self, units: int = 64, learning_rate: float = 3e-3):
        super().__init__()
        self.learning_rate = learning_rate
        self.lstm = nn.LSTM(8, units, batch_first=True)
        self.head = nn.Linear(units, 10)

    def forward(self, rows):  # (B, 8, 8)
        outputs, _ = self.lstm(rows)
        return self.head(outputs[:, -1])

    def training_step(self, batch, batch_idx):
        rows, labels = batch
        loss = F.cross_entropy(self(rows), labels)
        self.log("train/loss", loss, on_epoch=True, on_step=False)
        return loss

    def evaluate(self, batch, stage):
        rows, labels = batch
        logits = self(rows)
        self.log(f"{stage}/loss", F.cross_entropy(logits, labels))
        self.log(f"{stage}/accuracy", (logits.argmax(-1) == labels).float().mean())

    def validation_step(self, batch, batch_idx):
        self.evaluate(batch, "val")

    def test_step(self, batch, batch_idx):
        self.evaluate(batch, "test")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.learning_rate)


class Digits(L.LightningDataModule):
    def setup(self, stage):
        digits = load_digits()
        order = np.random.RandomState(0).permutation(len(digits.target))
        rows = torch.tensor(digits.images[order] / 16, dtype=torch.float32)
        labels = torch.tensor(digits.target[order])
        self.parts = [
            TensorDataset(rows[part], labels[part])
            for part in (slice(200), slice(200, 800), slice(800, None))
        ]

    def train_dataloader(self):
        return DataLoader(self.parts[0], batch_size=50, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts[1], batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.parts[2], batch_size=997)


# %%
# It overfits
# -----------
#
# We train it as it is, keep the losses of each epoch, and draw them.

EPOCHS = 40


class Curves(L.Callback):
    """Keep the losses of each epoch."""

    def __init__(self):
        self.train, self.val = [], []

    def on_train_epoch_end(self, trainer, module):
        self.train.append(float(trainer.callback_metrics["train/loss"]))
        self.val.append(float(trainer.callback_metrics["val/loss"]))


def fit(*callbacks):
    L.seed_everything(0, verbose=False)
    curves = Curves()
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[curves, *callbacks],
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(RowReader(), Digits())
    return curves


plain = fit()


def draw(axes, title, curves):
    axes.plot(curves.train, color="#0072B2", label="training")
    axes.plot(curves.val, color="#D55E00", label="validation")
    axes.set(title=title, xlabel="Epoch", ylabel="Cross-entropy", ylim=(0, 2.4))
    axes.legend(frameon=False)


figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
draw(axes, "Plain training", plain)

# %%
# The training loss goes on falling. The loss on the 600 validation images soon hardly
# falls, and ends far above it. That gap is what a regularizer is for.
#
# Where can masks act?
# --------------------
#
# A *site* is a place in a network where a mask of zeros and ones multiplies units.
# ``describe`` lists the sites that a callback finds in a model, and the parts that it
# leaves alone. It trains nothing.

from lightning_advdrop import AdversarialDropoutCallback

callback = AdversarialDropoutCallback(sites="recurrent", rate=0.06)
print(callback.describe(RowReader()))

# %%
# There is one site: the recurrent connections of the LSTM. Each image has a mask of its
# own, ``(B, 64)``, which acts at every step.
#
# ``rate`` is a *budget*. In each row of a mask at most 6 % of the units may change,
# here 3 of 64. The search chooses which ones. This is not a drop probability: nothing
# is random about it.
#
# Other values of ``sites`` are ``"weight"``, ``"embedding"``, ``"input"``,
# ``"hidden"``, ``"output"`` and ``"dropout"``; :doc:`/attaching` describes them.
#
# Train with adversarial dropout
# ------------------------------
#
# Give the callback to the trainer. That is all.

regularized = fit(callback)

figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
draw(panels[0], "Plain training", plain)
draw(panels[1], "Adversarial dropout", regularized)

# %%
# ``train/loss`` is what the model logs itself, without the *penalty*. In each training
# step the callback
#
# 1. lets the model make its prediction, as always: the *base pass*,
# 2. finds, for each image, the few units on which this prediction leans most,
# 3. makes a second prediction without these units, and
# 4. adds the divergence between the two predictions to the loss.
#
# Validation and test are unchanged, and so are the names of the parameters: checkpoints
# load with and without the callback.
#
# Is it better?
# -------------
#
# One seed does not tell. So we train with several seeds, with and without the callback,
# and let ``advdrop report`` compare the runs. The report reads ``metrics.csv`` and
# ``config.yaml`` of each run. Lightning's own command line writes both; here it is
# called from Python, with the classes from above. ``InferenceGapMonitor`` is added to
# log how far predictions under masks are from those without.

import contextlib
import io

from lightning.pytorch.cli import LightningCLI

MONITOR = [
    "--trainer.callbacks+=lightning_advdrop.InferenceGapMonitor",
    "--trainer.callbacks.rate=0.06",
    "--trainer.callbacks.limit_batches=1",
]
METHODS = {
    "plain": [],
    "adversarial": [
        "--trainer.callbacks+=lightning_advdrop.AdversarialDropoutCallback",
        "--trainer.callbacks.rate=0.06",
    ],
    "r_drop": [
        "--trainer.callbacks+=lightning_advdrop.RDropCallback",
        "--trainer.callbacks.rate=0.2",
    ],
}
SETTINGS = [
    f"--trainer.max_epochs={EPOCHS}",
    "--trainer.check_val_every_n_epoch=2",
    "--trainer.accelerator=cpu",
    "--trainer.logger=CSVLogger",
    "--trainer.logger.save_dir=runs",
    "--trainer.logger.name=digits",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=4",
]

for method in METHODS.values():
    for seed in (1, 2, 3):
        arguments = ["fit", f"--seed_everything={seed}", *SETTINGS, *MONITOR, *method]
        cli = LightningCLI(RowReader, Digits, args=arguments)
        cli.trainer.test(cli.model, cli.datamodule, verbose=False)

# %%
# From a shell the report is ``advdrop report runs/digits``. It prints a table, and
# writes it with its figures to the folder ``report``.

from lightning_advdrop.cli import main

with contextlib.redirect_stdout(io.StringIO()) as printed:
    main(["report", "runs/digits"], program="advdrop")
print(printed.getvalue())

# %%
# Each row has the mean and the standard deviation over the seeds, the difference to
# plain training, and the p-value of a paired test. Three seeds with settings that
# nobody tuned are a demonstration, not evidence: before you report a difference, choose
# the settings of *each* method on validation data, and train with fresh seeds.
#
# ``curves.png`` has the validation accuracy, as a mean over the seeds, with the
# standard deviation as a band:


def show(name, width):
    _, axes = plt.subplots(figsize=(width, 3.6), layout="constrained")
    axes.imshow(plt.imread(Path("report") / name))
    axes.axis("off")


show("curves.png", 5)

# %%
# ``gap.png`` shows the gap between training under dropout and predicting without it.
# ``gap/random`` is the mean divergence under random masks that drop 3 of 64 units,
# ``gap/adversarial`` the divergence under masks that the search finds within the same
# budget. :doc:`/analysis` explains the four lines.

show("gap.png", 5)

# %%
# What next
# ---------
#
# - :doc:`/choosing`: which method, with which values.
# - :doc:`/attaching`: padding, packed sequences, several outputs, and what is refused.
# - :doc:`/questions`: the penalty stays 0, training is slow, and others.
# - :doc:`index`: a forecaster, a tagger, Transformers and a language model.
