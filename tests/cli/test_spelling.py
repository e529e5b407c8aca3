"""Options and keys of configurations that are not known: one sentence, with the nearest known spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_advdrop.cli import main
from lightning_advdrop.cli.parsing import one_sentence

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
OPTIONS: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "model argument": (("model.init_args.hiden_size", "3"), ("'hiden_size'", "'hidden_size'")),
    "option": (("regulariser", "null"), ("--regulariser", "'regularizer'")),
    "class": (("model", "SequentialMNISTTsk"), ("SequentialMNISTTsk", "'SequentialMNISTTask'")),
    "class of a module": (("data", "lightning_advdrop.DigitDataModule"), ("DigitDataModule'", "'DigitsDataModule'")),
    "callback": (("regularizer", "RDropCalback"), ("RDropCalback", "'RDropCallback'")),
    "divergence": (("regularizer.init_args.divergence", "mse_logit"), ("mse_logit", "'mse_logits'")),
    "value": (("data.init_args.by", "pixels"), ("pixels", "'pixel'")),
    "weights": (("test_after_fit", "bets"), ("bets", "'best'")),
    "unknown model": (
        ("model", "Foo"),
        ("model must name a class", "'Foo'", "ours are LanguageModelingTask, SequentialMNISTTask"),
    ),
    "unknown data": (("data", "lightning_advdrop.Foo"), ("Foo", "ours are DigitsDataModule", "WikiText2DataModule")),
    "unknown regularizer": (("regularizer", "Foo"), ("Foo", "ours are AdversarialDropoutCallback", "RDropCallback")),
    "unknown callback": (("trainer.callbacks+", "Foo"), ("Foo", "ours are", "KeepBest", "MaskStatistics")),
    "number": (("regularizer.init_args.rate", "much"), ('"rate"', "float", "much")),
    "sites": (("regularizer.init_args.sites", "recurent"), ("'recurent'", "'recurrent'")),
}
KEYS: dict[str, tuple[tuple[str, ...], Any, tuple[str, ...]]] = {
    "model argument": (("model", "init_args", "hiden_size"), 3, ("'hiden_size'", "'hidden_size'")),
    "trainer": (("trainer", "max_epoch"), 3, ("'trainer.max_epoch'", "'trainer.max_epochs'")),
    "module": (("model", "class_path"), "lightning_advdrp.SequentialMNISTTask", ("advdrp", "'lightning_advdrop'")),
    "callback": (("regularizer", "class_path"), "lightning_advdrop.RDropCalback", ("RDropCalback", "'RDropCallback'")),
    "data argument": (("data", "init_args", "batchsize"), 5, ("'batchsize'", "'batch_size'")),
    "value": (("data", "init_args", "by"), "rows", ("rows", "'row'")),
    "number": (("model", "init_args", "learning_rate"), "fast", ("learning_rate", "float", "fast")),
}


def refused(capsys: pytest.CaptureFixture[str], parts: tuple[str, ...], *arguments: str) -> None:
    capsys.readouterr()
    try:
        code: object = main(list(arguments))
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(said) == 1
    assert said[0].startswith("Error: ")
    assert len(said[0]) < 500
    for part in parts:
        assert part in said[0]


@pytest.mark.parametrize(("option", "parts"), OPTIONS.values(), ids=list(OPTIONS))
def test_options(option: tuple[str, str], parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    name, value = option
    refused(capsys, parts, "fit", "--config", str(QUICKSTART), f"--{name}", value)


@pytest.mark.parametrize(("place", "value", "parts"), KEYS.values(), ids=list(KEYS))
def test_keys(
    place: tuple[str, ...], value: Any, parts: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(QUICKSTART.read_text())
    at = config
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    refused(capsys, parts, "fit", "--config", str(tmp_path / "config.yaml"))


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, right in (("fitt", "'fit'"), ("clasify", "'classify'"), ("--versoin", "'--version'")):
        assert main([wrong]) == 2
        said = capsys.readouterr().err
        assert repr(wrong) in said
        assert f"did you mean {right}?" in said


@pytest.mark.parametrize(("key", "near"), [("hiden_size", "hidden_size"), ("trainer.max_epoch", "trainer.max_epochs")])
def test_messages_of_early_releases_of_jsonargparse(key: str, near: str) -> None:
    told = one_sentence(f'Validation failed: No action for key "{key}" to check its value.', [])
    assert told == f"Validation failed: Key '{key}' is not expected; did you mean '{near}'?"
