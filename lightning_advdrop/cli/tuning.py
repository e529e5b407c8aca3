"""The command ``advdrop tune``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from lightning_advdrop.cli.configs import with_files
from lightning_advdrop.cli.experiments import ExperimentCLI, run_experiment
from lightning_advdrop.tuning import Method, Parts, Settings, find_methods, parse_duration, read_yaml, run_search
from lightning_advdrop.tuning.pages import upload_result
from lightning_advdrop.tuning.searching import quiet
from lightning_advdrop.wandb_settings import chosen_mode, from_environment

_SETTINGS = ("metric", "mode", "test_metric", "test_mode", "trials", "seeds", "jobs", "seed", "output", "storage")


@dataclass(frozen=True)
class Configured:
    """An experiment of a command line.

    Args:
        arguments: the options of ``fit``.
    """

    arguments: tuple[str, ...]

    @property
    def description(self) -> str:
        """The whole experiment, in YAML, whatever files and options it was given by."""
        return self._dumped({})

    def build(self, method: Method, values: dict[str, Any], seed: int, folder: Path) -> Parts:
        """Make new objects, from a seed, whose trainer logs into a folder."""
        logger = {
            "class_path": "lightning.pytorch.loggers.CSVLogger",
            "init_args": {"save_dir": str(folder), "name": "", "version": ""},
        }
        more = {"seed_everything": seed, "regularizer": method.with_values(values), "trainer": {"logger": logger}}
        command: Any = self._parsed(more)
        return Parts(command.model, command.datamodule, command.trainer)

    def config(self, method: Method, values: dict[str, Any]) -> str:
        """Return the whole experiment with a method and its values, in YAML."""
        return self._dumped({"regularizer": method.with_values(values)})

    def _dumped(self, more: dict[str, Any]) -> str:
        command = self._parsed(more)
        return str(command.parser.dump(command.config, skip_none=False))

    def _parsed(self, more: dict[str, Any]) -> ExperimentCLI:
        with TemporaryDirectory() as folder:
            path = Path(folder, "run.yaml")
            path.write_text(yaml.safe_dump(more), encoding="utf-8")
            return run_experiment([*self.arguments, "--config", str(path)], run=False)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``advdrop tune`` to a parser."""
    default = "adversarial_dropout,r_drop,variational_dropout,none"
    told = "overlays of configs/methods, or YAML files, with commas between them (default: %(default)s)"
    parser.add_argument("--methods", default=default, metavar="NAMES", help=told)
    told = "runs of each method's search (default: %(default)s)"
    parser.add_argument("--trials", type=int, default=20, metavar="N", help=told)
    told = "runs of each method with the values that were found (default: %(default)s)"
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help=told)
    told = "validation metric that is compared (default: %(default)s)"
    parser.add_argument("--metric", default="val/loss", help=told)
    told = "which values are better (default: what the name of the metric tells)"
    parser.add_argument("--mode", choices=["min", "max"], help=told)
    parser.add_argument("--test_metric", help="what the test logs (default: the metric with test in place of val)")
    told = "which values of that are better (default: those of the metric, or what the name tells)"
    parser.add_argument("--test_mode", choices=["min", "max"], help=told)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes of one thread (default: 1)")
    parser.add_argument("--budget", metavar="TIME", help="after which no run begins, such as 2h or 90m (default: none)")
    parser.add_argument("--spaces", type=Path, metavar="FILE", help="YAML with search spaces by method")
    parser.add_argument("--seed", type=int, default=0, help="of the search; fresh seeds follow (default: 0)")
    parser.add_argument("--no_prune", action="store_true", help="finish each run of the search")
    told = "where to write; an interrupted search there goes on (default: %(default)s)"
    parser.add_argument("--output", type=Path, default=Path("tune"), metavar="FOLDER", help=told)
    told = "also log the table and the picture to this project of Weights & Biases"
    parser.add_argument("--wandb", metavar="PROJECT", help=told)
    parser.add_argument("--storage", metavar="URL", help="database of Optuna (default: a SQLite file in the output)")


def run(options: Namespace) -> str | None:
    """Make the runs that are left of a search, and return its table, unless it is printed before an upload.

    Raises:
        ValueError: if an argument is outside what is allowed, or no run could succeed.
        MissingExtraError: if Optuna is not installed.
    """
    names = [name.strip() for name in options.methods.split(",") if name.strip()]
    spaces = {} if options.spaces is None else read_yaml("spaces", options.spaces)
    settings = Settings(
        methods=find_methods(names, spaces),
        budget=None if options.budget is None else parse_duration(options.budget),
        prune=not options.no_prune,
        **{name: getattr(options, name) for name in _SETTINGS},
    )
    experiment = Configured(tuple(with_files(options.experiment)))
    if options.wandb is not None:
        chosen_mode(from_environment().get("mode"))  # an upload that can't be is told before hours of runs
    # Wrong options end the command here, as in a fit, before anything is written.
    with quiet():
        for method in settings.methods:
            experiment.config(method, {})
    found = run_search(settings, experiment)
    for remark in found.remarks:
        print(f"Note: {remark}", file=sys.stderr)
    print(f"Wrote {found.output}: tune.md, tune.html, methods.png, runs.csv, best.yaml", file=sys.stderr)
    if options.wandb is None:
        return found.table
    print(found.table, flush=True)  # which stays, should the network be away
    upload_result(options.wandb, found)
    return None
