"""Models with unusual control flow, hooks, metrics and training steps."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from tests.masking.zoo.registry import BATCH, CLASSES, FEATURES, HIDDEN, STEPS, Recurrent, model

KIND = "steps and control flow"


@model("metrics in the step", KIND)
class Metrics(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.accuracy, self.val_accuracy = MulticlassAccuracy(CLASSES), MulticlassAccuracy(CLASSES)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self(batch[0])
        self.accuracy(logits, batch[1])
        self.log("train/accuracy", self.accuracy, on_step=False, on_epoch=True, batch_size=BATCH)
        return F.cross_entropy(logits, batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.val_accuracy.update(self(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        self.log("val/accuracy", self.val_accuracy.compute())
        self.val_accuracy.reset()


@model("a metric that is updated in the forward", KIND)
class MetricInForward(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.size = MeanMetric()

    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        self.size.update(logits.detach().abs())
        return logits

    def on_train_epoch_end(self) -> None:
        self.log("train/size", self.size.compute())
        self.size.reset()


@model("self.log within the forward", KIND)
class LogsInForward(Recurrent):
    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        self.log("size", logits.abs().mean(), on_epoch=True, batch_size=BATCH)
        return logits


@model("a history of losses, kept by the step", KIND)
class History(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.losses: dict[str, list[float]] = {"train": [], "val": []}
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        self.outputs.append(logits.detach())
        return logits

    def step(self, batch: Any) -> Any:
        loss = super().step(batch)
        self.losses["train" if self.training else "val"].append(loss.item())
        return loss


@model("a hook that counts and changes", KIND)
class Hooked(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.calls = {"lstm": 0}
        self.lstm.register_forward_hook(self.scale)

    def scale(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        self.calls["lstm"] += 1
        return output[0] * (1 + self.calls["lstm"] % 3), output[1]


@model("a hook on the module that is called", KIND)
class HookedOutside(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.features: dict[str, Tensor] = {}
        self.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        self.features["last"] = output.detach()
        return output / 0.5

    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self(batch[0]), batch[1]) + 0.0 * self.features["last"].sum()


class Negated(torch.autograd.Function):
    """Turns gradients around, as for domain-adversarial training."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return -0.5 * gradients[0] + 0.0 * x


@model("a gradient that is turned around", KIND, arguments={"output": 0})
class Reversing(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.domain = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Any:
        hidden = self.lstm(x)[0][:, -1]
        return self.head(hidden), self.domain(Negated.apply(hidden))  # type: ignore[no-untyped-call]

    def step(self, batch: Any) -> Any:
        logits, domain = self(batch[0])
        return F.cross_entropy(logits, batch[1]) + F.binary_cross_entropy_with_logits(domain, torch.ones(BATCH, 1))


class Coupling(torch.autograd.Function):
    """A reversible block, which computes its input again in the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        out = torch.cat([first, second + first @ weight], -1)
        ctx.save_for_backward(out.detach(), weight)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        out, weight = ctx.saved_tensors
        first, grad = out.chunk(2, -1)[0], gradients[0]
        left, right = grad.chunk(2, -1)
        return torch.cat([left + right @ weight.T, right], -1), first.flatten(0, -2).T @ right.flatten(0, -2)


@model("a reversible block", KIND)
class Reversible(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(HIDDEN // 2, HIDDEN // 2))

    def forward(self, x: Tensor) -> Any:
        return self.head(Coupling.apply(self.lstm(x)[0], self.weight)[:, -1])  # type: ignore[no-untyped-call]


@model("exceptions for control flow", KIND)
class Excepting(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.failures = 0

    def forward(self, x: Tensor) -> Any:
        try:
            x = x + torch.ones(STEPS + 1, 1)
        except RuntimeError:
            self.failures += 1
            x = x + self.failures % 2
        return super().forward(x)


@model("what is computed depends on the trainer's step and epoch", KIND)
class Scheduled(Recurrent):
    def forward(self, x: Tensor) -> Any:
        if self.trainer.global_step % 2:
            x = x.flip(1)
        return super().forward(x * (1 + self.current_epoch))


@model("layers in a plain list", KIND)
class Unregistered(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.norms = [nn.BatchNorm1d(FEATURES), nn.BatchNorm1d(FEATURES)]
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Any:
        for norm in self.norms:
            x = norm(self.scale * x.transpose(1, 2)).transpose(1, 2)
        return super().forward(x)


@functools.lru_cache
def positions(steps: int) -> Tensor:
    return torch.arange(steps).float().unsqueeze(-1)


@model("functions and properties that remember", KIND)
class Remembering(Recurrent):
    @functools.cached_property
    def frequency(self) -> Tensor:
        return torch.rand(FEATURES)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x + (positions(x.shape[1]) * self.frequency).sin())


@model("gradients accumulated over batches", KIND, trainer={"accumulate_grad_batches": 2})
class Accumulating(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(HIDDEN)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.norm(self.lstm(x)[0][:, -1]))


@model("clipped gradients, Adam and a schedule by steps", KIND, trainer={"gradient_clip_val": 0.5})
class Scheduling(Recurrent):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@model("two optimizers, by hand", KIND, refused={"all": ("manual",), "InferenceGapMonitor": ()})
class Manual(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        loss = self.step(batch)
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        self.log("train/loss", loss, batch_size=BATCH)

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.lstm, self.head)]


@model("a step that skips batches", KIND)
class Skipping(Recurrent):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) if batch_idx else None


@model("a network that is compiled in part", KIND)
class Compiled(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.act = torch.compile(nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.Tanh()), backend="eager")

    def forward(self, x: Tensor) -> Any:
        return self.head(self.act(self.lstm(x)[0][:, -1]))


@model("a network inside the module", KIND, arguments={"module": "net"}, shifts="net:input")
class Inside(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.net = Recurrent()
        del self.lstm, self.head
        self.norm = nn.BatchNorm1d(FEATURES)

    def step(self, batch: Any) -> Any:
        x = self.norm(batch[0].transpose(1, 2)).transpose(1, 2)
        return F.cross_entropy(self.net(x) * 0.9, batch[1])
