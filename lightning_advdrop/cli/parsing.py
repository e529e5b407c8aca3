"""Say in one sentence what is wrong with the options of an experiment."""

from __future__ import annotations

import inspect
import re
import sys
from pkgutil import resolve_name
from typing import NoReturn

from lightning.pytorch.cli import LightningArgumentParser

import lightning_advdrop
from lightning_advdrop._suggestions import nearest

# What jsonargparse says of the ways that it tried to understand a value, and that help nobody.
_NOISE = re.compile(
    r"(Does not validate against|Subtypes:|Errors:|Expected a <class '(NoneType|list)'>|Expected a path but|"
    r"Given value type:|Given value: (NestedArg|\{|\[))"
)
# By option, how the names of its classes end.
_ENDINGS = {"model": "Task", "data": "DataModule", "regularizer": "Callback", "trainer.callbacks": ""}
_MODULES = ("lightning_advdrop", "lightning", "torch", "torchmetrics", "wandb")


class ExperimentParser(LightningArgumentParser):
    """A parser whose errors are one sentence, with the nearest known spelling of what is not known."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong, without the usage of several pages, and end with the exit code 2."""
        parser = getattr(ex, "subcommand_parser", None) or self
        told = one_sentence(message, re.findall(r"--([\w.]+)", parser.format_help()))
        print(f"Error: {told} See `advdrop fit --help`.", file=sys.stderr)
        self.exit(2)
        raise AssertionError  # pragma: no cover


def one_sentence(message: str, options: list[str]) -> str:
    """Shorten a message of jsonargparse and add a suggestion.

    Args:
        message: the message, of any number of lines.
        options: the options that are known.

    Example:
        >>> one_sentence("unrecognized arguments: --regulariser null", ["regularizer", "model"])
        "unrecognized arguments: --regulariser null; did you mean 'regularizer'?"
    """
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    told = " ".join(dict.fromkeys(line for line in lines if line and not _NOISE.match(line))).rstrip(".")
    told = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", told).replace(". Got value:", ", got the value:")
    told = told.replace(" Given value:", ", got the value:").replace("a typing.Literal", "one of Literal")
    # Early releases of jsonargparse tell that a class is no file, either.
    told = re.sub(r"Expected a config path but \S+ either not accessible or invalid\.? ?", "", told)
    # They say so, and don't tell of which class.
    told, early = re.subn(r'No action for key "([\w.]+)" to check its value', r"Key '\1' is not expected", told)
    known = {*options, *_MODULES, *lightning_advdrop.__all__}
    known |= {f"trainer.{name}" for name in _parameters("lightning.Trainer")}
    named = re.findall(r"class_path '([\w.]+)'", told)
    for path in [f"lightning_advdrop.{name}" for name in lightning_advdrop.__all__] if early else named:
        known |= _parameters(path)
    literals = set(re.findall(r"'(\w+)'", " ".join(re.findall(r"Literal\[(.*?)\]", told))))
    told = told.replace("one of Literal", "one of ")
    words = re.findall(r"'([\w.]+)'|--([\w.]+)|(?:value|string): ([\w.]+)", told)
    for word in ("".join(each) for each in words):
        allowed = known | literals
        last = word.rpartition(".")[2]
        if word in allowed or (last in known and word.partition(".")[0] in _MODULES):
            continue
        # Of a name behind a known module, only its end can be wrong.
        found = (None if word.partition(".")[0] in _MODULES else nearest(word, allowed)) or nearest(last, allowed)
        if found is not None and found not in (word, last):
            return f"{_unknown_class(told)}; did you mean {found!r}?"
    ours = _ours(told)
    return f"{_unknown_class(told)}; ours are {', '.join(ours)}." if ours else f"{told}."


def _unknown_class(told: str) -> str:
    """Put into words that a value names no class."""
    return re.sub(
        r'Parser key "([\w.]+)": Expected a dot import path string: ([\w.]+)(, got the value: \S+)?',
        r"\1 must name a class, got '\2'",
        told,
    )


def _ours(told: str) -> list[str]:
    """Return this package's classes for an option whose value names no class; none for other messages."""
    unknown = re.match(r'Parser key "([\w.]+)": (Expected a dot import path|Problem with given class_path)', told)
    ending = _ENDINGS.get(unknown[1]) if unknown else None
    names = lightning_advdrop.__all__
    if ending == "":  # those of the trainer that are no regularizers
        others = tuple(filter(None, _ENDINGS.values()))
        return [name for name in names if name[0].isupper() and not name.endswith(others)]
    return [] if ending is None else [name for name in names if name.endswith(ending)]


def _parameters(path: str) -> set[str]:
    """Return the names of a class's arguments, also of those that it hands on to its bases."""
    try:
        kind = resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return set()
    if not isinstance(kind, type):
        return set()
    return {name for each in inspect.getmro(kind) for name in inspect.signature(each).parameters}
