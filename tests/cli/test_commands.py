"""The table of commands, and what follows from it."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from lightning_advdrop.cli import COMMANDS, Command, entry_point, main

ROOT = Path(__file__).parents[2]
CALLS: list[Namespace] = []


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=1)


def _run(options: Namespace) -> int:
    CALLS.append(options)
    return 3


MEASURE = Command(("measure",), "--size N", "Measures.", _run, _options)
COMPARE = Command(("compare", "contrast"), "--size N", "Compares.", _run, _options, experiment=True)


def test_names_are_there_once() -> None:
    names = [name for command in COMMANDS for name in command.names]
    assert len(names) == len(set(names))
    assert all(command.does.endswith(".") for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.names[0])
def test_the_usage_names_every_command(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert f"advdrop {command.usage}\n" in shown
    assert f"  {command.does}\n" in shown


@pytest.mark.parametrize("name", [name for command in COMMANDS for name in command.names])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_an_entry_is_all_that_a_command_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightning_advdrop.cli.commands.COMMANDS", (*COMMANDS, MEASURE, COMPARE))
    CALLS.clear()
    assert main(["measure", "--size", "4"]) == 3
    assert main(["contrast", "--size", "5", "--config", "file", "--model.size=2"]) == 3
    measured, compared = CALLS
    assert measured == Namespace(command="measure", experiment=[], size=4)
    assert compared == Namespace(command="contrast", experiment=["--config", "file", "--model.size=2"], size=5)
    assert main(["launch"]) == 2
    assert capsys.readouterr().err.endswith(", measure, compare, contrast.\n")
    assert main(["--help"]) == 0
    assert "advdrop {compare,contrast} --size N\n" in capsys.readouterr().out


def test_options_that_are_not_understood_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        MEASURE("advdrop", ["measure", "--seize", "4"])
    assert stopped.value.code == 2
    assert "advdrop measure: error: unrecognized arguments: --seize 4" in capsys.readouterr().err


def test_a_reader_that_stops_reading_is_no_error() -> None:
    code = "import sys; from lightning_advdrop.cli import entry_point; sys.argv = ['advdrop', 'configs', 'list']"
    for answer in ("'a line'", "'many lines' * 10000"):
        run = f"import lightning_advdrop.cli.configs as configs; configs.run = lambda _: {answer}"
        command = [sys.executable, "-c", f"{code}; {run}; entry_point()"]
        reads, writes = os.pipe()
        os.close(reads)
        with os.fdopen(writes, "w") as unread:
            done = subprocess.run(command, cwd=ROOT, stdout=unread, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (141, "")


def test_a_pipe_of_something_else_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: Namespace) -> int:
        raise BrokenPipeError("a process of the data is gone")

    command = Command(("lose",), "", "Loses.", lost, _options)
    monkeypatch.setattr("lightning_advdrop.cli.commands.COMMANDS", (command,))
    monkeypatch.setattr(sys, "argv", ["lightning", "lose"])
    with pytest.raises(BrokenPipeError, match="is gone"):
        entry_point()


def test_an_abbreviation_may_be_an_option_of_the_experiment() -> None:
    assert COMPARE.parse("advdrop", ["compare", "--si", "4"]).experiment == ["--si", "4"]


def test_help_says_where_the_experiments_options_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        COMPARE("lightning", ["compare", "--help"])
    assert "Every further option is one of the experiment's: see `lightning fit --help`." in capsys.readouterr().out
