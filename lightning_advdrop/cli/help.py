"""The short help of the commands that run experiments."""

from __future__ import annotations

from collections.abc import Sequence

HELP_ALL = "--help_all"
"""The option that shows every option of the trainer, the model and the data."""

_DOES = {
    "fit": "Trains a model, and tests it where the configuration says so.",
    "validate": "Evaluates a checkpoint on the validation data.",
    "test": "Evaluates a checkpoint on the test data.",
    "predict": "Computes a checkpoint's predictions.",
    "sites": "Shows where the masks of an experiment's regularizers act.",
}
_FIRST = (
    ("--config NAME", "a file, or a name of `advdrop configs list`; give several, and later ones override"),
    ("--seed_everything N", "the seed"),
    ("--trainer.max_epochs N", "how long to train"),
    ("--regularizer null", "plain training; or a class, such as RDropCallback"),
    ("--regularizer.init_args.rate R", "an argument of the regularizer; so also weight, sites, steps, search"),
    ("--model.init_args.hidden_size N", "an argument of the model; so also learning_rate"),
    ("--data.init_args.batch_size N", "an argument of the data"),
    ("--trainer.accelerator gpu", "where to compute"),
    ("--ckpt_path FILE", "the checkpoint to resume or to evaluate; `last` finds the newest of this experiment"),
    ("--test_after_fit best", "which weights to test after a fit: best, last or null"),
)
_MORE = (
    ("--trainer.OPTION", "Lightning's Trainer: limit_train_batches, log_every_n_steps, precision, logger, ..."),
    ("--model.help CLASS", "the arguments of a model; so also --data.help and --regularizer.help"),
    ("--print_config", "shows the whole configuration and ends"),
    (HELP_ALL, "every option"),
)
_INDENT = 34


def short_help(program: str, command: str) -> str:
    """Return the help of a command: the options that are used first, and how to find the others.

    Args:
        program: ``lightning`` or ``advdrop``.
        command: the name of a command that takes an experiment.

    Example:
        >>> print(short_help("lightning", "fit").splitlines()[0])
        usage: lightning fit --config NAME [--option VALUE ...]
    """
    parts = [
        f"usage: {program} {command} --config NAME [--option VALUE ...]",
        f"\n{_DOES[command]}",
        "\nUsed first:",
        *_table(_FIRST),
        "\nEverything else:",
        *_table(_MORE),
    ]
    return "\n".join(parts)


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"  {option:{_INDENT}}{told}" for option, told in rows]
