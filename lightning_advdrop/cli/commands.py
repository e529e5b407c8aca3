"""The programs ``lightning`` and ``advdrop``: a further command is one entry of the table, and usage follows."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from lightning_advdrop.__about__ import __version__
from lightning_advdrop._suggestions import did_you_mean
from lightning_advdrop.cli.help import HELP_ALL, short_help
from lightning_advdrop.cli.programs import OTHERS, hand_on, tell_once
from lightning_advdrop.cli.refusals import raised_here, refusal

EXPERIMENT_COMMANDS = ("fit", "validate", "test", "predict")
_UNREAD = 128 + 13  # as of a program that SIGPIPE ends
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
            if {"-h", "--help"} & set(rest):
                print(short_help(program, name))
                raise SystemExit(0)
            # Then the experiment's parser answers, which imports everything.
            return Namespace(command=name, experiment=["--help" if each == HELP_ALL else each for each in rest])
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
        except BrokenPipeError:  # see `entry_point`
            raise
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


def _lazily(where: str) -> Callable[[Any], Any]:
    """Import a function, ``module:name``, when it is called: most of them import torch and Lightning."""

    def call(argument: Any) -> Any:
        return resolve_name(f"lightning_advdrop.{where}")(argument)

    return call


def _options(checkpoint_of: str, **options: dict[str, Any]) -> Callable[[ArgumentParser], None]:
    """Declare the options of a command that reads a checkpoint, as argparse takes them."""

    def add(parser: ArgumentParser) -> None:
        parser.add_argument("--ckpt_path", required=True, metavar="FILE", help=f"checkpoint of {checkpoint_of}")
        for name, how in options.items():
            parser.add_argument(name if "nargs" in how and how["nargs"] == "*" else f"--{name}", **how)

    return add


def _number(default: float, told: str, metavar: str | None = "N") -> dict[str, Any]:
    return {"type": type(default), "default": default, "metavar": metavar, "help": f"{told} (default: {default})"}


def _choices(values: Sequence[float], of: str, **more: Any) -> dict[str, Any]:
    told = f"values of {of} to choose from (default: {' '.join(map(str, values))})"
    return {"type": float, "nargs": "+", "default": list(values), "help": told, **more}


#: All commands, in the order of the usage.
COMMANDS = (
    Command(
        EXPERIMENT_COMMANDS,
        "--config FILE [--option VALUE ...]",
        "Runs an experiment.",
        _lazily("cli.experiments:run_command"),
        experiment=True,
    ),
    Command(
        ("report",),
        "RUNS [RUNS ...]",
        "Makes tables and plots of finished runs.",
        _lazily("report:run"),
        _lazily("report:add_arguments"),
    ),
    Command(
        ("sites",),
        "--config FILE [--option VALUE ...]",
        "Shows where the masks of an experiment's regularizers act.",
        lambda options: _lazily("cli.experiments:describe_experiment")(options.experiment),
        experiment=True,
    ),
    Command(
        ("tune",),
        "--config FILE [--methods NAMES] [--option VALUE ...]",
        "Finds out which method pays for a model and its data.",
        _lazily("cli.tuning:run"),
        _lazily("cli.tuning:add_arguments"),
        experiment=True,
    ),
    Command(
        ("configs",),
        "{list,copy} [NAME ...]",
        "Lists or copies the configurations that --config finds by name.",
        _lazily("cli.configs:run"),
        _lazily("cli.configs:add_arguments"),
    ),
    Command(
        ("classify",),
        "--ckpt_path FILE [TEXT ...]",
        "Classifies texts, given or read line by line.",
        _lazily("cli.trained:classify"),
        _options(
            "a TextClassificationTask",
            batch_size=_number(64, "how many texts are read at once", None),
            texts={"nargs": "*", "metavar": "TEXT", "help": "a text; without any, each line of the input is one"},
        ),
    ),
    Command(
        ("cache",),
        "--ckpt_path FILE --config FILE [--option VALUE ...]",
        "Evaluates a language model together with a neural cache.",
        _lazily("cli.trained:cache"),
        _options(
            "a language model",
            window=_number(2000, "words in the cache"),
            theta=_choices((0.1, 0.2, 0.3, 0.5, 0.7, 1.0), "the flatness"),
            **{"lambda": _choices((0.05, 0.1, 0.15, 0.2, 0.3), "the cache's share", dest="interpolation")},
        ),
        experiment=True,
    ),
    Command(
        ("generate",),
        "--ckpt_path FILE --prompt TEXT [--option VALUE ...]",
        "Goes on with a text, word by word.",
        _lazily("cli.trained:generate"),
        _options(
            "a language model",
            prompt={"required": True, "metavar": "TEXT", "help": "the beginning: words between white space"},
            length=_number(50, "words to write"),
            temperature=_number(1.0, "below 1 for the more probable words, 0 for the most probable one only", "T"),
            top_k=_number(0, "most probable words to choose from; 0 for all", "K"),
            seed=_number(0, "of what is drawn"),
            allow_unknown={"action": "store_true", "help": "let the word that stands for unknown ones be written"},
        ),
    ),
)


def main(arguments: Sequence[str] | None = None, program: str = "advdrop") -> int:
    """Run a command.

    Args:
        arguments: what stands behind the program's name; None takes ``sys.argv``.
        program: ``lightning`` or ``advdrop``. As ``lightning``, other commands are handed to another package's
            command of that name, where one is installed.

    Returns:
        The exit code.

    Example:
        >>> main(["--version"])
        lightning-advdrop 0.1.0
        0
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments[0] if arguments else "--help"
    for command in COMMANDS:
        if name in command.names:
            return command(program, arguments)
    if name == "--version":
        print(f"lightning-advdrop {__version__}")
        return 0
    if name in {"-h", "--help"}:
        print(_usage(program))
        return 0
    code = hand_on(arguments) if program == "lightning" else None
    return _unknown(name, program) if code is None else code


def _usage(program: str) -> str:
    lines = [f"{program} {usage}" for usage in (*(command.usage for command in COMMANDS), "--version")]
    names = [", ".join(command.names) for command in COMMANDS]
    width = max(map(len, names))
    table = [f"  {name.ljust(width)}  {command.does}" for name, command in zip(names, COMMANDS, strict=True)]
    return "\n".join(
        (
            "usage: " + "\n       ".join(lines),
            f"\nThe commands of lightning-advdrop {__version__}:",
            *table,
            "Put --help behind a command to see its options.",
        )
    )


def _unknown(command: str, program: str) -> int:
    """Say that there is no such command, and which there are."""
    others = f", nor is another package installed that has one, such as {' or '.join(OTHERS)}"
    known = [*(name for each in COMMANDS for name in each.names), "--version", "--help"]
    allowed, near = ", ".join(known[:-2]), did_you_mean(command, known)
    elsewhere = others if program == "lightning" else ""
    print(f"{program}: unknown command {command!r}{elsewhere}; allowed are {allowed}{near}", file=sys.stderr)
    return 2


def entry_point() -> None:
    """Run the program by whose name the console script was called."""
    script = Path(sys.argv[0])
    program = "lightning" if script.stem == "lightning" else "advdrop"
    if program == "advdrop":
        tell_once(script)
    try:
        code = main(program=program)
        sys.stdout.flush()
    except BrokenPipeError as error:
        if not raised_here(error):
            raise
        # Nobody reads what is printed any more, as behind `| head`. What is left of it goes nowhere.
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        code = _UNREAD
    sys.exit(code)
