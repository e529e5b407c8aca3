"""What is missing is told before anything is prepared, and a start that fails leaves nothing."""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI

from lightning_advdrop._lightning import reads_class_of_checkpoint
from lightning_advdrop.checkpoint_files import AtomicCheckpointIO
from lightning_advdrop.cli import main, run_experiment
from lightning_advdrop.cli.checking import check_accelerator, check_checkpoint, check_predicts, check_pretrained
from lightning_advdrop.cli.configs import config_names, maker_of
from tests.cli.test_cli import QUICK
from tests.helpers.messages import names, refused

OURS = {"class_path": "lightning_advdrop.TextClassificationTask"}
pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available")


@pytest.mark.parametrize("name", ["imdb_small", "elec", "rcv1", "imdb_bidirectional"])
def test_missing_weights_are_told_with_the_command_that_makes_them(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_advdrop.datamodules.text_module.TextDataModule.prepare_data", lambda _: 1 / 0)
    assert main(["fit", "--config", name]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    path = f"runs/pretrained/{name.partition('_bi')[0]}.ckpt"
    assert f"pretrained={path!r}" in said[0]
    assert f"`lightning fit --config {name.partition('_bi')[0]}_pretrain` makes it." in said[0]
    assert not list(Path().iterdir())


def test_weights_of_ones_own_are_asked_for() -> None:
    with refused("pretrained='mine.ckpt'", "no such file", "earlier run"):
        check_pretrained(OURS | {"init_args": {"hidden_size": 3, "pretrained": "mine.ckpt"}})
    Path("mine.ckpt").touch()
    check_pretrained(OURS | {"init_args": {"pretrained": "mine.ckpt", "pretrained_backward": None}})
    check_pretrained(None)


@pytest.mark.parametrize("path", ["torch.nn.Linear", "no.such.module", "torch.NoSuchClass", "not a path", None])
def test_what_other_models_call_pretrained_may_be_no_file(path: str | None) -> None:
    check_pretrained({"class_path": path, "init_args": {"pretrained": "imagenet", "pretrained_model_name": "bert"}})


def test_the_configuration_that_makes_a_checkpoint_is_found() -> None:
    assert maker_of(Path("./runs/pretrained/imdb_backward.ckpt")) == "imdb_pretrain_backward"
    assert maker_of(Path("runs/wikitext2/version_0/checkpoints/best.ckpt")) == "wikitext2"
    assert maker_of(Path("elsewhere.ckpt")) is None
    assert {"imdb_pretrain", "ptb"} <= {*config_names()}


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_gpu_that_is_not_there(
    accelerator: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert main([*QUICK, "--trainer.accelerator", accelerator]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"trainer.accelerator must be one that this machine has (cpu), got {accelerator!r}" in said[0]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    check_accelerator("gpu")
    check_accelerator("mps")
    with refused("cpu, mps", "'cuda'"):
        check_accelerator("cuda")


@pytest.mark.parametrize(
    ("path", "got"), [("best", "fit"), ("runs", "a folder"), ("", "a folder"), ("none.ckpt", "no such file")]
)
@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict"])
def test_what_is_no_checkpoint_is_told_before_anything_is_made(
    command: str, path: str, got: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning knows the best checkpoint of a fit in the same process only, also where a file has that name."""
    Path("runs").mkdir()
    Path("best").touch()
    assert main([command, *QUICK[1:], "--ckpt_path", path]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.search(names("ckpt_path", "checkpoint file", "best.ckpt", "URL", "'last'", repr(path), got), said)
    assert sorted(str(each) for each in Path().rglob("*")) == ["best", "runs"]


def test_other_places_that_lightning_loads_from_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (None, "last", "hpc", "s3://bucket/best.ckpt"):
        check_checkpoint(path)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    AtomicCheckpointIO().save_checkpoint({"step": 1}, "home.ckpt")
    check_checkpoint("~/home.ckpt")
    for name in ("sharded/meta.pt", "deepspeed/checkpoint/zero.pt"):  # FSDP and DeepSpeed save folders
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
        check_checkpoint(name.partition("/")[0])
    with refused("ckpt_path", "'registry:mine'", "no such file"):
        check_checkpoint("registry:mine")
    monkeypatch.setattr("lightning_advdrop.cli.checking.find_spec", lambda _: object())  # litmodels is installed
    check_checkpoint("registry:mine")


@pytest.mark.parametrize("there", [(), ("runs/quickstart",), ("runs/quickstart/version_0", "runs/other")])
def test_a_start_that_fails_leaves_no_folders(there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for folder in there:
        Path(folder).mkdir(parents=True)
    before = {*Path().rglob("*")}
    assert main([*QUICK, "--regularizer.init_args.sites", "embedding"]) == 2
    assert {*Path().rglob("*")} == before


class Failing(Callback):
    """Fails when a resumed fit has its weights and its step."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fail."""
        raise FileNotFoundError(f"data of step {trainer.global_step}")


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_fit_that_fails_before_its_first_step_leaves_no_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = "--trainer.logger={class_path: CSVLogger, init_args: {save_dir: runs, name: a}}"
    assert main([*QUICK, logger, "--test_after_fit", "null"]) == 0
    before = {*Path().rglob("*")}
    options = ("--ckpt_path", "last", "--trainer.max_epochs", "2", f"--trainer.callbacks+={__name__}.Failing")
    assert main([*QUICK, logger, *options]) == 2
    assert "data of step 2" in capsys.readouterr().err
    assert {*Path().rglob("*")} == before


def test_a_run_that_fails_later_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    diverging: tuple[Any, ...] = ("--model.init_args.learning_rate", "1e38", "--data.init_args.batch_size", "20")
    assert main([*QUICK, *diverging]) == 2
    assert Path("runs/quickstart/version_0/config.yaml").is_file()


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_an_untrained_model_is_warned_of(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.warns(UserWarning, match=rf"ckpt_path is not given, so {command} runs an untrained model"):
        assert main([command, *QUICK[1:]]) == 0


def test_a_model_that_does_not_predict_is_told_before_data_are_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("lightning_advdrop.datamodules.text_module.TextDataModule.prepare_data", lambda _: 1 / 0)
    options = ["--config", "elec_pretrain", "--trainer.accelerator", "cpu", "--data.init_args.root", "elec"]
    assert main(["predict", *options, "--ckpt_path", "last"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(names("Error", "model", "predict_step", "forward", "TextPretrainingTask"), said)
    assert not list(Path().iterdir())


def test_a_forward_or_a_predict_step_is_enough() -> None:
    for method in ("forward", "predict_step"):
        check_predicts(type("Theirs", (LightningModule,), {method: lambda self, batch: batch})())
    with refused("model", "predict_step", "forward", "LightningModule"):
        check_predicts(LightningModule())


def test_without_a_logger_only_the_checkpoints_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "--trainer.logger", "false"]) == 0
    assert {str(path) for path in Path().rglob("*.*")} == {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert [path.name for path in Path().iterdir()] == ["checkpoints"]
    assert "test/accuracy" in capsys.readouterr().out  # of the best weights
    assert main(["test", *QUICK[1:], "--trainer.logger", "false", "--ckpt_path", "checkpoints/best.ckpt"]) == 0
    assert [path.name for path in Path().iterdir()] == ["checkpoints"]
    assert main([*QUICK, "--trainer.logger", "false", "--trainer.default_root_dir", "mine"]) == 0
    assert list(Path("mine").rglob("best*.ckpt"))
    assert Path("mine/config.yaml").is_file()


def test_a_trainer_that_is_only_made_keeps_its_folder() -> None:
    trainer = run_experiment([*QUICK[1:], "--trainer.logger", "false"], run=False).trainer
    assert Path(trainer.default_root_dir) == Path.cwd()


class Opaque:
    """An object of a user's own class."""


@pytest.mark.skipif(not reads_class_of_checkpoint(LightningCLI), reason="this Lightning does not read it")
@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:`weights_only` was not set")
def test_objects_that_a_checkpoint_must_not_hold_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run_experiment([*QUICK, "--test_after_fit", "null"])
    path = Path("runs/quickstart/version_0/checkpoints/last.ckpt")
    torch.save(torch.load(path, weights_only=True) | {"theirs": Opaque()}, path)
    options = ["test", *QUICK[1:], "--ckpt_path", str(path)]
    capsys.readouterr()
    assert main(options) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.search(names(f"ckpt_path='{path}'", f"({__name__}.Opaque)", "add_safe_globals"), said)
    with pytest.raises(ValueError, match="Opaque") as refusal:
        run_experiment(options)
    assert isinstance(refusal.value.__cause__, UnpicklingError)
    with torch.serialization.safe_globals([Opaque]):
        assert main(options) == 0
