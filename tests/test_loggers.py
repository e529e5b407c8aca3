"""Which checkpoints are artifacts with which aliases, and when a run opens."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import proxy

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_advdrop.loggers import WandbRunLogger, checkpoint_aliases


def kept(monitor: str | None, mode: str, **scores: float) -> Any:
    """A checkpoint callback's attributes, with files; the best file is the one named so."""
    for name in (*scores, "last"):
        Path(f"{name}.ckpt").touch()
    return SimpleNamespace(
        best_k_models={f"{name}.ckpt": score for name, score in scores.items()},
        best_model_path="best.ckpt" if scores else "last.ckpt",
        last_model_path="last.ckpt" if "with_last" in scores else "",
        monitor=monitor,
        mode=mode,
    )


def test_the_best_by_a_metric_is_the_best() -> None:
    found = list(checkpoint_aliases(kept("val/accuracy", "max", best=0.9, second=0.8)))
    assert found == [("second.ckpt", 0.8, ["latest"]), ("best.ckpt", 0.9, ["latest", "best"])]
    assert [path for path, _, _ in checkpoint_aliases(kept("val/loss", "min", best=0.1, second=0.2))] == [
        "second.ckpt",
        "best.ckpt",
    ]


def test_the_newest_is_not_the_best() -> None:
    assert list(checkpoint_aliases(kept(None, "min"))) == [("last.ckpt", None, ["latest", "last"])]
    Path("last.ckpt").unlink()
    gone = kept(None, "min")
    gone.best_model_path = "gone"
    assert list(checkpoint_aliases(gone)) == []


def test_one_callback_may_keep_both() -> None:
    found = {path: aliases for path, _, aliases in checkpoint_aliases(kept("m", "max", best=2.0, with_last=1.0))}
    assert found == {
        "with_last.ckpt": ["latest"],
        "best.ckpt": ["latest", "best"],
        "last.ckpt": ["latest", "last"],
    }


class Run(SimpleNamespace):
    """A run that keeps what is logged."""

    artifacts: list[tuple[Any, list[str]]]

    def define_metric(self, *names: str, **how: Any) -> None:
        pass

    def log_artifact(self, artifact: Any, aliases: list[str]) -> None:
        self.artifacts.append((artifact, aliases))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The runs that are opened, which are none of the service's."""
    found: list[Any] = []

    def init(**arguments: Any) -> Any:
        found.append(Run(id="abc", name="n", config={}, notes="", arguments=arguments, artifacts=[]))
        return found[-1]

    pytest.importorskip("wandb")
    monkeypatch.setattr("wandb.init", init)
    return found


def test_a_run_opens_with_the_first_use_of_it(opened: list[Any]) -> None:
    logger = WandbRunLogger(project="p", version="v1", mode="disabled")
    run = logger.experiment
    assert not opened
    run.notes = "mine"
    assert opened[0].notes == "mine"
    assert run.config is opened[0].config
    assert logger.experiment is opened[0]
    assert opened[0].arguments["id"] == "v1"
    assert "anonymous" not in opened[0].arguments
    assert len(opened) == 1


def test_a_spawned_process_goes_on_with_the_run(opened: list[Any]) -> None:
    logger = WandbRunLogger(project="p", offline=True)
    again = pickle.loads(pickle.dumps(logger))
    assert len(opened) == 1
    assert opened[0].arguments["mode"] == "offline"
    assert again.version == "abc"


def save(logger: WandbRunLogger, path: str) -> None:
    """Let a checkpoint callback of which nobody keeps more than the file save one, as a fit does."""
    callback = ModelCheckpoint(monitor="val/loss")
    callback.best_model_path = path
    Path(path).touch()
    logger.after_save_checkpoint(proxy(callback))
    logger.finalize("success" if path.startswith("good") else "failed")


def test_a_second_fit_logs_its_own_checkpoints(opened: list[Any]) -> None:
    logger = WandbRunLogger(project="p", log_model=True, mode="disabled")
    for path in ("good-1.ckpt", "bad.ckpt", "good-2.ckpt"):
        save(logger, path)
    logged = [(artifact.metadata["file"], aliases) for artifact, aliases in opened[0].artifacts]
    assert logged == [("good-1.ckpt", ["latest", "best"]), ("good-2.ckpt", ["latest", "best"])]


def test_checkpoints_are_added_as_the_logger_was_told(opened: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    policies: list[str] = []
    monkeypatch.setattr("wandb.Artifact.add_file", lambda *given, policy, **named: policies.append(policy))
    logger = WandbRunLogger(project="p", log_model=True, mode="disabled")
    save(logger, "good-1.ckpt")
    logger.add_file_policy = "immutable"  # as Lightning's own argument sets it from release 2.6 on
    save(logger, "good-2.ckpt")
    assert policies == ["mutable", "immutable"]


def test_variables_come_before_offline(opened: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    WandbRunLogger(project="p", offline=True).open()
    monkeypatch.delenv("WANDB_MODE")
    WandbRunLogger(project="p", offline=True).open()
    assert [run.arguments["mode"] for run in opened] == ["disabled", "offline"]
