"""What averages of the weights refuse and say, and how they go with the commands and with several processes."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import FSDPStrategy

from lightning_advdrop import ExponentialAveraging, NonMonotonicAveraging
from lightning_advdrop.cli import run_experiment
from tests.cli.test_cli import QUICK
from tests.helpers.averaging_models import Scripted, averaged_fit, every_step
from tests.helpers.messages import names, refused
from tests.helpers.plain_models import seeded
from tests.helpers.releases import EMAWeightAveraging, since

pytestmark = pytest.mark.filterwarnings(
    "ignore:Checkpoint directory", "ignore:The dirpath has changed", "ignore:The `srun` command is available"
)


@pytest.mark.parametrize(
    ("made", "arguments", "parts"),
    [
        (NonMonotonicAveraging, {"nonmono": 0}, ("nonmono", 1, 0)),
        (NonMonotonicAveraging, {"mode": "low"}, ("mode", "min, max", "'low'")),
        (ExponentialAveraging, {"decay": 1.0}, ("decay", "[0, 1)", 1.0)),
        (ExponentialAveraging, {"decay": -0.1}, ("decay", "[0, 1)", -0.1)),
        (ExponentialAveraging, {"update_every_n_steps": 0}, ("update_every_n_steps", 1, 0)),
        (ExponentialAveraging, {"update_starting_at_step": -1}, ("update_starting_at_step", 0, None, -1)),
    ],
    ids=str,
)
def test_arguments_are_checked_when_it_is_made(made: Any, arguments: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        made(**arguments)


def test_a_metric_that_is_not_logged_is_refused_with_those_that_are() -> None:
    with refused("monitor", "'val/los'", "val/loss"):
        averaged_fit(seeded(Scripted), NonMonotonicAveraging(1, "val/los"))


def test_a_run_without_validation_is_refused() -> None:
    with refused("NonMonotonicAveraging", "'val/loss'", "none", error=MisconfigurationException):
        averaged_fit(seeded(Scripted), NonMonotonicAveraging(1), limit_val_batches=0)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(ExponentialAveraging, id="ours"),
        pytest.param(EMAWeightAveraging, id="Lightning's", marks=since(2, 6, "it came with it")),
        pytest.param(functools.partial(StochasticWeightAveraging, 0.1), id="stochastic"),
    ],
)
def test_another_average_is_refused(other: Any) -> None:
    with refused("NonMonotonicAveraging", type(other()).__name__, error=MisconfigurationException):
        averaged_fit(seeded(Scripted), NonMonotonicAveraging(1), other())


def test_sharded_weights_are_refused() -> None:
    trainer: Any = SimpleNamespace(strategy=object.__new__(FSDPStrategy), callbacks=[])
    with refused("ExponentialAveraging", "strategy=FSDPStrategy", error=MisconfigurationException):
        ExponentialAveraging().setup(trainer, Scripted(), "fit")


class Renaming(Scripted):
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {f"my.{name}": value for name, value in super().state_dict(*args, **kwargs).items()}


def test_a_state_dict_with_names_of_its_own_is_refused() -> None:
    with refused("NonMonotonicAveraging", "state_dict", "Renaming", "embedding"):
        averaged_fit(seeded(Renaming), NonMonotonicAveraging(1, from_start=True))


def test_a_checkpoint_without_its_state_warns(tmp_path: Path) -> None:
    averaged_fit(seeded(Scripted), every_step(tmp_path), max_epochs=1)
    callbacks = NonMonotonicAveraging(1), every_step(tmp_path)
    with pytest.warns(UserWarning, match=names("checkpoint", "NonMonotonicAveraging")):
        averaged_fit(seeded(Scripted), *callbacks, ckpt_path=tmp_path / "step=3.ckpt", max_epochs=1)


AVERAGES = (
    pytest.param("lightning_advdrop.ExponentialAveraging", id="ours"),
    pytest.param(
        "lightning.pytorch.callbacks.EMAWeightAveraging", id="Lightning's", marks=since(2, 6, "it came with it")
    ),
)


@pytest.mark.parametrize("class_path", AVERAGES)
@pytest.mark.parametrize("which", ["best", "last"])
def test_the_commands_test_averaged_weights(class_path: str, which: str) -> None:
    """Of the checkpoint or the end of a regularized fit, as the configuration names them."""
    averaging = f"--trainer.callbacks+={{class_path: {class_path}, init_args: {{decay: 0.9}}}}"
    command = run_experiment([*QUICK, averaging, "--test_after_fit", which, "--data.init_args.eval_batch_size", "300"])
    assert command.trainer.log_dir is not None
    saved = torch.load(Path(command.trainer.log_dir, "checkpoints", f"{which}.ckpt"), weights_only=True)
    assert not torch.equal(saved["state_dict"]["model.head.weight"], saved["current_model_state"]["model.head.weight"])
    for name, value in command.model.state_dict().items():
        assert torch.equal(value, saved["state_dict"][name])
    assert isinstance(command.model, L.LightningModule)
