"""What the commands log to Weights & Biases, read back from the runs that they write offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
import wandb
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from lightning_advdrop.cli import main, run_experiment
from lightning_advdrop.cli.summary import end_of_fit
from lightning_advdrop.cli.wandb_runs import earlier_id
from lightning_advdrop.loggers import WandbRunLogger
from tests.cli.test_cli import CONFIGS, QUICK
from tests.helpers.wandb_files import OfflineRun, read_offline_runs

pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available", "ignore:The dirpath has changed")

RUN_VARIABLES = ("PROJECT", "ENTITY", "RUN_GROUP", "NAME", "RUN_ID", "JOB_TYPE", "NOTES", "TAGS")


@pytest.fixture(autouse=True)
def _as_if_the_process_began(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights & Biases reads the environment once in a process."""
    for name in (*RUN_VARIABLES, "API_KEY", "BASE_URL"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    wandb.teardown()
    yield
    wandb.teardown()


def quick(*options: str) -> OfflineRun:
    run_experiment([*QUICK, *options])
    return last_run()


def last_run() -> OfflineRun:
    wandb.teardown()  # or the end of the file may not be written yet
    return read_offline_runs()[-1]


def with_logger(**arguments: Any) -> str:
    """The option that logs to Weights & Biases only, with further arguments."""
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger"}
    init = {"project": "lightning-advdrop", "group": "theirs", "save_dir": "runs", **arguments}
    return f"--trainer.logger={yaml.safe_dump([{**logger, 'init_args': init}], default_flow_style=True)}"


def test_a_run_says_what_it_is() -> None:
    found = quick()
    assert found.run.display_name == "quickstart-adversarial-s0"
    assert (found.run.project, found.run.run_group, found.run.job_type) == ("lightning-advdrop", "quickstart", "fit")
    assert list(found.run.tags) == ["quickstart", "adversarial", "DigitsDataModule", "lightning-advdrop 0.1.0"]
    assert found.run.notes == f"advdrop {' '.join(QUICK)}"


def test_methods_and_seeds_are_in_the_name() -> None:
    both = "[{class_path: RDropCallback}, {class_path: lightning_advdrop.FraternalDropoutCallback}]"
    assert quick("--seed_everything", "3", "--regularizer", "null").run.display_name == "quickstart-plain-s3"
    assert quick(f"--regularizer={both}").run.display_name == "quickstart-r-drop+fraternal-s0"


def test_the_configuration_is_there_once() -> None:
    config = quick().config
    assert config["model"]["init_args"]["hidden_size"] == 8
    assert config["regularizer"]["init_args"]["rate"] == 0.03
    assert "hidden_size" not in config
    assert not {"_instantiator", "config"} & set(config)


class OwnLogger(WandbLogger):
    """A user's, which the commands leave as it is."""


def test_a_logger_of_ones_own_gets_the_configuration() -> None:
    logger = {"class_path": f"{__name__}.OwnLogger", "init_args": {"project": "p", "save_dir": "runs"}}
    config = quick(f"--trainer.logger={yaml.safe_dump([logger], default_flow_style=True)}").config
    assert config["model"]["init_args"]["hidden_size"] == 8
    assert config["regularizer"]["init_args"]["rate"] == 0.03


def test_the_best_values_are_in_the_summary() -> None:
    found = quick("--trainer.max_epochs", "3")
    for name, best in (("val/accuracy", max), ("val/loss", min)):
        values = found.values(name)
        assert len(values) == 3
        assert found.summary[name] == {best.__name__: best(values), "last": values[-1]}
    assert isinstance(found.summary["advdrop/flip_rate"], float)
    assert found.metrics["val/loss"].step_metric == "trainer/global_step"


def test_steps_and_epochs_have_keys_of_their_own() -> None:
    """Two batches an epoch: of the steps every second is logged, as Lightning's trainer is told."""
    found = quick("--trainer.max_epochs", "4", "--trainer.log_every_n_steps", "2", "--data.init_args.batch_size", "25")
    names = ("train/loss", "advdrop/divergence", "advdrop/flip_rate", "advdrop/weight")
    steps = [row["trainer/global_step"] for row in found.history if "train/loss_step" in row]
    assert steps == [1, 3, 5, 7, 9, 11, 13, 15]
    for name in names:
        assert len(found.values(name)) == 4
        assert len(found.values(f"{name}_step")) == len(steps)


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    values = dict.fromkeys(RUN_VARIABLES, "mine") | {"RUN_ID": "abc12345", "TAGS": "one, two"}
    for name, value in values.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = quick(with_logger(name="theirs", tags=["theirs"])).run
    assert (run.project, run.entity, run.run_group, run.display_name) == ("mine",) * 4
    assert (run.run_id, run.job_type, run.notes, list(run.tags)) == ("abc12345", "mine", "mine", ["one", "two"])


def test_the_configuration_comes_before_what_is_made_up() -> None:
    run = quick(with_logger(name="theirs", tags=["a"], notes="why", job_type="tune", id="abc")).run
    assert (run.display_name, run.notes, run.job_type, list(run.tags)) == ("theirs", "why", "tune", ["a"])
    assert (run.run_group, run.run_id) == ("theirs", "abc")


def test_a_resumed_fit_goes_on_with_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    first = quick("--test_after_fit", "null")
    resumed = quick("--trainer.max_epochs", "2", "--ckpt_path", "last")
    assert resumed.run.run_id == first.run.run_id
    assert resumed.run.resume
    other = quick("--test_after_fit", "null")
    assert other.run.run_id != first.run.run_id
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    checkpoint = "runs/quickstart/version_0/checkpoints/last.ckpt"
    assert quick("--trainer.max_epochs", "2", "--ckpt_path", checkpoint).run.run_id == "mine"


class Opaque:
    """An object of a user's own class."""


def test_a_checkpoint_that_cannot_be_read_safely_names_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"wandb_run_id": "abc", "theirs": Opaque()}, "theirs.ckpt")
    assert earlier_id(Path("theirs.ckpt")) is None
    torch.save({"wandb_run_id": "abc"}, "ours.ckpt")
    assert earlier_id(Path("ours.ckpt")) == "abc"
    Path("not_whole.ckpt").write_bytes(Path("ours.ckpt").read_bytes()[:-30])
    assert earlier_id(Path("not_whole.ckpt")) is None


