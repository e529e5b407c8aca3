"""Several processes: the weights of one process on the same examples; sharded weights are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor

from lightning_advdrop import AdversarialDropoutCallback, NonMonotonicAveraging, RDropCallback, RegularizerCallback
from lightning_advdrop.regularizers import AdversarialDropout
from tests.helpers.distributed import GlooStrategy
from tests.helpers.messages import each_names, refused
from tests.helpers.plain_models import QuietModel, SplitModel, learnable_data, quiet_trainer, seeded

ROOT = Path(__file__).parent.parent.parent


def weights(*callbacks: L.Callback, kind: type[SplitModel] = SplitModel, **trainer: Any) -> dict[str, Tensor]:
    """The average of the weights, which is left in the model after the fit."""
    model, averaging = seeded(kind), NonMonotonicAveraging(from_start=True)
    together = quiet_trainer(callbacks=[*callbacks, averaging], max_epochs=1, use_distributed_sampler=False, **trainer)
    together.fit(model)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.mark.filterwarnings("ignore:.*barrier.*:UserWarning")
@pytest.mark.parametrize(
    "choices",
    [
        {"divergence": "ce", "start": "ones", "share_masks": True},
        {"divergence": "kl", "search": "label"},
        {"divergence": "kl", "search": "label", "both_losses": True, "detach_base": False},
    ],
    ids=["ce", "label", "one graph"],
)
def test_two_processes_learn_what_one_learns_on_the_same_batches(choices: dict[str, Any]) -> None:
    """Without random numbers: each process draws its own."""

    def callbacks() -> list[L.Callback]:
        method = AdversarialDropout(rate=0.2, **choices)
        return [RegularizerCallback(method), RDropCallback(weight=0.0)]  # both are sent to the processes

    one = weights(*callbacks())
    two = weights(*callbacks(), strategy=GlooStrategy(), devices=2)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-6)
    assert any(not torch.equal(one[name], value) for name, value in weights().items())


class OneNaN(SplitModel):
    """Predicts NaN for one example, which only one of two processes sees."""

    def forward(self, x: Tensor) -> Any:
        marked = x[:, 0, 0] == learnable_data()[0][21, 0, 0]
        return torch.where(marked[:, None], torch.nan, super().forward(x))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        x, y = batch
        return torch.nn.functional.cross_entropy(self(x).nan_to_num(0.0), y)


@pytest.mark.filterwarnings("ignore:.*barrier.*:UserWarning", "ignore:AdversarialDropoutCallback leaves the penalty")
def test_all_processes_leave_out_a_penalty_that_is_nan_in_one() -> None:
    def callback() -> AdversarialDropoutCallback:
        choices: dict[str, Any] = {"divergence": "ce", "start": "ones", "share_masks": True, "nonfinite": "skip"}
        return AdversarialDropoutCallback(rate=0.2, **choices)

    alone = callback()
    one = weights(alone, kind=OneNaN)
    assert alone.skipped == 1
    two = weights(callback(), kind=OneNaN, strategy=GlooStrategy(), devices=2)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-6)
        assert one[name].isfinite().all()


class MyFSDP(FSDPStrategy):
    pass


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy, MyFSDP], ids=lambda s: s.__name__)
def test_strategies_that_shard_the_weights_are_refused_by_name(strategy: type[Any]) -> None:
    trainer = SimpleNamespace(strategy=object.__new__(strategy))  # without the devices that it would ask for
    name = "ModelParallelStrategy" if strategy is ModelParallelStrategy else "FSDPStrategy"
    with refused("AdversarialDropoutCallback", f"strategy={name}", error=MisconfigurationException):
        AdversarialDropoutCallback().setup(trainer, QuietModel(), "fit")  # type: ignore[arg-type]


SHARDED = """
import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor
from tests.helpers.plain_models import PlainModel, loader, quiet_trainer

class OnTheCPU(FSDPStrategy):
    root_device = torch.device("cpu")

class Model(PlainModel):
    def configure_model(self):
        pass

def fit(strategy, *callbacks):
    try:
        quiet_trainer(strategy=strategy, devices=1, callbacks=list(callbacks)).fit(Model(), loader())
        print("fitted")
    except Exception as error:
        print(type(error).__name__, error)

fit("fsdp", AdversarialDropoutCallback())
fit(OnTheCPU(process_group_backend="gloo"))
fit(OnTheCPU(process_group_backend="gloo"), AdversarialDropoutCallback())
fit(OnTheCPU(process_group_backend="gloo"), InferenceGapMonitor())
fit(ModelParallelStrategy(1, 1, process_group_backend="gloo"), AdversarialDropoutCallback())
"""


def test_fully_sharded_training_does_not_run_on_the_cpu_and_is_refused_where_it_would() -> None:
    """In a process of its own, since torch's process group stays behind."""
    run = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, check=True, cwd=ROOT)
    lightnings, torchs, *ours = [line for line in run.stdout.splitlines() if "Error" in line or "Exception" in line]
    assert lightnings.startswith("ValueError The strategy `fsdp` requires a GPU accelerator")
    assert torchs.startswith("RuntimeError FSDP needs a non-CPU accelerator device")
    expected = [("AdversarialDropoutCallback", "FSDPStrategy"), ("InferenceGapMonitor", "FSDPStrategy")]
    expected.append(("AdversarialDropoutCallback", "ModelParallelStrategy"))
    kind, remedies = "MisconfigurationException", ("'auto'", "'ddp'")
    assert each_names(ours, [(kind, name, f"strategy={strategy}", *remedies) for name, strategy in expected])
