"""The loop of a search: make the runs that are left, in one process or several."""

from __future__ import annotations

import logging
import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from lightning_advdrop.tuning.errors import RunFailedError, TuneError
from lightning_advdrop.tuning.methods import Method
from lightning_advdrop.tuning.running import run_once, stop_if_orphaned
from lightning_advdrop.tuning.settings import Experiment, Parts, Settings
from lightning_advdrop.tuning.spaces import suggest
from lightning_advdrop.tuning.store import PHASES, RESULT, SEED, Phase, Store
from lightning_advdrop.tuning.trials import ERROR, STARTED, errors

if TYPE_CHECKING:
    from optuna import Trial

RUNS_FOLDER = "runs"
_TEMPORARY = ".run-"
_POLL = 0.5
_GIVE_UP = 3
_LONGEST_ERROR = 1000
_PRUNED_FROM = 0.5


def search(settings: Settings, experiment: Experiment) -> Store:
    """Make the runs that are left of a search, until all are made or the time is up.

    Args:
        settings: of the search.
        experiment: makes the objects of each run.

    Returns:
        The store, with what is there.

    Raises:
        TuneError: if the arguments are such that no run could succeed, or a process was killed.
    """
    store = Store(settings, experiment.description)
    store.forget_failures()
    store.was_complete = _is_complete(store)
    # None: no bar where the output is a file or a pipe.
    with tqdm(desc="Tuning", unit="run", disable=None) as bar:
        show = partial(_show, bar, store)
        show()
        if settings.jobs == 1:
            work(settings, experiment, show)
        else:
            _work_in_processes(settings, experiment, show)
        show()
    if _is_complete(store):
        for left in settings.output.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)  # of runs that were killed
    return store


def _is_complete(store: Store) -> bool:
    done, total = store.progress()
    return done == total


def _show(bar: tqdm, store: Store) -> None:
    bar.n, bar.total = store.progress()
    bar.refresh()


def _work_in_processes(settings: Settings, experiment: Experiment, show: Callable[[], None]) -> None:
    # Forked processes can't use a GPU.
    with ProcessPoolExecutor(settings.jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(work, settings, experiment) for _ in range(settings.jobs)]
        while wait(futures, _POLL, FIRST_EXCEPTION).not_done and not any(each.done() for each in futures):
            show()
        try:
            for future in futures:
                future.result()
        except BrokenProcessPool:
            raise TuneError(
                "jobs: one of the processes was killed, perhaps for want of memory, or could not start; run the same "
                "again to go on. A script that starts several needs `if __name__ == '__main__':`, and a notebook must "
                "import its model and data from a file."
            ) from None
        except TuneError as error:
            raise TuneError(str(error)) from None  # where it was raised in the other process is of no use


def work(settings: Settings, experiment: Experiment, show: Callable[[], None] | None = None) -> None:
    """Make runs in this process until none is left or the time is up. Any number of processes may do so at once.

    Args:
        settings: of the search.
        experiment: makes the objects of each run.
        show: called after each run.
    """
    begin = time.monotonic()
    store = Store(settings, experiment.description)
    # Of a time budget the search takes its share of the runs.
    share = settings.trials / (settings.trials + settings.seeds)
    ends = {"search": share, "seeds": 1.0}
    with quiet():
        for phase in PHASES:
            until = math.inf if settings.budget is None else begin + settings.budget * ends[phase]
            _work_off(store, experiment, phase, until, show)
            if phase == "search":
                if not store.is_tried:
                    return  # the time was up before there was anything to choose from
                store.close()
                # Others may be within a run that began before.
                while not store.is_idle(phase):
                    _wait()
                store.choose()


def _work_off(
    store: Store, experiment: Experiment, phase: Phase, until: float, show: Callable[[], None] | None
) -> None:
    from optuna.exceptions import UpdateFinishedTrialError

    while time.monotonic() < until:
        # The objective releases it: one process at a time takes a run.
        store.lock.acquire()
        try:
            method = store.next_method(phase)
            if method is not None:
                objective = Objective(store, experiment, method, phase)
                # It is raised for a run that another process took for dead, and has put into the queue.
                with suppress(UpdateFinishedTrialError):
                    store.studies[method.name, phase].optimize(objective, n_trials=1, catch=(RunFailedError,))
        finally:
            store.lock.release()
        if method is not None:
            objective.give_up()
        elif store.is_idle(phase) and store.next_method(phase) is None:
            return
        else:
            _wait()
        if show is not None:
            show()