def test_a_checkpoint_is_read_for_its_run_only_where_runs_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("lightning_advdrop.cli.experiments.earlier_id", asked.append)
    options = ("--trainer.max_epochs", "1", "--test_after_fit", "null")
    run_experiment([*QUICK, *options])
    path = "runs/quickstart/version_0/checkpoints/last.ckpt"
    local = "--trainer.logger={class_path: CSVLogger, init_args: {save_dir: runs}}"
    run_experiment([*QUICK, *options, "--ckpt_path", path, local])
    assert not asked
    run_experiment([*QUICK, *options, "--ckpt_path", path])
    assert asked == [Path(path)]


@pytest.mark.parametrize("log_model", [True, "all"])
def test_checkpoints_are_artifacts_with_their_aliases(log_model: bool | str) -> None:
    found = quick(with_logger(log_model=log_model), "--trainer.max_epochs", "3")
    assert {each.name for each in found.artifacts if each.type == "model"} == {f"model-{found.run.run_id}"}
    aliases = [tuple(sorted(each.aliases, reverse=True)) for each in found.artifacts if each.type == "model"]
    assert set(aliases) == {("latest", "best"), ("latest", "last")}
    assert aliases[-1] == ("latest", "last")
    assert len(aliases) == 2 or log_model == "all"


def test_a_test_is_a_run_of_its_kind() -> None:
    first = quick()
    checkpoint = "runs/quickstart/version_0/checkpoints/best.ckpt"
    assert main(["test", *QUICK[1:], "--ckpt_path", checkpoint]) == 0
    run = last_run().run
    assert (run.job_type, run.display_name) == ("test", "quickstart-adversarial-s0")
    assert run.run_id != first.run.run_id


