"""The command ``lightning``, of which other packages have one, too: the last installed wins."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

_OURS = "lightning-advdrop"
#: Distributions with a command ``lightning`` of their own, in the order in which they are asked; others come last.
OTHERS = ("lightning-sdk", "litserve")
# Set when the note was printed, for this process and those that it starts.
_TOLD = "LIGHTNING_ADVDROP_TOLD"


def other_commands() -> list[EntryPoint]:
    """Return the ``lightning`` commands of other installed distributions, the first to be asked first."""
    found = importlib.metadata.entry_points(group="console_scripts", name="lightning")
    named = [(_distribution(each), each) for each in found]
    rank = {name: number for number, name in enumerate(OTHERS)}
    theirs = [(name, each) for name, each in named if name not in ("", _OURS)]
    return [each for name, each in sorted(theirs, key=lambda pair: (rank.get(pair[0], len(rank)), pair[0]))]


def hand_on(arguments: Sequence[str]) -> int | None:
    """Run another package's ``lightning`` command; return its exit code, or None if there is none.

    Args:
        arguments: the command line without the program's name.
    """
    for entry_point in other_commands():
        sys.argv = ["lightning", *arguments]
        return int(entry_point.load()() or 0)
    return None


def lost_command(script: Path) -> str | None:
    """Return what to tell about a ``lightning`` that is not this package's.

    Args:
        script: the installed script ``advdrop`` that is running.

    Returns:
        One sentence with the remedy; None if the ``lightning`` beside the script is this package's, or if there is no
        such script, as after ``python -m lightning_advdrop``.

    Example:
        >>> lost_command(Path("no/such/folder/advdrop")) is None
        True
    """
    lightning = script.with_name(f"lightning{script.suffix}")
    content = lightning.read_bytes() if lightning.is_file() else b""
    if not script.is_file() or b"lightning_advdrop" in content:
        return None
    remedy = "use `advdrop`, which takes the same commands, or reinstall lightning-advdrop to have it back."
    if not content:
        return f"The command `lightning` is gone, as when another package that has one is uninstalled; {remedy}"
    owners = [_distribution(each) for each in other_commands() if each.module.encode() in content]
    return f"The command `lightning` is that of {owners[0] if owners else 'another package'}; {remedy}"


def tell_once(script: Path) -> None:
    """Print `lost_command` on the standard error stream, once in a run with all its processes."""
    if not os.environ.get(_TOLD) and (note := lost_command(script)) is not None:
        os.environ[_TOLD] = "1"
        print(f"Note: {note}", file=sys.stderr)


def _distribution(entry_point: EntryPoint) -> str:
    """Return the normalized name of a distribution; empty where it is not known."""
    return "" if entry_point.dist is None else entry_point.dist.name.lower().replace("_", "-")