def _wait() -> None:
    stop_if_orphaned()
    time.sleep(_POLL)


class Objective:
    """One run, as Optuna calls it.

    Args:
        store: where the run is recorded.
        experiment: makes its objects.
        method: the method that is tried.
        phase: the search, or the fresh seeds.
    """

    def __init__(self, store: Store, experiment: Experiment, method: Method, phase: Phase) -> None:
        self.store, self.experiment, self.method, self.phase = store, experiment, method, phase

    def __call__(self, trial: Trial) -> float:
        """Make the run and return its metric."""
        from optuna import TrialPruned

        settings, is_search = self.store.settings, self.phase == "search"
        trial.set_user_attr(STARTED, trial.number)
        self.store.lock.release()
        seed = settings.seed if is_search else trial.user_attrs.get(SEED)
        if seed is None or self.store.is_surplus(self.method, self.phase, trial.number, seed):
            raise RunFailedError("another process made this run.")
        values = self._values(trial)
        trial.set_user_attr(SEED, seed)
        trial.set_user_attr(RESULT, {"values": values})

        def report(step: int, value: float, share: float) -> None:
            trial.report(value, step)
            # Strong regularizers slow the beginning down.
            if share >= _PRUNED_FROM and trial.should_prune():
                raise TrialPruned

        try:
            with self._folder(seed) as folder:
                parts = self._build(values, seed, folder)
                found = run_once(parts, settings, folder, report if is_search else None, test=not is_search)
        except (TrialPruned, TuneError):
            raise
        except SystemExit as error:
            raise KeyboardInterrupt from error  # which Lightning has turned into this
        except Exception as error:
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            trial.set_user_attr(ERROR, told[:_LONGEST_ERROR])
            raise RunFailedError(told) from error
        trial.set_user_attr(RESULT, {"values": values, **found})
        return float(found["value"])

    def _build(self, values: dict[str, object], seed: int, folder: Path) -> Parts:
        try:
            return self.experiment.build(self.method, values, seed, folder)
        except SystemExit as error:  # of a parser that refuses a value
            raise ValueError(f"the values {values} were refused") from error

    def _values(self, trial: Trial) -> dict[str, object]:
        from optuna.samplers import TPESampler

        if self.phase == "seeds":
            chosen = self.store.chosen(self.method.name)
            assert chosen is not None
            return dict(chosen["values"])
        # By the trial's number, so that it doesn't depend on which process draws.
        trial.study.sampler = TPESampler(seed=self.store.settings.seed + trial.number)
        return suggest(trial, self.method.space)

    @contextmanager
    def _folder(self, seed: int) -> Iterator[Path]:
        """A folder for the logs of the run: one that stays, or one that goes away with a run of the search."""
        output = self.store.settings.output
        if self.phase == "search":
            with TemporaryDirectory(prefix=_TEMPORARY, dir=output) as temporary:
                yield Path(temporary)
            return
        folder = output / RUNS_FOLDER / self.method.name / f"seed_{seed}"
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        folder.mkdir(parents=True)
        yield folder

    def give_up(self) -> None:
        """Raise if the first runs of a phase have all failed: something is wrong with all of them.

        Raises:
            TuneError: with the last error.
        """
        from optuna.trial import TrialState

        methods = self.store.settings.methods
        counted = [each for method in methods for each in self.store.counted(method.name, self.phase)]
        failed = errors(counted)
        others = [each for each in counted if each.state != TrialState.FAIL]
        if len(failed) >= _GIVE_UP and not others:
            raise TuneError(f"the first runs must not all fail, got {len(failed)} of {len(failed)}: {failed[-1]}")


@contextmanager
def quiet() -> Iterator[None]:
    """Run in one thread, without what Lightning says at each run."""
    threads, loggers = (
        torch.get_num_threads(),
        [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")],
    )
    levels = [logger.level for logger in loggers]
    torch.set_num_threads(1)
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    # Each run would warn of the same; a program that shows or raises all warnings is left alone.
    with nullcontext() if sys.warnoptions else warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
