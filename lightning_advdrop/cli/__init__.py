"""The commands ``lightning`` and ``advdrop``.

Both run the experiments: ``fit``, ``validate``, ``test`` and ``predict``, each with ``--config FILE``. What else there
is stands in the table `COMMANDS`.
"""

from lightning_advdrop.cli.commands import COMMANDS, Command
from lightning_advdrop.cli.experiments import (
    EXPERIMENT_COMMANDS,
    ExperimentCLI,
    RunConfig,
    describe_experiment,
    run_experiment,
)
from lightning_advdrop.cli.program import entry_point, main

__all__ = [
    "COMMANDS",
    "EXPERIMENT_COMMANDS",
    "Command",
    "ExperimentCLI",
    "RunConfig",
    "describe_experiment",
    "entry_point",
    "main",
    "run_experiment",
]
