"""Models that return and predict other things than logits ``(B, classes)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.masking.zoo.registry import BATCH, CLASSES, FEATURES, HIDDEN, STEPS, Numbers, Recurrent, Small, model

KIND = "outputs"
NO_CLASSES: dict[str, Any] = {"refused": {"targets": ("target",)}}


@model("a dictionary with logits", KIND)
class ReturnsDict(Recurrent):
    def forward(self, x: Tensor) -> Any:
        return {"hidden": x.mean(), "logits": super().forward(x)}

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.cross_entropy(prediction["logits"], target)


@dataclass
class Found:
    hidden: Tensor
    scores: Tensor


@model("a dataclass", KIND, arguments={"output": "scores"})
class ReturnsDataclass(Recurrent):
    def forward(self, x: Tensor) -> Any:
        hidden = self.lstm(x)[0][:, -1]
        return Found(hidden, self.head(hidden))

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.cross_entropy(prediction.scores, target) + 0.01 * prediction.hidden.square().mean()  # type: ignore[no-any-return]


class Both(NamedTuple):
    prediction: Tensor
    state: tuple[Tensor, Tensor]


@model("a named tuple", KIND)
class ReturnsNamedTuple(Recurrent):
    def forward(self, x: Tensor) -> Any:
        output, state = self.lstm(x)
        return Both(self.head(output[:, -1]), state)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.cross_entropy(prediction.prediction, target)


@model("logits and the state, carried by the step", KIND)
class CarriesByStep(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.state: Any = None

    def forward(self, x: Tensor, state: Any) -> Any:
        output, state = self.lstm(x, state)
        return self.head(output[:, -1]), state

    def step(self, batch: Any) -> Any:
        logits, state = self(batch[0], self.state)
        self.state = tuple(each.detach() for each in state)
        return F.cross_entropy(logits, batch[1])


@model("loss in the forward", KIND, arguments={"output": "logits"})
class LossInForward(Recurrent):
    def forward(self, x: Tensor, y: Tensor) -> Any:
        logits = super().forward(x)
        return {"loss": F.cross_entropy(logits, y, label_smoothing=0.1), "logits": logits}

    def step(self, batch: Any) -> Any:
        return self(*batch)["loss"]


@model("a step that returns a dictionary, with several losses", KIND)
class SeveralLosses(Recurrent):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self(batch[0])
        losses = {"loss/class": F.cross_entropy(logits, batch[1]), "loss/size": 0.01 * logits.square().mean()}
        self.log_dict(losses, batch_size=BATCH)
        return {"loss": sum(losses.values()), "logits": logits.detach()}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("train/seen", outputs["logits"].mean(), batch_size=BATCH)


class Binary(Recurrent):
    """One logit for each example."""

    def batch(self, number: int) -> Any:
        x, y = super().batch(number)
        return x, (y % 2).float()

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(prediction, target)


@model("one logit, squeezed to (B,)", KIND)
class Squeezed(Binary):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[:, 0]


@model("one logit (B, 1)", KIND, arguments={"target": 1})
class OneLogit(Binary):
    def batch(self, number: int) -> Any:
        x, y = super().batch(number)
        return x, y.unsqueeze(1)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[:, :1]


@model("several labels at once", KIND)
class MultiLabel(Binary):
    def batch(self, number: int) -> Any:
        x, _ = super().batch(number)
        return x, torch.randint(2, (BATCH, CLASSES)).float()


@model("a regression", KIND)
class Regression(Numbers):
    pass


@model("a forecast of several steps and features", KIND, refused={"targets": ("mse_loss", "huber_loss")})
class Forecast(Numbers):
    def batch(self, number: int) -> Any:
        x, _ = super().batch(number)
        return x, torch.randn(BATCH, 2, FEATURES)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.huber_loss(prediction, target)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x)[0][:, -2:])


@model("quantiles", KIND, method={"divergence": "mse"},
       refused={"targets": ("target",), "AdversarialTrainingCallback": ("loss='auto'",)})  # fmt: skip
class Quantiles(Numbers):
    def batch(self, number: int) -> Any:
        x, y = super().batch(number)
        return x, y[:, 0]

    def loss(self, prediction: Any, target: Any) -> Tensor:
        error, levels = target.unsqueeze(-1) - prediction, torch.tensor([0.1, 0.5, 0.9])
        return torch.maximum(levels * error, (levels - 1) * error).mean()


@model("a distribution", KIND, refused={"all": ("output", "Normal")})
class Gaussian(Numbers):
    def forward(self, x: Tensor) -> Any:
        hidden = self.head(self.lstm(x)[0][:, -1])
        return torch.distributions.Normal(hidden, 1 + hidden.exp())

    def step(self, batch: Any) -> Any:
        return -self(batch[0]).log_prob(batch[1]).mean()


def _mean(found: Any) -> Tensor:
    return found.mean  # type: ignore[no-any-return]


@model("the mean of a distribution", KIND, method={"divergence": "mse"}, arguments={"output": _mean})
class GaussianMean(Gaussian):
    pass


@model("mixup with soft labels", KIND)
class Mixup(Recurrent):
    def step(self, batch: Any) -> Any:
        x, y = batch
        share, order = torch.rand(()), torch.randperm(BATCH)
        soft = F.one_hot(y, CLASSES).float()
        return F.cross_entropy(self(share * x + (1 - share) * x[order]), share * soft + (1 - share) * soft[order])


@model("probabilities as labels", KIND)
class SoftLabels(Recurrent):
    def batch(self, number: int) -> Any:
        x, _ = super().batch(number)
        return x, torch.rand(BATCH, CLASSES).softmax(-1)


@model("connectionist temporal classification", KIND, **NO_CLASSES)
class Ctc(Recurrent):
    def batch(self, number: int) -> Any:
        x, _ = super().batch(number)
        return x, torch.randint(1, CLASSES, (BATCH, 2))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x)[0]).log_softmax(-1).transpose(0, 1)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        lengths = torch.full((BATCH,), STEPS), torch.full((BATCH,), 2)
        return F.ctc_loss(prediction, target, *lengths, zero_infinity=True)


@model("logits (B, classes, time)", KIND)
class ClassesSecond(Recurrent):
    def batch(self, number: int) -> Any:
        x, _ = super().batch(number)
        return x, torch.randint(CLASSES, (BATCH, STEPS))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x)[0]).transpose(1, 2)


@model("log-probabilities and nll_loss", KIND)
class LogProbabilities(Recurrent):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).log_softmax(-1)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.nll_loss(prediction, target)


@model("classes that are ruled out by -inf", KIND)
class RuledOut(Recurrent):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).masked_fill(torch.tensor([False, False, True]), -torch.inf)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.cross_entropy(prediction, target % 2)

    def batch(self, number: int) -> Any:
        x, y = super().batch(number)
        return x, y % 2


def _itself(batch: Tensor) -> Tensor:
    return batch


@model("an auto-encoder", KIND, arguments={"target": _itself})
class AutoEncoder(Small):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.decoder = nn.GRU(HIDDEN, FEATURES, batch_first=True)

    def batch(self, number: int) -> Any:
        return super().batch(number)[0]

    def forward(self, x: Tensor) -> Any:
        _, h = self.encoder(x)
        return self.decoder(h[0].unsqueeze(1).expand(-1, STEPS, -1))[0]

    def step(self, batch: Any) -> Any:
        return F.mse_loss(self(batch), batch)
