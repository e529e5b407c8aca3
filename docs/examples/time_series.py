"""
Forecast a time series with a GRU
=================================

Any loss will do. Here a GRU forecasts the next twelve values of noisy waves with the
mean squared error, so that predictions are compared as numbers: ``divergence="auto"``
takes the mean squared difference, ``mse``, and says so when the fit starts.
"""

# %%
# The series are sums of two waves with random phases, and noise. There are few of them.

import lightning as L
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PAST, FUTURE = 36, 12


def waves(count, seed):
    generator = torch.Generator().manual_seed(seed)
    phases = 6.28 * torch.rand(2, count, 1, generator=generator)
    steps = torch.arange(PAST + FUTURE)
    clean = (steps / 4 + phases[0]).sin() + 0.5 * (steps / 1.7 + phases[1]).sin()
    return clean + 0.3 * torch.randn(count, PAST + FUTURE, generator=generator)


def loader(series, **options):
    return DataLoader(
        TensorDataset(series[:, :PAST, None], series[:, PAST:]),
        batch_size=20,
        **options,
    )


class Forecaster(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 48, num_layers=2, batch_first=True)
        self.head = nn.Linear(48, FUTURE)
        self.curve = []

    def forward(self, past):  # (B, 36, 1)
        outputs, _ = self.gru(past)
        return self.head(outputs[:, -1])  # (B, 12)

    def training_step(self, batch, batch_idx):
        past, future = batch
        return F.mse_loss(self(past), future)

    def validation_step(self, batch, batch_idx):
        past, future = batch
        self.log("val/loss", F.mse_loss(self(past), future))

    def on_validation_epoch_end(self):
        self.curve.append(float(self.trainer.callback_metrics["val/loss"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 3e-3)


# %%
# A mapping gives each site a budget of its own: here 2 of 48 units in the first layer,
# and 4 in the second.

from lightning_advdrop import AdversarialDropoutCallback

callback = AdversarialDropoutCallback(
    sites={"gru.l0:recurrent": 0.05, "gru.l1:recurrent": 0.09}, rate=0.05
)
print(callback.describe(Forecaster()))

# %%
# Train without and with the callback.

train, val = waves(60, seed=1), waves(200, seed=2)


def fit(*callbacks):
    L.seed_everything(0, verbose=False)
    model = Forecaster()
    trainer = L.Trainer(
        max_epochs=40,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader(train, shuffle=True), loader(val))
    return model.eval()


plain, regularized = fit(), fit(callback)

# %%
# The validation loss over the epochs, and one forecast:

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.plot(plain.curve, color="#000000", label="plain")
left.plot(regularized.curve, color="#D55E00", label="adversarial dropout")
left.set(xlabel="Epoch", ylabel="Validation loss (MSE)", ylim=(0, None))
left.legend(frameon=False)

series = val[3]
with torch.no_grad():
    forecasts = {
        "plain": plain(series[None, :PAST, None])[0],
        "adversarial dropout": regularized(series[None, :PAST, None])[0],
    }
right.plot(series, color="#999999", label="series")
for (name, forecast), color in zip(
    forecasts.items(), ("#000000", "#D55E00"), strict=True
):
    right.plot(range(PAST, PAST + FUTURE), forecast, color=color, label=name)
right.set(xlabel="Step", ylabel="Value")
_ = right.legend(frameon=False)
