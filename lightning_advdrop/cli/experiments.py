"""Run an experiment: ``fit``, ``validate``, ``test`` and ``predict``."""

from __future__ import annotations

import argparse
import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_info

# Their classes can be named without their modules in configurations and options.
from lightning_advdrop import datamodules, tasks  # noqa: F401
from lightning_advdrop._extras import needed
from lightning_advdrop._lightning import attach, forget_average, reads_class_of_checkpoint, trainer_callbacks
from lightning_advdrop.callbacks import (
    GlobalRandomState,
    KeepBest,
    RegularizerCallback,
    RunningMetrics,
    TerminateOnNaN,
    flush_denormals,
)
from lightning_advdrop.checkpoint_files import AtomicCheckpointIO
from lightning_advdrop.cli.configs import with_files
from lightning_advdrop.cli.parsing import ExperimentParser
from lightning_advdrop.cli.resuming import last_checkpoint
from lightning_advdrop.tasks.checkpoints import check_whole

with needed("Running experiments"):
    import wandb
    from jsonargparse import ActionConfigFile, Namespace  # type: ignore[attr-defined]


class RunConfig(SaveConfigCallback):
    """Write the whole configuration of a run into its folder, and hand it to Weights & Biases.

    A folder that has a ``config.yaml`` already keeps it: the next one is called ``config-1.yaml``.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose a name that is free, then write."""
        if trainer.is_global_zero and trainer.log_dir is not None:
            names = itertools.chain(["config.yaml"], (f"config-{number}.yaml" for number in itertools.count(1)))
            self.config_filename = next(name for name in names if not (Path(trainer.log_dir) / name).exists())
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Hand the configuration to Weights & Biases."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(self.config.as_dict())


@contextmanager
def _ignoring(*messages: str) -> Iterator[None]:
    """Ignore warnings whose messages begin so."""
    with warnings.catch_warnings():
        for message in messages:
            warnings.filterwarnings("ignore", message=message)
        yield


class ExperimentCLI(LightningCLI):
    """LightningCLI with a place for regularizers, and a test after the fit.

    ``regularizer`` stands beside ``model`` and ``data``: a `RegularizerCallback`, a list of them, or ``null`` for plain
    training. ``test_after_fit`` says which weights are tested when the fit is over: ``best``, ``last``, or ``null`` for
    none.
    """

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Make a parser whose errors are one sentence."""
        kwargs.setdefault("dump_header", [f"lightning.pytorch=={lightning.__version__}"])
        parser = ExperimentParser(**kwargs)
        told = "Configuration file in YAML format, or a name that `advdrop configs list` shows."
        parser.add_argument("-c", "--config", action=ActionConfigFile, help=told)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the two options."""
        parser.add_argument(
            "--regularizer",
            type=RegularizerCallback | list[RegularizerCallback] | None,
            default=None,
            help="Regularizer callback, a list of them, or null.",
        )
        parser.add_argument(
            "--test_after_fit",
            type=Literal["best", "last"] | None,
            default=None,
            help="Which weights to test after the fit; null for none.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and check that the checkpoint that is asked for is whole, since Lightning reads it next.

        Raises:
            ValueError: if it is not.
        """
        # They did not come from ``sys.argv``: `main` took them from there.
        with _ignoring("LightningCLI's args parameter"):
            super().parse_arguments(parser, args)
        command = self.config.get("subcommand")
        path = command and self.config[command].get("ckpt_path")
        if path and Path(path).is_file():
            check_whole("ckpt_path", path)

    def _parse_ckpt_path(self) -> None:
        """Read the model's settings from the checkpoint, on releases of Lightning that can."""
        if reads_class_of_checkpoint(LightningCLI):
            super()._parse_ckpt_path()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer the regularizers, and what lets a run be resumed to the bit and end at a broken loss.

        Checkpoints are written by `AtomicCheckpointIO`, unless the trainer's plugins name another way.
        """
        regularizers = self._setting(self.config_init, "regularizer") or []
        if not isinstance(regularizers, list):
            regularizers = [regularizers]
        callbacks = [*regularizers, GlobalRandomState(), RunningMetrics(), KeepBest(), TerminateOnNaN()]
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": callbacks}
        given = self._setting(self.config_init, "trainer.plugins") or []
        plugins = given if isinstance(given, list) else [given]
        if not any(isinstance(each, CheckpointIO) for each in plugins):
            kwargs.setdefault("plugins", [*plugins, AtomicCheckpointIO()])
        return super().instantiate_trainer(**kwargs)

    def _setting(self, config: Namespace, name: str) -> Any:
        """A setting of the sub-command, or of the experiment where there is none."""
        return (config if self.subcommand is None else config[self.subcommand]).get(name)

    def before_fit(self) -> None:
        """Resume from the last checkpoint of the experiment's earlier runs, if ``ckpt_path`` is ``last``."""
        log_dir = self.trainer.log_dir
        if self._setting(self.config, "ckpt_path") != "last" or log_dir is None:
            return
        content = yaml.safe_load(self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False))
        found = last_checkpoint(Path(log_dir).parent, content)
        found = self.trainer.strategy.broadcast(found)
        if found is not None:
            rank_zero_info(f"ckpt_path='last' is {found}.")
            self.config_init[self.subcommand]["ckpt_path"] = str(found)

    def after_fit(self) -> None:
        """Test the weights that ``test_after_fit`` names."""
        which = self._setting(self.config, "test_after_fit")
        if which is not None and not self._setting(self.config, "trainer.fast_dev_run"):
            for callback in trainer_callbacks(self.trainer):
                forget_average(callback)
            # The first one is asked for the best weights: that is what the configurations mean.
            several = ".*with Trainer configured with multiple `ModelCheckpoint`"
            with _ignoring("You're using the WeightAveraging callback, but loading", several):
                self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=which)


