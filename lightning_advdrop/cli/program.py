"""The programs ``lightning`` and ``advdrop``: find the command that was asked for."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_advdrop.__about__ import __version__
from lightning_advdrop.cli.commands import COMMANDS


def main(arguments: Sequence[str] | None = None, program: str = "advdrop") -> int:
    """Run a command.

    Args:
        arguments: what stands behind the program's name; None takes ``sys.argv``.
        program: ``lightning`` or ``advdrop``. As ``lightning``, other commands are handed to ``lightning_sdk``.

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
    return _hand_on(arguments, program)


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


def _hand_on(arguments: list[str], program: str) -> int:
    """Run the ``lightning`` command of ``lightning_sdk``, whose name this package's command takes."""
    if program == "lightning":
        for entry_point in importlib.metadata.entry_points(group="console_scripts", name="lightning"):
            if entry_point.dist is not None and entry_point.dist.name.replace("-", "_") == "lightning_sdk":
                sys.argv = [program, *arguments]
                return int(entry_point.load()() or 0)
    elsewhere = " and lightning_sdk, which has other commands, is not installed" if program == "lightning" else ""
    allowed = ", ".join(name for command in COMMANDS for name in command.names)
    message = f"{program}: unknown command {arguments[0]!r}{elsewhere}; allowed are {allowed}."
    print(message, file=sys.stderr)
    return 2


def entry_point() -> None:
    """Run the program by whose name the console script was called."""
    program = Path(sys.argv[0]).stem
    sys.exit(main(program="lightning" if program == "lightning" else "advdrop"))
