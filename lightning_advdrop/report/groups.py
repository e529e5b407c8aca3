"""Group runs that are repetitions of one another, and name their methods."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lightning_advdrop.report.errors import ReportError
from lightning_advdrop.report.runs import Run, natural_key

PLAIN = "plain"
"""The method of a run without a regularizer."""


@dataclass(frozen=True)
class Group:
    """Runs of one experiment with one method, which differ in their seed.

    Args:
        experiment: Name of the experiment.
        method: Name of the method.
        runs: By seed; those without one come last.
    """

    experiment: str
    method: str
    runs: tuple[Run, ...]


def group_runs(runs: Iterable[Run], baseline: str = PLAIN, by: Sequence[str] = ()) -> tuple[list[Group], list[str]]:
    """Group the runs that are repetitions of one another.

    Methods are named by their regularizers. Where runs of one experiment have the same regularizers with different
    arguments, those that differ are part of the name. Of several runs with the same seed the newest one that trained
    counts: the one with the highest version in its folder, and between folders the one that logged last. A run of
    ``test`` or ``validate`` counts where none trained.

    Args:
        runs: Runs of any number of experiments.
        baseline: The method that comes first.
        by: Settings by which runs are told apart, too, and which are part of the method's name, such as
            ``"model.init_args.hidden_size"``.

    Returns:
        The groups, by experiment and method; and a note for each run that was left out, and for each experiment whose
        runs differ in more than method and seed.

    Raises:
        ReportError: If no run has a setting that ``by`` names.

    Example:
        >>> group_runs([])
        ([], [])
    """
    experiments: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        experiments[run.experiment].append(run)
    _check_settings([run for members in experiments.values() for run in members], by)
    groups: list[Group] = []
    notes: list[str] = []
    for experiment, members in experiments.items():
        for method, repetitions in _by_method(members, by).items():
            counted, left_out = _one_per_seed(repetitions)
            groups.append(Group(experiment, method, tuple(counted)))
            notes += left_out
        notes += _differences(experiment, members, by)
    groups.sort(key=lambda group: (natural_key(group.experiment), method_key(group.method, baseline)))
    return groups, notes


def method_key(method: str, baseline: str) -> tuple[bool, list[str | float]]:
    """Return a sort key of methods: the baseline first, the others by name.

    Example:
        >>> sorted(["fraternal dropout", "plain", "adversarial dropout"], key=lambda name: method_key(name, "plain"))
        ['plain', 'adversarial dropout', 'fraternal dropout']
    """
    return method != baseline, natural_key(method.casefold())


def _check_settings(runs: Sequence[Run], by: Sequence[str]) -> None:
    for name in by:
        if not any(name in run.settings for run in runs):
            different = ", ".join(_varied([run.settings for run in runs])) or "none"
            raise ReportError(f"by must name settings of the runs, got {name!r}; those that differ are: {different}")


def _by_method(runs: Sequence[Run], by: Sequence[str]) -> dict[str, list[Run]]:
    """Put the runs of one experiment together by method."""
    kinds: defaultdict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        kinds[tuple(regularizer.name for regularizer in run.regularizers)].append(run)
    shown = {name: _shortened(_text(run.settings, name) for run in runs) for name in by}
    methods: defaultdict[str, list[Run]] = defaultdict(list)
    for names, members in kinds.items():
        varied = [_varied([run.regularizers[index].arguments for run in members]) for index in range(len(names))]
        for run in members:
            methods[_name(run, varied, shown)].append(run)
    return methods


def _name(run: Run, varied: Sequence[Iterable[str]], shown: Mapping[str, Mapping[str, str]]) -> str:
    """Name the method of a run, given the arguments to mention for each of its regularizers, and its settings."""
    parts = []
    for regularizer, arguments in zip(run.regularizers, varied, strict=True):
        stated = ", ".join(f"{name}={_text(regularizer.arguments, name)}" for name in arguments)
        parts.append(f"{regularizer.name} ({stated})" if stated else regularizer.name)
    settings = ", ".join(
        f"{name.rpartition('.')[2]}={texts[_text(run.settings, name)]}" for name, texts in shown.items()
    )
    return (" + ".join(parts) or PLAIN) + (f" ({settings})" if settings else "")


def _shortened(texts: Iterable[str]) -> dict[str, str]:
    """Shorten texts for a table: paths to their last parts, as long as these differ, too."""
    ends = {text: text.rpartition("/")[2] for text in texts}
    return ends if len(set(ends.values())) == len(ends) else {text: text for text in ends}


def _varied(settings: Sequence[Mapping[str, object]]) -> list[str]:
    """Name the settings that differ between mappings, in their order, except seeds."""
    names = dict.fromkeys(name for setting in settings for name in setting if not name.endswith("seed"))
    return [name for name in names if len({_text(setting, name) for setting in settings}) > 1]


def _text(setting: Mapping[str, object], name: str) -> str:
    if name not in setting:
        return "unset"
    value = setting[name]
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _one_per_seed(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    counted: list[Run] = []
    notes = []
    seeds: defaultdict[int, list[Run]] = defaultdict(list)
    unseeded = []
    for run in runs:
        if run.seed is None:
            unseeded.append(run)
        else:
            seeds[run.seed].append(run)
    for seed, repetitions in sorted(seeds.items()):
        newest = _newest(repetitions)
        counted.append(newest)
        notes += [
            f"{run.folder} is left out: {_why(run, newest)} with the same method and seed {seed}"
            for run in repetitions
            if run is not newest
        ]
    return counted + unseeded, notes


def _why(run: Run, counted: Run) -> str:
    if run.trained == counted.trained:
        return f"{counted.folder} is a newer run"
    return f"it trained nothing, and {counted.folder} is a run that did,"


def _newest(runs: Iterable[Run]) -> Run:
    # Versions before times: they survive copying. Versions of different folders say nothing about one another.
    folders: dict[object, Run] = {}
    for run in runs:
        parent = run.folder.resolve().parent
        folders[parent] = max(folders.get(parent, run), run, key=lambda at: (at.trained, at.version, at.modified))
    return max(folders.values(), key=lambda run: (run.trained, run.modified))


def _differences(experiment: str, runs: Sequence[Run], by: Sequence[str]) -> list[str]:
    """Note where runs differ in more than method and seed, which may be on purpose."""
    settings = [run.settings for run in runs]
    found = [
        f"{name} ({', '.join(sorted({_text(setting, name) for setting in settings}, key=natural_key))})"
        for name in _varied(settings)
        if name not in by
    ]
    return [f"runs of {experiment} differ in {', '.join(found)} and are compared all the same"] if found else []
