"""Models whose weights are tied, normalised, factored, dropped or swapped."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from tests.masking.zoo.registry import CLASSES, FEATURES, HIDDEN, STEPS, WORDS, Recurrent, Small, Tokens, model

KIND = "weights"


@model("tied embedding and softmax", KIND, shifts="embedding")
class Tied(Tokens):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, HIDDEN)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, WORDS)
        self.head.weight = self.embedding.weight

    def batch(self, number: int) -> Any:
        torch.manual_seed(100 + number)
        words = torch.randint(1, WORDS, (4, STEPS + 1))
        return words[:, :-1], words[:, 1:]

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.cross_entropy(prediction.flatten(0, 1), target.flatten())

    def forward(self, words: Tensor) -> Any:
        return self.head(self.lstm(self.embedding(words))[0])


@model("two layers that share a weight", KIND)
class Shared(Small):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.GRU(FEATURES, FEATURES, batch_first=True)
        self.second = nn.GRU(FEATURES, FEATURES, batch_first=True)
        self.second.weight_hh_l0 = self.first.weight_hh_l0
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.second(self.first(x)[0])[0][:, -1])


@model("weight_norm of old on the recurrent weights", KIND)
class OldWeightNorm(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.lstm = nn.utils.weight_norm(self.lstm, "weight_hh_l0")


@model("weight_norm as a parametrization", KIND)
class WeightNorm(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.weight_norm(self.lstm, "weight_hh_l0")
        parametrizations.weight_norm(self.head)


@model("spectral_norm of the recurrent weights", KIND)
class SpectralNorm(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.spectral_norm(self.lstm, "weight_hh_l0")


@model("spectral_norm of the head, of old", KIND)
class OldSpectralNorm(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.utils.spectral_norm(self.head)


class Cayley(nn.Module):
    """A parametrization by hand: an orthogonal matrix from any square one."""

    def forward(self, weight: Tensor) -> Tensor:
        skew, eye = weight.triu(1) - weight.triu(1).T, torch.eye(len(weight))
        return torch.linalg.solve(eye + skew, eye - skew)  # type: ignore[no-any-return]


@model("orthogonal recurrent weights", KIND)
class Orthogonal(Small):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(FEATURES, HIDDEN, batch_first=True)
        parametrize.register_parametrization(self.rnn, "weight_hh_l0", Cayley())
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.rnn(x)[0][:, -1])


class WeightDrop(nn.Module):
    """DropConnect as AWD-LSTM's code has it: the raw weight is kept beside a dropped copy."""

    def __init__(self, layer: nn.LSTM) -> None:
        super().__init__()
        self.layer = layer
        self.raw = nn.Parameter(layer.weight_hh_l0.data)  # type: ignore[arg-type]
        self.drop()

    def drop(self) -> None:
        self.layer._parameters.pop("weight_hh_l0", None)
        dropped: Any = F.dropout(self.raw, 0.4, self.training)
        self.layer.weight_hh_l0 = dropped

    def forward(self, x: Tensor) -> Any:
        self.drop()
        return self.layer(x)


# In validation the weight is a parameter of the layer, and none that a mask was found for.
@model("WeightDrop around a layer", KIND, drops=True, refused={"InferenceGapMonitor": ("sites", "recurrent")})
class Dropped(Small):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = WeightDrop(nn.LSTM(FEATURES, HIDDEN, batch_first=True))
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


@model("functional_call with scaled weights", KIND)
class Functional(Recurrent):
    def forward(self, x: Tensor) -> Any:
        weights = {name: 0.9 * value for name, value in self.lstm.named_parameters()}
        output, _ = torch.func.functional_call(self.lstm, weights, (x,))
        return self.head(output[:, -1])


class LowRank(nn.Module):
    """A low-rank adapter of a frozen linear layer."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, layer.out_features, bias=False)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.up(self.down(self.drop(x)))  # type: ignore[no-any-return]


@model("a low-rank adapter on frozen layers", KIND, drops=True)
class Adapted(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.lstm.requires_grad_(False)
        self.adapter = LowRank(nn.Linear(HIDDEN, CLASSES))

    def forward(self, x: Tensor) -> Any:
        return self.adapter(self.lstm(x)[0][:, -1])


@model("a part frozen until the second epoch", KIND)
class Thawing(Recurrent):
    def on_train_epoch_start(self) -> None:
        self.lstm.requires_grad_(self.current_epoch > 0)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


@model("quantisation-aware fake quantisation", KIND)
class FakeQuantised(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.quantise = torch.ao.quantization.FakeQuantize(  # type: ignore[no-untyped-call]
            torch.ao.quantization.MovingAverageMinMaxObserver, quant_min=0, quant_max=255
        )

    def forward(self, x: Tensor) -> Any:
        return self.head(self.quantise(self.lstm(x)[0][:, -1]))


@model("weights clipped in the forward", KIND)
class Clipped(Recurrent):
    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            self.head.weight.clamp_(-0.3, 0.3).mul_(0.99)
        return super().forward(x)


@model("autocast to bfloat16", KIND, trainer={"precision": "bf16-mixed"}, rounding=0.05)
class Autocast(Recurrent):
    pass


@model("double precision", KIND, trainer={"precision": "64-true"}, rounding=1e-12)
class Double(Recurrent):
    pass
