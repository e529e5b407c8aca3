"""The configurations that come with this package: find one by its name, list and copy them."""

from __future__ import annotations

import os
import re
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from lightning_advdrop._suggestions import did_you_mean
from lightning_advdrop.files import configs_folder, writing

_OPTIONS = ("--config", "-c")
_LISTS = ("logger", "callbacks")
_SWEEPS = "sweeps/"


def config_names(*, sweeps: bool = False) -> list[str]:
    """Return the names of all configurations: their paths below the folder, without ``.yaml``.

    Args:
        sweeps: whether those in the folder ``sweeps`` are among them, which ``wandb sweep`` reads, and ``--config``
            does not.

    Example:
        >>> {"smnist_rows", "methods/r_drop"} <= set(config_names())
        True
        >>> set(config_names(sweeps=True)) - set(config_names()) >= {"sweeps/rate"}
        True
    """
    folder = configs_folder()
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return [name for name in names if sweeps or not name.startswith(_SWEEPS)]


def find_config(value: str) -> str:
    """Return the path of a configuration that is given by its name; anything else is returned as it is.

    A file of that name comes first, so that nothing of your own is hidden.

    Args:
        value: what was given to ``--config``: a path, a name, or what else jsonargparse reads.

    Raises:
        ValueError: if it looks like a name or path, and there is neither a file nor a configuration of that name.

    Example:
        >>> Path(find_config("methods/r_drop")).name
        'r_drop.yaml'
    """
    if _is_file(value):
        return value
    names = config_names()
    name = value.removesuffix(".yaml")
    if name in names:
        return str(_path(name))
    if name in config_names(sweeps=True):
        raise ValueError(f"config must be an experiment, got the sweep {value!r}; `wandb sweep` reads it.")
    if re.fullmatch(r"[\w./\\-]+", value):
        raise ValueError(
            f"config must be a file, or a name that `advdrop configs list` shows, got {value!r}"
            f"{did_you_mean(name.removeprefix('configs/'), names)}"
        )
    return value


def with_files(arguments: Sequence[str]) -> list[str]:
    """Replace the names of configurations in a command line by their paths, see `find_config`.

    Example:
        >>> [Path(each).name for each in with_files(["fit", "--config", "ptb_small", "--regularizer", "null"])]
        ['fit', '--config', 'ptb_small.yaml', '--regularizer', 'null']
    """
    found: list[str] = []
    before = ""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if before in _OPTIONS:
            found.append(find_config(argument))
        elif equals and option in _OPTIONS:
            found.append(f"{option}={find_config(value)}")
        else:
            found.append(argument)
        before = argument
    return found


def _is_file(value: str) -> bool:
    # Unlike `Path.is_file`, False for a configuration in YAML, which may be too long for a path.
    return os.path.isfile(value)  # noqa: PTH113


def maker_of(checkpoint: Path) -> str | None:
    """Return the name of the configuration whose fit writes a checkpoint; None if there is none.

    Args:
        checkpoint: where a ``ModelCheckpoint`` of it writes: in the folder that it names, or in that of the first run.

    Example:
        >>> maker_of(Path("runs/pretrained/imdb.ckpt")), maker_of(Path("runs/ptb/version_0/checkpoints/best.ckpt"))
        ('imdb_pretrain', 'ptb')
    """
    written = {path: name for name in config_names() for path in _written(name)}
    return written.get(Path(os.path.normpath(checkpoint)))


def _written(name: str) -> Iterator[Path]:
    """Yield the checkpoints that a configuration's fit writes."""
    trainer = (yaml.safe_load(_path(name).read_text(encoding="utf-8")) or {}).get("trainer") or {}
    loggers, callbacks = ([each.get("init_args", {}) for each in trainer.get(key) or []] for key in _LISTS)
    folders = [Path(each["save_dir"], each["name"], "version_0", "checkpoints") for each in loggers if "name" in each]
    for each in callbacks:
        for folder in [Path(each["dirpath"])] if "dirpath" in each else folders:
            yield folder / f"{each.get('filename')}.ckpt"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``advdrop configs`` to a parser."""
    parser.add_argument("action", choices=["list", "copy"], help="show the names, or copy files to change them")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument(
        "--output", type=Path, default=Path("configs"), metavar="FOLDER", help="where to copy to (default: %(default)s)"
    )


def run(options: Namespace) -> str:
    """Return the names of configurations with what they are for, or copy them and return the paths of the copies.

    Raises:
        ValueError: if there is no configuration of a name, or a copy's place is taken.
        OSError: if a copy can't be written, such as where ``output`` is a file.
    """
    names = config_names(sweeps=True)
    for name in options.names:
        if name not in names:
            raise ValueError(
                f"NAME must be one that `advdrop configs list` shows, got {name!r}{did_you_mean(name, names)}"
            )
    chosen = options.names or names
    if options.action == "list":
        width = max(map(len, chosen))
        return "\n".join(f"{name:{width}}  {_heading(name)}" for name in chosen)
    copies = {name: options.output / f"{name}.yaml" for name in chosen}
    with writing(options.output):
        for path in copies.values():
            if path.exists():
                raise ValueError(f"output must have no file of that name yet, got {str(path)!r}; name another folder.")
        for name, path in copies.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_path(name), path)
    return "\n".join(map(str, copies.values()))


def _heading(name: str) -> str:
    """Return the comment in a configuration's first line."""
    with _path(name).open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def _path(name: str) -> Path:
    return configs_folder() / f"{name}.yaml"
