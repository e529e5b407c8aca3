"""Which checkpoints are artifacts with which aliases, and when a run opens."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

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


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The runs that are opened, which are none of the service's."""
    found: list[Any] = []

    def init(**arguments: Any) -> Any:
        found.append(SimpleNamespace(id="abc", name="n", config={}, notes="", arguments=arguments))
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
