"""The commands ``lightning`` and ``advdrop``.

Both run the experiments: ``fit``, ``validate``, ``test`` and ``predict``, each with ``--config FILE``. What else there
is stands in the table `COMMANDS`.
"""

from typing import TYPE_CHECKING, Any

from lightning_advdrop.cli.commands import COMMANDS, EXPERIMENT_COMMANDS, Command, entry_point, main

if TYPE_CHECKING:
    from lightning_advdrop.cli.experiments import ExperimentCLI, describe_experiment, run_experiment
    from lightning_advdrop.cli.run_config import RunConfig

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

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what runs experiments when it is first asked for, since that imports everything."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from lightning_advdrop.cli import experiments

        return getattr(experiments, name)
