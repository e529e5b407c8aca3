"""Run an experiment: ``fit``, ``validate``, ``test`` and ``predict``."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

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
from lightning_advdrop.cli.checking import check_needs, check_predicts, is_ours, naming_foreign_objects
from lightning_advdrop.cli.configs import with_files
from lightning_advdrop.cli.parsing import ExperimentParser
from lightning_advdrop.cli.resuming import check_left_by_slurm, last_of_runs
from lightning_advdrop.cli.run_config import LeaveNothing, RunConfig
from lightning_advdrop.cli.summary import end_of_fit
from lightning_advdrop.cli.threads import one_thread_for
from lightning_advdrop.cli.wandb_runs import RememberRun, earlier_id, run_identity, with_identity

with needed("Running experiments"):
    import wandb
    from jsonargparse import ActionConfigFile, Namespace  # type: ignore[attr-defined]

# Warnings that a user of the commands can't act on, as their messages begin.
_NO_CONCERN = (
    # It is about weights that are sharded, which no configuration of ours asks for.
    "You're using the WeightAveraging callback with a model that",
    # Lightning 2.6 uses names of torch's that are to be renamed.
    ".*LeafSpec",
    "torch.distributed.nn.functional.all_gather is deprecated",
)
# Those that a user of this package's models and data can't act on either.
_NO_CONCERN_OF_OURS = (
    # The data lie in memory; further processes would copy them.
    ".*does not have many workers",
    # Epochs may be short; the means of each epoch are logged anyway.
    "The number of training batches .* is smaller than the logging interval",
)


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

    Args:
        args: those of LightningCLI.
        typed: the command line as it was typed, for the notes of the run.
        closing: what is to be closed when the command is over.
        kwargs: those of LightningCLI.
    """

    def __init__(self, *args: Any, typed: Sequence[str] = (), closing: ExitStack | None = None, **kwargs: Any) -> None:
        self._typed = typed
        self._closing = closing or ExitStack()
        self._runs = kwargs.get("run", True)
        super().__init__(*args, **kwargs)

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
        if not self._runs:  # the configuration of a fit has its arguments, too
            for name in signature(Trainer.fit).parameters.keys() & {"ckpt_path", "weights_only"}:
                parser.add_argument(f"--{name}", type=Any | None, default=None, help=argparse.SUPPRESS)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and check what the command needs: a GPU, checkpoints to resume or to start from.

        Raises:
            ValueError: if the checkpoint is not whole, or the machine has no GPU and one is asked for.
            MissingCheckpointError: if there is no such checkpoint, or the weights to start from do not exist.
        """
        # They did not come from ``sys.argv``: `main` took them from there.
        with _ignoring("LightningCLI's args parameter"):
            super().parse_arguments(parser, args)
        command = self.config.get("subcommand")
        check_needs(command, self.config if command is None else self.config[command])

    def _parse_ckpt_path(self) -> None:
        """Read the model's settings from the checkpoint, on releases of Lightning that can."""
        if reads_class_of_checkpoint(LightningCLI):
            with naming_foreign_objects(self.config.get(f"{self.config.get('subcommand')}.ckpt_path")):
                super()._parse_ckpt_path()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer the regularizers, and what lets a run be resumed to the bit and end at a broken loss.

        Checkpoints are written by `AtomicCheckpointIO`, unless the trainer's plugins name another way.
        """
        regularizers = self._setting(self.config_init, "regularizer") or []
        if not isinstance(regularizers, list):
            regularizers = [regularizers]
        ours = [GlobalRandomState(), RunningMetrics(), KeepBest(), TerminateOnNaN(), RememberRun()]
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": [*regularizers, *ours]}
        given = self._setting(self.config_init, "trainer.plugins") or []
        plugins = given if isinstance(given, list) else [given]
        if not any(isinstance(each, CheckpointIO) for each in plugins):
            kwargs.setdefault("plugins", [*plugins, AtomicCheckpointIO()])
        trainer = super().instantiate_trainer(**kwargs)
        self._closing.enter_context(LeaveNothing(trainer))
        self._choose_threads(trainer)
        if is_ours(type(self.model)) and is_ours(type(self.datamodule)):
            self._closing.enter_context(_ignoring(*_NO_CONCERN_OF_OURS))
        return trainer

    def _choose_threads(self, trainer: Trainer) -> None:
        """Let one thread compute a small model on the CPU, until the command is over."""
        threads = torch.get_num_threads()
        told = one_thread_for(self.model) if isinstance(trainer.accelerator, CPUAccelerator) else None
        if told is not None:
            self._closing.callback(torch.set_num_threads, threads)
            rank_zero_info(told)

    def _setting(self, config: Namespace, name: str) -> Any:
        """A setting of the sub-command, or of the experiment where there is none."""
        return (config if self.subcommand is None else config[self.subcommand]).get(name)

    def before_fit(self) -> None:
        """Resume from the last checkpoint of the experiment's earlier runs, if ``ckpt_path`` is ``last``."""
        self._identify(self._checkpoint(required=False))

    def _checkpoint(self, *, required: bool) -> Path | None:
        """The checkpoint of the command; ``last`` is found among the experiment's earlier runs."""
        path = self._setting(self.config, "ckpt_path")
        if path == "hpc":
            check_left_by_slurm(self.trainer.default_root_dir)
        if path == "last":
            path = last_of_runs(self.trainer, self._content(), required=required)
            if path is not None:
                rank_zero_info(f"ckpt_path='last' is {path}.")
                self.config_init[self.subcommand]["ckpt_path"] = str(path)
        return None if path is None else Path(path)

    def before_validate(self) -> None:
        """Find the checkpoint, and warn of a model that was not trained."""
        self._before_evaluation()

    def before_test(self) -> None:
        """Find the checkpoint, and warn of a model that was not trained."""
        self._before_evaluation()

    def before_predict(self) -> None:
        """Check that the model predicts, find the checkpoint, and warn of a model that was not trained."""
        check_predicts(self.model)
        self._before_evaluation()

    def _before_evaluation(self) -> None:
        if self._checkpoint(required=True) is None:
            rank_zero_warn(
                f"ckpt_path is not given, so {self.subcommand} runs an untrained model; name a checkpoint, such as "
                "--ckpt_path runs/NAME/version_0/checkpoints/best.ckpt."
            )
        self._identify(None)

    def _identify(self, resumed: Path | None) -> None:
        """Tell the loggers of Weights & Biases what this run is, and that it goes on with a checkpoint's."""
        if not any(isinstance(each, WandbLogger) for each in self.trainer.loggers):
            return
        content = self._content()
        known = run_identity(content, self._typed, str(self.subcommand))
        known |= {} if resumed is None else {"id": earlier_id(resumed)}
        self.trainer.loggers = with_identity(self.trainer.loggers, self._setting(self.config, "trainer.logger"), known)

    def _content(self) -> dict[str, Any]:
        """The configuration of the sub-command in plain types."""
        dumped = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False)
        content: dict[str, Any] = yaml.safe_load(dumped)
        return content

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
        if self.trainer.is_global_zero and (told := end_of_fit(self.trainer)):
            print(told)


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
    # Lightning calls jsonargparse in a way that is to change; a user can't do anything about the warning.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    try:
        with _ignoring(*_NO_CONCERN), ExitStack() as closing:
            return ExperimentCLI(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=RunConfig,
                args=with_files(arguments),
                run=run,
                typed=arguments,
                closing=closing,
            )
    finally:
        wandb.finish()  # or the next experiment of this process would log into this one's run


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
