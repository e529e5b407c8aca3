"""Models with random generators of their own, counters, and noise by hand."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.masking.zoo.registry import BATCH, CLASSES, FEATURES, HIDDEN, STEPS, Recurrent, Small, model

KIND = "own randomness"


@model("own torch.Generator", KIND)
class OwnTorchGenerator(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.noise = torch.Generator().manual_seed(5)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x + torch.randn(x.shape, generator=self.noise))


@model("own np.random.Generator", KIND)
class OwnNumPyGenerator(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(5)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x + torch.from_numpy(self.rng.standard_normal(x.shape, dtype=np.float32)))


@model("own np.random.RandomState in an object", KIND)
class OwnRandomState(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.settings = {"rng": np.random.RandomState(5)}

    def forward(self, x: Tensor) -> Any:
        scale = float(self.settings["rng"].uniform(0.2, 2.0))
        return super().forward(scale * x)


@model("own random.Random", KIND)
class OwnRandom(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.coin = random.Random(5)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.flip(1) if self.coin.random() < 0.5 else x)


class Noise(nn.Module):
    """Gaussian noise with a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(2)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * torch.randn(x.shape, generator=self.generator) if self.training else x


@model("a generator in a submodule and a list", KIND)
class NestedGenerators(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.noise = Noise()
        self.generators = [torch.Generator().manual_seed(n) for n in range(2)]

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.noise(x) + sum(torch.rand(1, generator=each) for each in self.generators))


@model("a counter that changes what is computed", KIND)
class Counting(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return super().forward(x if self.calls % 2 else -x)


@model("global noise of all three libraries", KIND)
class GlobalNoise(Recurrent):
    def forward(self, x: Tensor) -> Any:
        x = x + 0.5 * torch.randn_like(x) + float(np.random.standard_normal())
        return super().forward(x[:, : random.randint(2, STEPS)])


@model("stochastic depth", KIND)
class StochasticDepth(Small):
    def __init__(self) -> None:
        super().__init__()
        self.grus = nn.ModuleList([nn.GRU(FEATURES, FEATURES, batch_first=True) for _ in range(3)])
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Any:
        for layer in self.grus:
            if not self.training or torch.rand(()) < 0.7:
                x = x + layer(x)[0]
        return self.head(x[:, -1])


@model("zoneout by hand on cells", KIND, shifts="embedding", refused={"perturbations": ("sites", "embedding")})
class Zoneout(Small):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(FEATURES, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Any:
        h = c = x.new_zeros(len(x), HIDDEN)
        for step in x.unbind(1):
            new, c = self.cell(step, (h, c))
            keep = torch.bernoulli(torch.full_like(h, 0.3)) if self.training else 0.3
            h = keep * h + (1 - keep) * new
        return self.head(h)


@model("variational dropout by hand", KIND)
class LockedDropout(Recurrent):
    def forward(self, x: Tensor) -> Any:
        if self.training:
            x = x * torch.empty(len(x), 1, FEATURES).bernoulli_(0.7) / 0.7
        return super().forward(x)


@model("functional dropout and dropout between layers", KIND, drops=True)
class FunctionalDropout(Recurrent):
    def __init__(self) -> None:
        super().__init__(num_layers=2, dropout=0.3)

    def forward(self, x: Tensor) -> Any:
        output, _ = self.lstm(x)
        return self.head(F.dropout(output[:, -1], 0.4, self.training))


@model("reparametrised latent of a VAE", KIND, arguments={"output": 0})
class Variational(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_variance = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x: Tensor) -> Any:
        hidden = self.lstm(x)[0][:, -1]
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return self.head(z), mean, log_variance

    def step(self, batch: Any) -> Any:
        logits, mean, log_variance = self(batch[0])
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return F.cross_entropy(logits, batch[1]) + 0.1 * kl


@model("an iterator that is advanced", KIND)
class Iterating(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.scales = iter([1.0, 0.5, 2.0] * 50)

    def forward(self, x: Tensor) -> Any:
        return super().forward(next(self.scales) * x)


@model("a quasi-random engine", KIND)
class QuasiRandom(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.engine = torch.quasirandom.SobolEngine(FEATURES, scramble=True, seed=1)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Any:
        return super().forward(x + self.engine.draw(BATCH).unsqueeze(1))