# The end of a fit.


def test_with_weights_and_biases_alone_the_checkpoint_and_the_upload_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_experiment([*QUICK, with_logger()])
    said = capsys.readouterr().out.splitlines()[-2:]
    assert [each.partition(":")[0] for each in said] == ["Best checkpoint", "Weights & Biases"]
    assert Path(said[0].split()[2]).is_file()
    assert list(Path(said[1].split()[-1]).glob("*.wandb"))


@pytest.mark.parametrize("steps", [0, 1])
def test_the_end_opens_no_run(steps: int) -> None:
    logger = WandbRunLogger(project="p", save_dir="runs", mode="offline")
    trainer = Trainer(logger=logger, enable_checkpointing=False, accelerator="cpu")
    if steps:
        logger.open()
    told = end_of_fit(trainer).splitlines()
    wandb.finish()
    assert len(told) == len(list(Path("runs").rglob("*.wandb"))) == steps


# Online or offline.


def mode(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str | None:
    from lightning_advdrop.loggers import WandbRunLogger

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(Path("netrc").resolve()))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(Path("settings").resolve()))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    given: dict[str, Any] = {}
    monkeypatch.setattr("wandb.init", lambda **arguments: given.update(arguments))
    WandbRunLogger(project="p").open()
    wandb.teardown()
    found: str | None = given.get("mode")
    return found


def test_a_run_is_offline_only_where_nothing_is_said_and_nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mode(monkeypatch) == "offline"
    assert mode(monkeypatch, WANDB_MODE="disabled") == "disabled"
    assert mode(monkeypatch, WANDB_MODE="shared") == "shared"
    assert mode(monkeypatch, WANDB_API_KEY="0" * 40) is None  # Weights & Biases' own default is online
    monkeypatch.delenv("WANDB_API_KEY")
    for host in ("api.wandb.ai", urlsplit(wandb.Settings().base_url).netloc):  # one server, in recent releases
        Path("netrc").write_text(f"machine {host} login user password secret\n")
        assert mode(monkeypatch) is None
    assert mode(monkeypatch, WANDB_BASE_URL="https://elsewhere.example") == "offline"
    Path("netrc").write_text("machine\n")
    assert mode(monkeypatch, WANDB_BASE_URL="https://api.wandb.ai") == "offline"


def test_online_needs_a_key_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("wandb.login")
    with pytest.raises(ValueError, match="WANDB_MODE is 'online' but Weights & Biases has no key: run `wandb login`"):
        mode(monkeypatch, WANDB_MODE="online")
    assert mode(monkeypatch, WANDB_MODE="online", WANDB_API_KEY="0" * 40) == "online"


def test_a_login_at_a_server_of_ones_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `wandb login --host` leaves it: the server in the settings, the key in netrc."""
    Path("wandb").mkdir()
    Path("wandb/settings").write_text("[default]\nbase_url = https://own.example\n")
    Path("netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert mode(monkeypatch) == "offline"
    Path("netrc").write_text("machine own.example login user password secret\n")
    assert mode(monkeypatch) is None
    Path("netrc").unlink()
    Path("wandb/settings").write_text(f"[default]\nbase_url = https://own.example\napi_key = {'0' * 40}\n")
    assert mode(monkeypatch) is None


@pytest.mark.parametrize("said", ["offline", "disabled"])
def test_wandb_offline_and_disabled_are_respected(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wandb").mkdir()
    Path("wandb/settings").write_text(f"[default]\nmode = {said}\n")
    assert mode(monkeypatch, WANDB_API_KEY="0" * 40) is None
    assert mode(monkeypatch, WANDB_API_KEY="0" * 40, WANDB_MODE="offline") == "offline"


def test_a_start_that_fails_leaves_no_run() -> None:
    assert main([*QUICK, "--regularizer.init_args.sites", "embedding"]) == 2
    assert not Path("runs").exists()
    assert CONFIGS.is_dir()
