"""Write what a search has found."""

from __future__ import annotations

import csv
from dataclasses import fields

from lightning_advdrop.files import replacing, write_whole
from lightning_advdrop.tuning.pages import write_pages
from lightning_advdrop.tuning.results import Result, RunRow, run_rows, summarize
from lightning_advdrop.tuning.settings import Experiment
from lightning_advdrop.tuning.store import Store

RUNS_FILE, BEST_FILE = "runs.csv", "best.yaml"


def write_results(store: Store, experiment: Experiment) -> Result:
    """Write the runs, the table, the picture and the configuration of the best method; return what was found.

    Args:
        store: with the runs.
        experiment: makes the configuration.

    Raises:
        TuneError: if no run with a fresh seed is there.
        OSError: if a file can't be written.
    """
    output = store.settings.output
    with replacing(output / RUNS_FILE) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [each.name for each in fields(RunRow)]
        writer.writerow(names)
        writer.writerows([getattr(run, name) for name in names] for run in run_rows(store))
    found = write_pages(summarize(store))
    method = next(each for each in store.settings.methods if each.name == found.best)
    values = next(row.values for row in found.rows if row.method == found.best)
    write_whole(output / BEST_FILE, experiment.config(method, dict(values or {})))
    return found
