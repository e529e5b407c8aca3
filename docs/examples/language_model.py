"""
A language model that masks weights
===================================

Language models are regularized at the hidden-to-hidden weights: ``sites="weight"``
masks the weight matrix itself. The whole batch shares the mask, and each row of the
matrix has its own budget. This is DropConnect with the worst mask instead of a random
one.
"""

# %%
# A character model of a text that a small grammar generates. The hidden state is
# carried from batch to batch.

import lightning as L
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

SUBJECTS = ["the cat", "a dog", "my old aunt", "the boy next door", "nobody"]
VERBS = ["sees", "hears", "likes", "does not know", "paints"]
OBJECTS = ["the moon", "a red house", "the sea", "an owl", "the road home"]
STREAMS, STEPS = 10, 40


def text(sentences, seed):
    generator = torch.Generator().manual_seed(seed)
    choices = torch.randint(5, (sentences, 3), generator=generator).tolist()
    return "".join(f"{SUBJECTS[s]} {VERBS[v]} {OBJECTS[o]}. " for s, v, o in choices)


ALPHABET = sorted(set(text(500, seed=0)))


def batches(source):
    characters = torch.tensor([ALPHABET.index(character) for character in source])
    rows = characters[: len(characters) // STREAMS * STREAMS].view(
        STREAMS, -1
    )  # each a running text
    starts = range(0, rows.shape[1] - STEPS - 1, STEPS)
    return DataLoader(
        [(rows[:, at : at + STEPS], rows[:, at + 1 : at + STEPS + 1]) for at in starts],
        batch_size=None,
    )


class CharacterModel(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(ALPHABET), 16)
        self.lstm = nn.LSTM(16, 64, batch_first=True)
        self.head = nn.Linear(64, len(ALPHABET))
        self.state, self.curve = None, []

    def forward(self, characters):
        outputs, state = self.lstm(self.embedding(characters), self.state)
        self.state = tuple(part.detach() for part in state)
        return self.head(outputs)  # (B, T, characters)

    def training_step(self, batch, batch_idx):
        characters, following = batch
        return F.cross_entropy(self(characters).flatten(0, 1), following.flatten())

    def validation_step(self, batch, batch_idx):
        characters, following = batch
        self.log(
            "val/loss",
            F.cross_entropy(self(characters).flatten(0, 1), following.flatten()),
            batch_size=STREAMS,
        )

    def on_train_epoch_start(self):
        self.state = None

    def on_validation_epoch_start(self):
        self.state = None

    def on_validation_epoch_end(self):
        self.curve.append(float(self.trainer.callback_metrics["val/loss"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 5e-3)


# %%
# The values of the published language models: the mean squared difference of the
# logits, with a weight of 0.1, and a budget of 6 % of each row. ``self.state`` is
# carried from batch to batch by the base pass alone: the other pass starts where the
# base pass started, and what the module holds afterwards is what the base pass left.

from lightning_advdrop import AdversarialDropoutCallback

callback = AdversarialDropoutCallback(
    sites="weight", rate=0.06, divergence="mse_logits", weight=0.1
)
print(callback.describe(CharacterModel()))

# %%
# Few sentences to learn from, and others to validate on:

train, val = batches(text(150, seed=1)), batches(text(150, seed=2))


def fit(*callbacks):
    L.seed_everything(0, verbose=False)
    model = CharacterModel()
    trainer = L.Trainer(
        max_epochs=20,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, train, val)
    return model


models = {"plain": fit(), "adversarial dropout": fit(callback)}

figure, axes = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
for (name, model), color in zip(models.items(), ("#000000", "#D55E00"), strict=True):
    axes.plot(torch.tensor(model.curve).exp(), color=color, label=name)
axes.set(xlabel="Epoch", ylabel="Validation perplexity of a character", yscale="log")
_ = axes.legend(frameon=False)

# %%
# What the second model continues, taking the most probable character each time:


def continue_text(model, start, length=60):
    model.eval()
    model.state, written = None, start
    characters = torch.tensor([[ALPHABET.index(character) for character in start]])
    with torch.no_grad():
        for _ in range(length):
            characters = model(characters)[:, -1:].argmax(-1)
            written += ALPHABET[int(characters)]
    return written


print(continue_text(models["adversarial dropout"], "the cat "))
