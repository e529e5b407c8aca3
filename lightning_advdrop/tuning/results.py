"""What a search has found: rows for each method, and the best one."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lightning_advdrop._extras import needed
from lightning_advdrop.report.samples import deviation, mean, shared_seeds
from lightning_advdrop.tuning.errors import TuneError
from lightning_advdrop.tuning.methods import Method
from lightning_advdrop.tuning.settings import Settings
from lightning_advdrop.tuning.store import PHASES, RESULT, SEED, Store
from lightning_advdrop.tuning.trials import ERROR, errors

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    The bounds are None where there are fewer than two values, or one is not finite; then the mean is ``nan``.
    """

    mean: float
    low: float | None
    high: float | None


def confidence_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Return the mean of some values with Student's confidence interval.

    Args:
        values: at least one.
        level: in (0, 1).

    Example:
        >>> found = confidence_interval([1.0, 2.0, 3.0])
        >>> found.mean, round(found.low, 3), round(found.high, 3)
        (2.0, -0.484, 4.484)
    """
    center, spread = mean(values), deviation(values)
    if spread is None or not math.isfinite(spread):
        return Interval(center, None, None)
    with needed("The intervals of a search"):
        from scipy.stats import t
    half = float(t.ppf((1 + level) / 2, len(values) - 1)) * spread / math.sqrt(len(values))
    return Interval(center, center - half, center + half)


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval | None:
    """Return the mean difference over the seeds that both have, with its confidence interval; None without a seed.

    Args:
        ours: values by seed.
        theirs: those that are subtracted.

    Example:
        >>> paired_difference({1: 3.0, 2: 4.0}, {1: 2.0, 3: 9.0})
        Interval(mean=1.0, low=None, high=None)
    """
    common = sorted(ours.keys() & theirs.keys())
    return confidence_interval([ours[seed] - theirs[seed] for seed in common]) if common else None


@dataclass(frozen=True)
class Row:
    """A method's results with fresh seeds.

    Args:
        method: its name.
        values: that were chosen; None if all runs of its search failed.
        results: the metric by seed: on the test data, or on the validation data where there are no test data.
        validation: the validation metric by seed.
        difference: to the best other method.
        other: the name of that.
        cost: of a training step, in steps of plain training; None if ``none`` is not among the methods.
    """

    method: str
    values: Mapping[str, Any] | None
    results: Mapping[int, float]
    validation: Mapping[int, float]
    difference: Interval | None = None
    other: str | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Result:
    """What a search has found.

    Args:
        metric: what `rows` have: the test metric, or that of the validation where nothing could be tested.
        rows: one for each method.
        best: the method with the best mean validation metric, over the fresh seeds of all that are compared (see
            `summarize`); None if none has a result.
        remarks: on failures and on what is not complete.
        output: the folder with the table, the picture, ``runs.csv`` and ``best.yaml``.
        table: in Markdown.
    """

    metric: str
    rows: Sequence[Row]
    best: str | None
    remarks: Sequence[str]
    output: Path
    table: str = ""


@dataclass(frozen=True)
class RunRow:
    """A run, as a line of ``runs.csv``.

    ``result`` is the test value where there is one, else that of the validation; ``metric`` is its name, and ``mode``
    tells which values of it are better.
    """

    method: str
    phase: str
    number: int
    state: str
    seed: int | None
    values: str
    validation: float | None
    test: float | None
    metric: str
    mode: str
    result: float | None
    seconds: float | None
    step_seconds: float | None
    steps: int | None
    error: str


def run_rows(store: Store) -> list[RunRow]:
    """Return all runs of a store, those that failed or were killed among them."""
    rows, settings = [], store.settings
    for method in settings.methods:
        for phase in PHASES:
            for trial in store.trials(method.name, phase):
                found = dict(trial.user_attrs.get(RESULT, {}))
                values = json.dumps(found.get("values", trial.params))
                tested = found.get("test") is not None
                row = RunRow(
                    method=method.name,
                    phase=phase,
                    number=trial.number,
                    state=trial.state.name.lower(),
                    seed=trial.user_attrs.get(SEED),
                    values=values,
                    validation=trial.value,
                    metric=settings.tested if tested else settings.metric,
                    mode=str(settings.tested_mode if tested else settings.validated_mode),
                    result=found["test"] if tested else trial.value,
                    **{name: found.get(name) for name in ("test", "seconds", "step_seconds", "steps")},
                    error=str(trial.user_attrs.get(ERROR, "")),
                )
                rows.append(row)
    return rows


def summarize(store: Store) -> Result:
    """Summarize what a store has.

    The best method, and the best other one of each difference, are chosen among the methods of which no run failed, if
    there are any, over the fresh seeds that these share.

    Raises:
        TuneError: if no run with a fresh seed is there.
    """
    settings, runs = store.settings, run_rows(store)
    done = [run for run in runs if run.phase == "seeds" and run.state == "complete"]
    if not done:
        failed = [run.error for run in runs if run.error]
        why = f"; the last failure: {failed[-1]}" if failed else ", since the time was up; run the same again to go on"
        raise TuneError(f"no run with a fresh seed has ended{why}.")
    tested = all(run.test is not None for run in done)
    costs = _costs(done)
    rows = [_row(store, method, done, tested, costs.get(method.name)) for method in settings.methods]
    incomplete = {method.name for method in settings.methods if errors(store.counted(method.name, "seeds"))}
    candidates, seeds = _compared(rows, incomplete)
    tested_sign, sign = (1 if mode == "min" else -1 for mode in (settings.tested_mode, settings.validated_mode))
    finite = [row for row in candidates if math.isfinite(_mean_over(row.results, seeds))]
    order = sorted(finite, key=lambda row: (tested_sign if tested else sign) * _mean_over(row.results, seeds))
    best = min(candidates, key=lambda row: sign * _mean_over(row.validation, seeds))
    metric = settings.tested if tested else settings.metric
    remarks = [*_remarks(store, tested), *_unequal(rows, candidates, seeds)]
    return Result(metric, [_compare(row, order) for row in rows], best.method, remarks, settings.output)


def _compared(rows: Sequence[Row], failed: Collection[str]) -> tuple[list[Row], list[int]]:
    """The rows that may be the best, and the seeds over which they are compared.

    A mean over seeds that others lack, or without the seeds that failed, is not comparable.
    """
    done = [row for row in rows if row.results]
    candidates = [row for row in done if row.method not in failed] or done
    common = shared_seeds(row.results for row in candidates)
    if common:
        return candidates, common
    most = max(candidates, key=lambda row: len(row.results))
    return [most], sorted(most.results)


def _mean_over(values: Mapping[int, float], seeds: Iterable[int]) -> float:
    return mean([values[seed] for seed in seeds])


def _unequal(rows: Sequence[Row], candidates: Sequence[Row], seeds: Sequence[int]) -> list[str]:
    """Remarks on methods that were run with fewer seeds than others."""
    left_out = [row.method for row in rows if row.results and row not in candidates]
    remarks = [f"{name} is not compared for the best method, since runs of it are missing." for name in left_out]
    if any(len(row.results) > len(seeds) for row in candidates):
        remarks.append(f"The best methods are chosen over the seeds that they share: {', '.join(map(str, seeds))}.")
    return remarks


def _row(store: Store, method: Method, done: Sequence[RunRow], tested: bool, cost: float | None) -> Row:
    own = {run.seed: run for run in done if run.method == method.name and run.seed in store.settings.fresh_seeds}
    chosen = store.chosen(method.name)
    results = {seed: (run.test if tested else run.validation) for seed, run in own.items()}
    return Row(
        method.name,
        None if chosen is None else chosen["values"],
        {int(seed or 0): float(value) for seed, value in results.items() if value is not None},
        {int(seed or 0): float(run.validation) for seed, run in own.items() if run.validation is not None},
        cost=cost,
    )


def _compare(row: Row, order: Sequence[Row]) -> Row:
    other = next((each for each in order if each.method != row.method), None)
    if other is None or not row.results:
        return row
    difference = paired_difference(row.results, other.results)
    return Row(row.method, row.values, row.results, row.validation, difference, other.method, row.cost)


def _costs(done: Sequence[RunRow]) -> dict[str, float]:
    """The median step of each method, in median steps of plain training."""
    times: dict[str, list[float]] = {}
    for run in done:
        if run.step_seconds is not None:
            times.setdefault(run.method, []).append(run.step_seconds)
    plain = median(times["none"]) if "none" in times else math.nan
    return {method: median(each) / plain for method, each in times.items() if math.isfinite(plain)}


def _remarks(store: Store, tested: bool) -> list[str]:
    remarks = []
    settings: Settings = store.settings
    for method in settings.methods:
        for phase in PHASES:
            counted = [each for each in store.counted(method.name, phase) if each.state.is_finished()]
            failed = errors(counted)
            if failed:
                told = f"{method.name}: {len(failed)} of {len(counted)} runs of the {phase} failed"
                remarks.append(f"{told}; the last: {failed[-1]}")
            if len(counted) < store.wanted(method, phase):
                told = f"{method.name}: {len(counted)} of {store.wanted(method, phase)} runs of the {phase} were made"
                again = "the choice is made" if phase == "search" else "run the same again to go on"
                remarks.append(f"{told}; {again}.")
    if store.was_complete:
        ends = [each.datetime_complete for method in settings.methods for each in store.counted(method.name, "seeds")]
        latest = max(each for each in ends if each is not None)
        remarks.append(f"No run was made, since all of them were there; the last one is of {latest:%Y-%m-%d %H:%M}.")
    if not tested:
        remarks.append("Nothing was tested, since model or data have no test: the table has the validation metric.")
    return remarks
