"""What configurations say of the published settings beyond single values, and what fine-tuning keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_advdrop.cli import run_experiment
from lightning_advdrop.functional import flip_budget
from tests.configs.test_configs import CONFIGS, FEW_STEPS, earlier_run, tiny_data, with_tiny_data

__all__ = ["with_tiny_data"]

FOLDER = CONFIGS[0].parent


def of_text(overlay: str) -> list[dict[str, Any]]:
    """The settings of the methods of an overlay for document classifiers."""
    found = yaml.safe_load((FOLDER / "methods" / "text" / f"{overlay}.yaml").read_text())["regularizer"]
    return [each["init_args"] for each in (found if isinstance(found, list) else [found])]


@pytest.mark.parametrize(
    ("overlay", "steps", "flips"),
    [("adversarial_dropout", 1, [39]), ("adversarial_dropout_and_virtual_adversarial", 2, [19, 19])],
)
def test_the_published_flips_of_document_classifiers(overlay: str, steps: int, flips: list[int]) -> None:
    """A strict comparison with the 40th largest of 1,024 gains flips 39, one with the 20th, twice, 19 and 19."""
    settings = of_text(overlay)[0]
    budget = flip_budget(settings["rate"], 1024)
    first = budget // steps
    assert settings["steps"] == steps
    assert [first] * (steps - 1) + [budget - first * (steps - 1)] == flips


@pytest.mark.parametrize(
    ("overlay", "which"),
    [
        ("virtual_adversarial", 0),
        ("adversarial_training", 0),
        ("random_perturbation", 0),
        ("adversarial_dropout_and_virtual_adversarial", 1),
    ],
)
def test_the_published_perturbations_act_behind_the_embeddings_dropout(overlay: str, which: int) -> None:
    settings = of_text(overlay)[which]
    assert settings["sites"] == "input"
    assert settings["epsilon"] == 5.0
    assert (settings.get("divergence") == "ce") == (overlay == "random_perturbation")


@pytest.mark.parametrize(
    "name", ["elec", "rcv1", "wikitext2", "wikitext2_finetune", "elec_pretrain", "rcv1_pretrain", "wikitext2_small"]
)
def test_no_settings_are_called_published_where_the_authors_publish_none(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    header = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    assert "published" not in header
    if name in {"elec", "rcv1", "wikitext2", "wikitext2_finetune"}:
        assert f"with the settings of {'PTB' if 'wikitext2' in name else 'IMDB'} (Park et al." in header
        assert "publish none for" in header


@pytest.mark.usefixtures("with_tiny_data")
@pytest.mark.parametrize(("learning_rate", "kept"), [("1e-30", "start"), ("0.5", "better")])
def test_fine_tuning_ends_with_what_it_started_from_unless_something_is_better(learning_rate: str, kept: str) -> None:
    path = next(path for path in CONFIGS if path.stem == "ptb_finetune")
    tiny, overrides = tiny_data(path)
    before = earlier_run(path)
    options = [*overrides, *tiny.model_overrides, "--model.init_args.learning_rate", learning_rate]
    command = run_experiment(["fit", "--config", str(path), *FEW_STEPS, *before, *options])
    start = torch.load(before[-1], weights_only=True)["state_dict"]
    best = torch.load(str(command.trainer.ckpt_path), weights_only=True)
    assert best["global_step"] == (0 if kept == "start" else 2)
    assert all(torch.equal(start[each], best["state_dict"][each]) for each in start) == (kept == "start")


@pytest.mark.parametrize("path", [*CONFIGS, *sorted((FOLDER / "methods").rglob("adversarial_dropout*.yaml"))], ids=str)
def test_every_configuration_names_its_search(path: Path) -> None:
    """The published one, whatever the default is, but for the overlays of others."""
    found = yaml.safe_load(path.read_text()).get("regularizer") or []
    methods = [each for each in (found if isinstance(found, list) else [found]) if "Dropout" in each["class_path"]]
    others = {"adversarial_dropout_fisher": "fisher", "adversarial_dropout_on_random": "label"}
    expected = others.get(path.stem, "gradient")
    assert [each["init_args"]["search"] for each in methods] == [expected] * len(methods)
    assert methods or not path.is_relative_to(FOLDER / "methods")
