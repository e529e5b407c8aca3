"""Find and load the folders that finished runs leave behind."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightning_advdrop.files import TEXT_ENCODING
from lightning_advdrop.report.errors import RunError, reading
from lightning_advdrop.report.histories import METRICS_FILE, Series, read_history

CONFIG_FILE = "config.yaml"
_VERSION = re.compile(r"version_(\d+)")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
# The class names of this package start with it; other callbacks of a trainer say nothing about the method.
_PACKAGE = __name__.partition(".")[0]
# Names in the literature, where they are not the class name in words.
_NAMES = {
    "ExpectationLinearDropout": "expectation-linear dropout",
    "PiModel": "Pi-model",
    "PseudoEnsemble": "pseudo-ensemble agreement",
    "RDrop": "R-Drop",
    "VirtualAdversarialTraining": "virtual adversarial",
}
_NO_SETTINGS = ("trainer.callbacks", "trainer.default_root_dir", "trainer.enable_", "trainer.logger")
# Between the two files lies the training; a smaller difference is that of a copy that did not keep the times.
_SHORTEST_RUN_SECONDS = 1.0


@dataclass(frozen=True)
class RegularizerEntry:
    """A regularizer in the config of a run.

    Args:
        name: Its class in words, e.g. ``"adversarial dropout"``.
        arguments: The arguments that the config gives it.
    """

    name: str
    arguments: Mapping[str, object]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: The folder of the run.
        experiment: Name of the folder above it.
        version: The number in ``version_<n>``; -1 if the folder has another name.
        seed: ``seed_everything`` of its config; ``None`` if it was not seeded.
        regularizers: In the order of the config; empty for a plain run.
        settings: The rest of its config, flat: ``{"model.init_args.lr": 0.1}``. Seeds, callbacks and places to write to
            are left out.
        history: The values that it logged, by name.
        minutes: From its start to the last value that it logged; ``None`` if unknown.
        modified: When it logged its last value, in seconds since the epoch.
    """

    folder: Path
    experiment: str
    version: int
    seed: int | None
    regularizers: tuple[RegularizerEntry, ...]
    settings: Mapping[str, object]
    history: Mapping[str, Series]
    minutes: float | None
    modified: float

    @property
    def trained(self) -> bool:
        """Whether it trained: what ``test`` and ``validate`` log by themselves has the step 0."""
        return any(series.step != 0 for series in self.history.values())

    def series(self, metric: str) -> Series:
        """Return the values that the run logged under a name.

        Raises:
            RunError: If it logged nothing under it.
        """
        if metric not in self.history:
            raise RunError(f"{METRICS_FILE} holds no value of {metric!r}")
        return self.history[metric]


