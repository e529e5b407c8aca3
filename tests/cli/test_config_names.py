"""Configurations by name: found from anywhere, listed, copied."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lightning_advdrop.cli import main
from lightning_advdrop.cli.configs import config_names, find_config, with_files
from lightning_advdrop.files import configs_folder
from tests.helpers.messages import names, refused

CONFIGS = Path(__file__).parents[2] / "configs"
DIGITS = ("--data.init_args.train_size", "50", "--trainer.max_epochs", "1")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_every_file_has_a_name() -> None:
    files = {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")}
    assert {f"{name}.yaml" for name in config_names(sweeps=True)} == files
    assert {*config_names(sweeps=True)} - {*config_names()} == {
        f"sweeps/{path.stem}" for path in (CONFIGS / "sweeps").iterdir()
    }
    assert all(Path(find_config(name)).samefile(CONFIGS / f"{name}.yaml") for name in config_names())
    assert find_config("methods/text/adversarial_dropout.yaml") == find_config("methods/text/adversarial_dropout")


def test_a_file_of_ones_own_comes_first_and_other_values_stay() -> None:
    Path("quickstart").write_text("")
    Path("mine.yaml").write_text("")
    for value in ("quickstart", "mine.yaml", "{seed_everything: 1}", "s3://bucket/a.yaml"):
        assert find_config(value) == value


def test_names_are_replaced_in_each_form_of_the_option() -> None:
    path = str(configs_folder() / "quickstart.yaml")
    given = ["fit", "--config", "quickstart", "-c", "quickstart", "--config=quickstart", "--model.name", "quickstart"]
    expected = ["fit", "--config", path, "-c", path, f"--config={path}", "--model.name", "quickstart"]
    assert with_files(given) == expected


def test_an_experiment_and_a_method_are_found_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """In another folder than that of the repository; the overlay replaces the method."""
    text = printed(capsys, "sites", "--config", "quickstart", "--config", "methods/r_drop", *DIGITS)
    assert "RDropCallback" in text
    assert "model.lstm.l0:recurrent" in text


@pytest.mark.parametrize(
    ("value", "near"), [("quikstart", "'quickstart'"), ("configs/ptb_small.yaml", "'ptb_small'"), ("no/such", "")]
)
def test_what_is_neither_a_file_nor_a_name_is_refused(
    value: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with refused("config", "advdrop configs list", repr(value), near):
        find_config(value)
    assert main(["fit", "--config", value]) == 2
    assert repr(value) in capsys.readouterr().err


def test_a_sweep_is_no_experiment() -> None:
    with refused("config", "sweeps/rate", "wandb sweep"):
        find_config("sweeps/rate")


def test_the_list_has_a_line_for_each_with_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "configs", "list").splitlines()
    assert [line.split()[0] for line in lines] == config_names(sweeps=True)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    (line,) = printed(capsys, "configs", "list", "methods/r_drop").splitlines()
    assert line == "methods/r_drop  R-Drop (Liang et al., 2021)."


def test_copies_are_the_files_and_replace_none(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["quickstart", "methods/text/adversarial_dropout"]
    paths = printed(capsys, "configs", "copy", *chosen, "--output", "mine").splitlines()
    assert paths == [str(Path("mine") / f"{name}.yaml") for name in chosen]
    for name, path in zip(chosen, paths, strict=True):
        assert yaml.safe_load(Path(path).read_text()) == yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert main(["configs", "copy", "smnist", "quickstart", "--output", "mine"]) == 2
    assert str(Path("mine/quickstart.yaml")) in capsys.readouterr().err
    assert not Path("mine/smnist.yaml").exists()
    assert len(printed(capsys, "configs", "copy").splitlines()) == len(config_names(sweeps=True))
    assert Path("configs/smnist.yaml").is_file()


@pytest.mark.parametrize("output", ["afile", "afile/below"])
def test_copies_to_a_place_that_is_no_folder_are_refused(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("afile").write_text("mine")
    assert main(["configs", "copy", "ptb", "--output", output]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.search(names("Error", output, "cannot be written", "name a folder"), said)
    assert Path("afile").read_text() == "mine"


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("list", "copy"):
        assert main(["configs", action, "smnist", "methods/rdrop"]) == 2
        said = capsys.readouterr().err
        assert "'methods/rdrop'; did you mean 'methods/r_drop'?" in said
    assert not Path("configs").exists()