def run_experiment(arguments: Sequence[str], *, run: bool = True) -> ExperimentCLI:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        arguments: the command and its options, as on the command line; ``--config`` takes a file, or the name of a
            configuration that comes with this package.
        run: False to make the objects only; the arguments are then options without a command.

    Returns:
        The finished command, with its ``model``, ``datamodule`` and ``trainer``.

    Raises:
        ValueError: if Weights & Biases is to be online and has no key, or there is no configuration of a name.
    """
    flush_denormals(torch.device("cpu"))  # before any thread starts that would go without
    _keep_wandb_quiet()
    # Lightning calls jsonargparse in a way that is to change; a user can't do anything about the warning.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    try:
        # It is about weights that are sharded, which no configuration of ours asks for.
        with _ignoring("You're using the WeightAveraging callback with a model that"):
            return ExperimentCLI(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=RunConfig,
                args=with_files(arguments),
                run=run,
            )
    finally:
        wandb.finish()  # or the next experiment of this process would log into this one's run


def _keep_wandb_quiet() -> None:
    """Offline unless ``WANDB_MODE`` says otherwise, and never a login prompt."""
    if os.environ.setdefault("WANDB_MODE", "offline") != "online":
        return
    if not wandb.login(prompt=False):
        raise ValueError(
            "WANDB_MODE is 'online' but Weights & Biases has no key: run `wandb login` once, set WANDB_API_KEY, or "
            "leave WANDB_MODE unset to log offline (`wandb sync` uploads such runs later)."
        )


def run_command(options: argparse.Namespace) -> None:
    """Run the command of a parsed command line, see `lightning_advdrop.cli.Command`."""
    run_experiment([options.command, *options.experiment])


def describe_experiment(arguments: Sequence[str]) -> str:
    """Make tables of the sites at which an experiment's regularizers act, one for each of them.

    Args:
        arguments: ``--config FILE`` and further options, as on the command line.

    Raises:
        ValueError: if the experiment has no regularizer, or its model has no such site.
    """
    command = run_experiment(arguments, run=False)
    if type(command.model).configure_model is not LightningModule.configure_model:
        # It makes layers for the data, as at the beginning of a run.
        command.datamodule.prepare_data()
        command.datamodule.setup("fit")
        attach(command.model, command.trainer, command.datamodule)
        command.model.configure_model()
    regularizers = [each for each in trainer_callbacks(command.trainer) if isinstance(each, RegularizerCallback)]
    if not regularizers:
        raise ValueError("regularizer must be set to show its sites, got null; name one with --regularizer.")
    return "\n\n".join(f"{type(each).__name__}\n\n{each.describe(command.model)}" for each in regularizers)
