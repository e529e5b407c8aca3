"""What is asked of every model of somebody else's that the callback is attached to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback, RegularizerCallback
from lightning_advdrop.functional import DivergenceName
from lightning_advdrop.masking import MaskSite
from lightning_advdrop.regularizers import AdversarialDropout
from tests.helpers.traces import traces

# Makes a model, trains it a few steps with these callbacks, and returns it with the metrics of its trainer.
Train = Callable[[Sequence[Any]], tuple[nn.Module, Mapping[str, Any]]]


class _WithoutFlips(AdversarialDropout):
    """Makes its second pass although there is no budget."""

    def active(self, sites: Sequence[MaskSite]) -> bool:
        return True


def without_flips(sites: str = "recurrent", *, divergence: DivergenceName = "kl") -> RegularizerCallback:
    """A callback that compares two passes with the same noise and the same masks: none, as of the gradient search."""
    method = _WithoutFlips(rate=0.0, divergence=divergence, search="gradient", share_masks=True)
    return RegularizerCallback(method, sites)


def check_training(train: Train, **arguments: Any) -> None:
    """Trains plainly and with the callback: the penalty counts, the weights differ, and nothing else is left."""
    (plain, _), (model, metrics) = (trained(train, c) for c in ([], [AdversarialDropoutCallback(**arguments)]))
    for name in ("train/penalty", "advdrop/divergence", "advdrop/flip_rate"):
        assert 0 < metrics[name] < float("inf"), name
    before, after = plain.state_dict(), model.state_dict()
    floats = [name for name, value in before.items() if isinstance(value, Tensor) and value.is_floating_point()]
    assert all(after[name].isfinite().all() for name in floats)
    assert any(not torch.equal(before[name], after[name]) for name in floats)
    assert traces(model) == traces(plain)


def check_replay(train: Train, **arguments: Any) -> None:
    """Without flips the second pass is the base pass to the bit: all other noise is replayed."""
    _, metrics = trained(train, [without_flips(**arguments)])
    assert metrics["advdrop/divergence"] == 0, metrics
    assert metrics["advdrop/flip_rate"] == 0


def trained(train: Train, callbacks: Sequence[Any]) -> tuple[nn.Module, Mapping[str, Any]]:
    """Always from the same seed."""
    L.seed_everything(5, verbose=False)
    return train(callbacks)
