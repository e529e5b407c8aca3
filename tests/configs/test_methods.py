"""Every overlay: it replaces the method of any experiment and nothing else, and trains a few steps of each task."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

import lightning_advdrop
from lightning_advdrop import RegularizerCallback
from lightning_advdrop.callbacks.training_step import attached_regularizers
from lightning_advdrop.cli import run_experiment
from tests.configs.test_configs import FEW_STEPS, tiny_data, with_tiny_data

__all__ = ["with_tiny_data"]

FOLDER = Path(__file__).parent.parent.parent / "configs"
OF_ANY = sorted((FOLDER / "methods").glob("*.yaml"))
OF_TEXT = sorted((FOLDER / "methods" / "text").glob("*.yaml"))
OF_LANGUAGE_MODELS = sorted((FOLDER / "methods" / "language_modeling").glob("*.yaml"))
OVERLAYS = [*OF_ANY, *OF_TEXT, *OF_LANGUAGE_MODELS]
# The small experiments that an overlay is made for; by its folder.
SMALL = {
    "methods": (
        "quickstart",
        "smnist_rows",
        "smnist_small",
        "psmnist_small",
        "imdb_small",
        "ptb_small",
        "wikitext2_small",
    ),
    "text": ("imdb_small",),
    "language_modeling": ("ptb_small", "wikitext2_small"),
}
PUBLISHED = {"methods": "smnist", "text": "imdb", "language_modeling": "ptb"}
# One for each task: the others differ by their data, or by a length, which makes no difference to a method.
TRAINED = ("smnist_rows", "imdb_small", "ptb_small")
WITH_TRAINED = [(overlay, name) for overlay in OVERLAYS for name in TRAINED if name in SMALL[overlay.parent.name]]
# Of the others each overlay gets one, in turn.
OTHERS = {folder: sorted({*names} - {*TRAINED}) for folder, names in SMALL.items()}
WITH_OTHERS = [
    (overlay, others[number % len(others)])
    for number, overlay in enumerate(OVERLAYS)
    if (others := OTHERS[overlay.parent.name])
]
# What belongs to the experiment, whatever the method: its length, its model and its logging.
OF_THE_EXPERIMENT = {
    *("rampup_epochs", "module", "output", "target", "call", "padding_mask", "mask", "log_every_n_steps"),
    *("class_dim", "ignore_index", "nonfinite"),
}
# Values other than those of any overlay.
OTHER_VALUES: dict[str, Any] = {
    "sites": "weight",
    "rate": 0.9,
    "weight": 0.5,
    "steps": 3,
    "divergence": "mse",
    "flips": "drop",
    "start_rate": 0.9,
    "draws": 7,
    "epsilon": 9.0,
    "finite_difference": 9.0,
    "power_iterations": 5,
    "batch_dim": 1,
    "per_step": True,
    "both_losses": False,
}


def name_of(value: Path | str) -> str:
    """What a configuration or an overlay is called in the name of a test."""
    return value if isinstance(value, str) else str(value.relative_to(FOLDER).with_suffix(""))


def stated(overlay: Path) -> list[dict[str, Any]]:
    """The regularizers that an overlay names."""
    content = yaml.safe_load(overlay.read_text())
    assert list(content) == ["regularizer"]
    found = content["regularizer"] or []
    return found if isinstance(found, list) else [found]


def callback_class(regularizer: dict[str, Any]) -> type[RegularizerCallback]:
    package, name = regularizer["class_path"].rsplit(".", 1)
    assert package == "lightning_advdrop"
    found: type[RegularizerCallback] = getattr(lightning_advdrop, name)
    assert issubclass(found, RegularizerCallback)
    return found


def settings(regularizer: dict[str, Any]) -> set[str]:
    """The names of a method's settings: the arguments of its callback but for those of the experiment."""
    return {"weight", *inspect.signature(callback_class(regularizer)).parameters} - OF_THE_EXPERIMENT - {"kwargs"}


