"""
Tag sequences of different lengths with a BiLSTM
================================================

A tagger predicts a label for each step. Its batches hold sequences of different
lengths, which are padded, and packed for the LSTM. Two things matter here: a packed
sequence is masked as it is, and steps of padding must not count in the penalty.
"""

# %%
# The task: each step shows one of 12 symbols. A step's label tells whether the same
# symbol occurs again later in the sequence, so that the backward direction is needed.

import lightning as L
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

SYMBOLS, PADDING = 12, -100


def sequences(count, seed):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        length = int(torch.randint(5, 21, (), generator=generator))
        symbols = torch.randint(SYMBOLS, (length,), generator=generator)
        labels = torch.tensor(
            [
                int(symbol in symbols[place + 1 :])
                for place, symbol in enumerate(symbols)
            ]
        )
        found.append((symbols, labels))
    return found


def collate(examples):
    symbols, labels = zip(*examples, strict=True)
    return {
        "symbols": pad_sequence(symbols, batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=PADDING),
        "lengths": torch.tensor([len(each) for each in symbols]),
    }


class Tagger(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, 16)
        self.lstm = nn.LSTM(16, 32, bidirectional=True, batch_first=True)
        self.head = nn.Linear(64, 2)

    def forward(self, symbols, lengths):
        packed = pack_padded_sequence(
            self.embedding(symbols), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(outputs)  # (B, T, 2)

    def loss(self, batch):
        logits = self(batch["symbols"], batch["lengths"])
        return F.cross_entropy(
            logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=PADDING
        )

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch), batch_size=len(batch["lengths"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


# %%
# ``padding_mask`` tells which steps are real. It is a key of the batch or, as here, a
# function of it. ``target`` is where the batch has its labels. Both directions have
# masks of their own.

from lightning_advdrop import AdversarialDropoutCallback, MaskStatistics


def real_steps(batch):
    return torch.arange(batch["labels"].shape[1]) < batch["lengths"][:, None]  # (B, T)


callback = AdversarialDropoutCallback(
    sites="recurrent", rate=0.1, target="labels", padding_mask=real_steps
)
print(callback.describe(Tagger()))

# %%
# ``MaskStatistics`` counts which units the search drops.

from lightning.pytorch.loggers import CSVLogger

L.seed_everything(0, verbose=False)
trainer = L.Trainer(
    max_epochs=12,
    accelerator="cpu",
    callbacks=[callback, MaskStatistics()],
    logger=CSVLogger("runs", name="tagger"),
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    log_every_n_steps=1,
)
train = DataLoader(
    sequences(200, seed=1), batch_size=50, shuffle=True, collate_fn=collate
)
val = DataLoader(sequences(200, seed=2), batch_size=200, collate_fn=collate)
trainer.fit(Tagger(), train, val)

for name in ("val/loss", "advdrop/divergence", "advdrop/flip_rate"):
    print(f"{name}: {float(trainer.callback_metrics[name]):.3f}")

# %%
# ``advdrop/flip_rate`` is at most the budget, 3 of 32 units. It wrote this picture to
# the folder of the run: a column for each epoch, a row for each unit, and a panel for
# each direction. Bright units are those on which predictions lean.

from pathlib import Path

figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
axes.imshow(plt.imread(Path(trainer.log_dir) / "masks_heat_map.png"))
_ = axes.axis("off")