def natural_key(text: str) -> list[str | float]:
    """Return a sort key that compares numbers in names as numbers.

    Example:
        >>> sorted(["version_10", "version_2"], key=natural_key)
        ['version_2', 'version_10']
    """
    # split() with one group alternates texts and numbers, so that like is compared with like.
    return [float(part) if index % 2 else part for index, part in enumerate(_NUMBER.split(text))]


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Find run folders at any depth.

    A run folder holds ``metrics.csv``, or is called ``version_<n>`` and holds no other run. A path with no run in it is
    returned itself, so that loading it names the missing file.

    Args:
        paths: Run folders, or folders that hold such.

    Returns:
        The run folders, each once, in the order of ``paths`` and of their names.

    Example:
        >>> [str(folder) for folder in find_runs([Path("no-such-folder")])]
        ['no-such-folder']
    """
    seen: set[Path] = set()
    found: list[Path] = []
    for path in paths:
        if path.resolve() in seen:
            continue
        below = list(_walk(path, seen))
        # Its runs may have been named before, as in `runs/digits runs`.
        if not below and not any(path.resolve() in other.resolve().parents for other in found):
            below = [path]
        found += below
    return found


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    if folder.resolve() in seen:  # links may form a circle
        return
    seen.add(folder.resolve())
    try:
        is_run = (folder / METRICS_FILE).exists()
        children = sorted((child for child in folder.iterdir() if child.is_dir()), key=lambda at: natural_key(at.name))
    except OSError:
        yield folder  # loading it gives the reason
        return
    if is_run:
        yield folder
        return
    below = [run for child in children for run in _walk(child, seen)]
    if not below and _VERSION.fullmatch(folder.name):
        below = [folder]
    yield from below


def load_run(folder: Path) -> Run:
    """Load a run.

    Args:
        folder: Holds ``metrics.csv`` and ``config.yaml``.

    Returns:
        The run.

    Raises:
        RunError: If the folder or one of the files is missing, empty or damaged.

    Example:
        >>> load_run(Path("no-such-folder"))
        Traceback (most recent call last):
        ...
        lightning_advdrop.report.errors.RunError: found no such folder
    """
    if not folder.is_dir():
        raise RunError("found a file, expected a folder" if folder.exists() else "found no such folder")
    history = read_history(folder / METRICS_FILE)
    config = _read_config(folder / CONFIG_FILE)
    seed = config.get("seed_everything")
    # Not the name as given: that of "." is empty.
    place = folder.resolve()
    version = _VERSION.fullmatch(place.name)
    started, modified = ((folder / name).stat().st_mtime for name in (CONFIG_FILE, METRICS_FILE))
    return Run(
        folder=folder,
        experiment=place.parent.name,
        version=int(version[1]) if version else -1,
        # Not True and False, which are integers: LightningCLI's words for any seed and none.
        seed=seed if type(seed) is int else None,
        regularizers=tuple(_regularizers(config)),
        settings=_settings(config),
        history=history,
        minutes=(modified - started) / 60 if modified - started >= _SHORTEST_RUN_SECONDS else None,
        modified=modified,
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        with reading(path, "LightningCLI"):
            config = yaml.safe_load(path.read_text(encoding=TEXT_ENCODING))
    except yaml.YAMLError as error:
        # The parser's message has a line each for the reason and for the place.
        raise RunError(f"{path.name} is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(config, dict):
        raise RunError(f"{path.name} holds {_shorten(config)}, expected a mapping")
    return config


def _regularizers(config: Mapping[str, Any]) -> Iterator[RegularizerEntry]:
    for entry in _as_list(config.get("regularizer")):
        if not isinstance(entry, dict) or not isinstance(entry.get("class_path"), str):
            raise RunError(
                f"{CONFIG_FILE} has regularizer={_shorten(entry)}, expected null, a mapping with class_path, or a list"
            )
        yield _regularizer(entry)
    # The same callbacks work in the trainer's list; such a run is not a plain one.
    trainer = config.get("trainer")
    for entry in _as_list(trainer.get("callbacks") if isinstance(trainer, dict) else None):
        path = entry.get("class_path") if isinstance(entry, dict) else None
        if isinstance(path, str) and path.startswith(f"{_PACKAGE}.") and path.endswith("Callback"):
            yield _regularizer(entry)


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _regularizer(entry: Mapping[str, Any]) -> RegularizerEntry:
    module, _, name = entry["class_path"].rpartition(".")
    arguments = dict(entry.get("init_args") or {})
    inner = arguments.get("regularizer")
    if name == "RegularizerCallback" and isinstance(inner, dict) and isinstance(inner.get("class_path"), str):
        found = _regularizer(inner)
        del arguments["regularizer"]
        return RegularizerEntry(found.name, {**found.arguments, **arguments})
    name = name.removesuffix("Callback")
    if module.partition(".")[0] == _PACKAGE and name in _NAMES:
        return RegularizerEntry(_NAMES[name], arguments)
    # A word starts at a capital that begins lower case or ends it: VATLoss is "vat loss".
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return RegularizerEntry(words.lower(), arguments)


def _settings(config: Mapping[str, Any]) -> dict[str, object]:
    sections = {key: config.get(key) for key in ("trainer", "model", "data")}
    flat = _flatten({key: section for key, section in sections.items() if isinstance(section, dict)})
    return {name: value for name, value in flat if not name.startswith(_NO_SETTINGS)}


def _flatten(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        elif not str(key).endswith("seed"):
            yield f"{prefix}{key}", value


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