@cache
def merged(*configs: Path) -> Any:
    """The configuration that several files make together; its objects can be made. Tests only read it."""
    return run_experiment([argument for config in configs for argument in ("--config", str(config))], run=False).config


def regularizers_of(config: Any) -> list[dict[str, Any]]:
    found = config["regularizer"] or []
    return [dict(each.as_dict()) for each in (found if isinstance(found, list) else [found])]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=name_of)
def test_it_names_every_setting_of_its_method(overlay: Path) -> None:
    for regularizer in stated(overlay):
        assert set(regularizer["init_args"]) == settings(regularizer)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=name_of)
def test_nothing_is_left_over_of_a_published_method(overlay: Path) -> None:
    check_replacement(overlay, FOLDER / f"{PUBLISHED[overlay.parent.name]}.yaml")


@pytest.mark.parametrize("overlay", OVERLAYS, ids=name_of)
def test_nothing_is_left_over_of_other_settings(overlay: Path, tmp_path: Path) -> None:
    """Of the experiment's own class, and of every setting that two classes share."""
    name = SMALL[overlay.parent.name][0]
    experiment = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for number, regularizer in enumerate(stated(overlay)):
        names = settings(regularizer) & set(OTHER_VALUES)
        arguments = {name: OTHER_VALUES[name] for name in names} | {"log_every_n_steps": 3, "rampup_epochs": 4}
        arguments |= {"module": "model"}
        experiment["regularizer"] = {"class_path": regularizer["class_path"], "init_args": arguments}
        changed = tmp_path / f"{number}.yaml"
        changed.write_text(yaml.safe_dump(experiment))
        check_replacement(overlay, changed)


@pytest.mark.parametrize(("overlay", "name"), WITH_OTHERS, ids=name_of)
def test_nothing_is_left_over_of_a_small_experiment(overlay: Path, name: str) -> None:
    check_replacement(overlay, FOLDER / f"{name}.yaml")


def check_replacement(overlay: Path, experiment: Path) -> None:
    alone, both = merged(experiment), merged(experiment, overlay)
    found, wanted = regularizers_of(both), stated(overlay)
    assert [each["class_path"] for each in found] == [each["class_path"] for each in wanted]
    for each, want in zip(found, wanted, strict=True):
        assert {name: each["init_args"][name] for name in want["init_args"]} == want["init_args"]
    # What describes the experiment stays, and so does everything else of it.
    kept = regularizers_of(alone)[0]["init_args"]
    for each in found:
        assert {name: each["init_args"][name] for name in OF_THE_EXPERIMENT} == {n: kept[n] for n in OF_THE_EXPERIMENT}
    for name in ("model", "data", "trainer", "seed_everything", "test_after_fit"):
        assert both[name] == alone[name]


@pytest.fixture
def silent_wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights & Biases is there, and writes nothing; the process forgets that afterwards."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    yield
    wandb.teardown()


@pytest.mark.usefixtures("with_tiny_data", "silent_wandb")
@pytest.mark.parametrize(("overlay", "experiment"), WITH_TRAINED, ids=name_of)
def test_it_trains_a_few_steps(overlay: Path, experiment: str) -> None:
    path = FOLDER / f"{experiment}.yaml"
    tiny, overrides = tiny_data(path)
    arguments = ["fit", "--config", str(path), "--config", str(overlay), *FEW_STEPS]
    command = run_experiment([*arguments, *overrides, *tiny.model_overrides])
    assert [type(each) for each in attached_regularizers(command.model)] == list(map(callback_class, stated(overlay)))
    assert command.trainer.checkpoint_callback is not None
    assert len(command.trainer.loggers) == 2
    assert command.trainer.global_step == 2
    assert command.trainer.callback_metrics["test/loss"] > 0
    assert command.trainer.log_dir is not None
    logged = (Path(command.trainer.log_dir) / "metrics.csv").read_text().splitlines()[0].split(",")
    prefixes = {callback_class(each).log_prefix for each in stated(overlay)}
    assert {name.partition("/")[0] for name in logged if name.endswith("/divergence")} == prefixes
    assert ("train/penalty" in logged) == bool(prefixes)
