"""A small classifier, the methods that free its graph early, and training with and without that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_advdrop import (
    AdversarialDropoutCallback,
    FraternalDropoutCallback,
    PiModelCallback,
    PseudoEnsembleCallback,
    VirtualAdversarialCallback,
)
from lightning_advdrop.callbacks import AdversarialTrainingCallback, stepping
from lightning_advdrop.callbacks.early_backward import EarlyBackward, early_backward
from tests.helpers.plain_models import quiet_trainer

BATCH, STEPS, FEATURES, CLASSES, UNITS = 6, 5, 4, 3, 7


def hooked(tensor: Tensor, hook: Callable[[Tensor], Any]) -> None:
    tensor.register_hook(hook)  # type: ignore[no-untyped-call]


class Classifier(L.LightningModule):
    """An LSTM in double precision, with an embedding-free input and dropout before its head."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, UNITS, batch_first=True, dtype=torch.float64)
        self.head = nn.Linear(UNITS, CLASSES, dtype=torch.float64)
        self.unused = nn.Linear(2, 2, dtype=torch.float64)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.lstm(x)[0][:, -1]))
        return logits

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.3, momentum=0.9)


def data() -> DataLoader[Any]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(4 * BATCH, STEPS, FEATURES, dtype=torch.float64, generator=draw)
    return DataLoader(TensorDataset(x, torch.randint(CLASSES, (len(x),), generator=draw)), BATCH)


#: Noise of their own, so that passes share nothing that is computed before the first mask.
APART: dict[str, Any] = {"share_masks": False}
METHODS: dict[str, Callable[[], L.Callback]] = {
    "gradient": lambda: AdversarialDropoutCallback(rate=0.3, weight=2.0, search="gradient", **APART),
    "gradient, ce": lambda: AdversarialDropoutCallback(rate=0.3, search="gradient", start="ones", divergence="ce"),
    "label": lambda: AdversarialDropoutCallback(rate=0.3, weight=2.0, search="label", **APART),
    "label, refined": lambda: AdversarialDropoutCallback(rate=0.3, search="label", steps=2, **APART),
    "top": lambda: AdversarialDropoutCallback(rate=0.3, search="top", **APART),
    "fisher": lambda: AdversarialDropoutCallback(rate=0.3, search="fisher", draws=2, **APART),
    "weight": lambda: AdversarialDropoutCallback(sites="weight", rate=0.1, search="label", **APART),
    "both losses": lambda: AdversarialDropoutCallback(
        rate=0.3,
        search="label",
        start="sampled",
        reference_in_base=True,
        flips="drop",
        rescaling="expected",
        both_losses=True,
        **APART,
    ),
    "fraternal": lambda: FraternalDropoutCallback(rate=0.3, detach_base=True),
    "pi": lambda: PiModelCallback(rate=0.3, detach_base=True),
    "pseudo-ensemble": lambda: PseudoEnsembleCallback(rate=0.3, detach_base=True),
    "vat": lambda: VirtualAdversarialCallback(sites="input", epsilon=1.0, share_masks=False),
    "adversarial training": lambda: AdversarialTrainingCallback(sites="input", epsilon=1.0, share_masks=False),
}


SETTINGS = ("rate", "search", "start", "reference_in_base", "flips", "rescaling", "both_losses")


@contextmanager
def early(found: list[Any], monkeypatch: pytest.MonkeyPatch, *, joint: bool) -> Iterator[None]:
    """Watch the early backward passes, or keep them from happening."""

    def watched(*args: Any) -> Any:
        found.append("kept" if joint else early_backward(*args))
        return found[-1]

    with monkeypatch.context() as patch:
        patch.setattr(stepping, "early_backward", watched)
        yield


def trained(
    monkeypatch: pytest.MonkeyPatch,
    model: Callable[[], L.LightningModule],
    *methods: Callable[[], L.Callback],
    joint: bool = False,
    **trainer: Any,
) -> tuple[dict[str, Tensor], list[Any]]:
    found: list[Any] = []
    L.seed_everything(1, verbose=False)
    module, callbacks = model(), [method() for method in methods]
    with early(found, monkeypatch, joint=joint):
        fit = quiet_trainer(callbacks=[*callbacks, *trainer.pop("callbacks", [])], max_epochs=2, **trainer)
        fit.fit(module, data())
    return module.state_dict(), found


def same_weights(
    monkeypatch: pytest.MonkeyPatch, model: Any, *methods: Any, rtol: float = 1e-9, **trainer: Any
) -> None:
    expected, _ = trained(monkeypatch, model, *methods, joint=True, **trainer)
    weights, found = trained(monkeypatch, model, *methods, **trainer)
    assert found
    assert all(isinstance(each, EarlyBackward) for each in found)
    torch.testing.assert_close(weights, expected, rtol=rtol, atol=1e-10)
    plain, _ = trained(monkeypatch, model, **trainer)
    assert not all(torch.allclose(weights[name], plain[name], rtol=1e-4) for name in weights)
