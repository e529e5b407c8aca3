"""The table of commands: a further command is one entry, and usage and messages follow."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_advdrop import report
from lightning_advdrop.cli import trained
from lightning_advdrop.cli.experiments import EXPERIMENT_COMMANDS, describe_experiment, run_experiment
from lightning_advdrop.cli.refusals import refusal

_EXPERIMENT_OPTIONS = "Every further option is one of the experiment's: see `{program} fit --help`."


@dataclass(frozen=True)
class Command:
    """One line of the usage: a command, or several that take the same options.

    Attributes:
        names: what it is called on the command line.
        synopsis: what stands behind the name in the usage.
        does: what it does, for the usage and its help.
        run: runs it, given the parsed options, and returns the text to print, or the exit code. The options have two
            more attributes: ``command``, the name that was used, and ``experiment``, the options that are the
            experiment's.
        add_options: adds the command's own options to a parser; None where all are the experiment's.
        experiment: whether options other than its own are those of an experiment, such as ``--config``.

    Example:
        >>> def options(parser):
        ...     parser.add_argument("word")
        >>> shout = Command(("shout",), "WORD", "Shouts.", lambda found: found.word.upper(), options)
        >>> shout("advdrop", ["shout", "hello"])
        HELLO
        0
    """

    names: tuple[str, ...]
    synopsis: str
    does: str
    run: Callable[[Namespace], str | int | None]
    add_options: Callable[[ArgumentParser], None] | None = None
    experiment: bool = False

    @property
    def usage(self) -> str:
        """Its line in the usage, without the program's name."""
        names = self.names[0] if len(self.names) == 1 else f"{{{','.join(self.names)}}}"
        return f"{names} {self.synopsis}"

    def parse(self, program: str, arguments: Sequence[str]) -> Namespace:
        """Parse a command line.

        Args:
            program: the program's name, for the help.
            arguments: the command's name and its options.

        Raises:
            SystemExit: if ``--help`` is asked for, or with the exit code 2 if an option is not understood.
        """
        name, *rest = arguments
        if self.add_options is None:
            return Namespace(command=name, experiment=rest)
        more = _EXPERIMENT_OPTIONS.format(program=program) if self.experiment else None
        # An abbreviation could be an option of the experiment.
        parser = ArgumentParser(
            f"{program} {name}", description=self.does, epilog=more, allow_abbrev=not self.experiment
        )
        self.add_options(parser)
        options, unknown = parser.parse_known_args(rest) if self.experiment else (parser.parse_args(rest), [])
        options.command, options.experiment = name, unknown
        return options

    def __call__(self, program: str, arguments: Sequence[str]) -> int:
        """Parse a command line, see `parse`, run it and print its answer; return the exit code.

        Of a refusal (see `refusal`) the message is printed, and the exit code is 2.
        """
        options = self.parse(program, arguments)
        try:
            answer = self.run(options)
        except Exception as error:
            message = refusal(error)
            if message is None:
                raise
            print(f"Error: {message}", file=sys.stderr)
            return 2
        if isinstance(answer, str):
            print(answer)
            return 0
        return answer or 0


def _experiment(options: Namespace) -> None:
    run_experiment([options.command, *options.experiment])


#: All commands, in the order of the usage.
COMMANDS = (
    Command(
        EXPERIMENT_COMMANDS,
        "--config FILE [--option VALUE ...]",
        "Runs an experiment.",
        _experiment,
        experiment=True,
    ),
    Command(
        ("report",),
        "RUNS [RUNS ...]",
        "Makes tables and plots of finished runs.",
        report.run,
        report.add_arguments,
    ),
    Command(
        ("sites",),
        "--config FILE [--option VALUE ...]",
        "Shows where the masks of an experiment's regularizers act.",
        lambda options: describe_experiment(options.experiment),
        experiment=True,
    ),
    Command(
        ("classify",),
        "--ckpt_path FILE [TEXT ...]",
        "Classifies texts, given or read line by line.",
        trained.run_classify,
        trained.add_classify_options,
    ),
    Command(
        ("cache",),
        "--ckpt_path FILE --config FILE [--option VALUE ...]",
        "Evaluates a language model together with a neural cache.",
        trained.run_cache,
        trained.add_cache_options,
        experiment=True,
    ),
    Command(
        ("generate",),
        "--ckpt_path FILE --prompt TEXT [--option VALUE ...]",
        "Goes on with a text, word by word.",
        trained.run_generate,
        trained.add_generate_options,
    ),
)
