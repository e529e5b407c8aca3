"""Reports: tables and plots from finished training runs. Imports no other room."""

from lightning_advdrop.report.command import add_arguments, run
from lightning_advdrop.report.errors import ReportError, RunError
from lightning_advdrop.report.groups import Group, group_runs
from lightning_advdrop.report.histories import Series, read_history
from lightning_advdrop.report.plots import draw_curves
from lightning_advdrop.report.runs import Regularizer, Run, find_runs, load_run
from lightning_advdrop.report.tables import Row, format_table, summarize

__all__ = [
    "Group",
    "Regularizer",
    "ReportError",
    "Row",
    "Run",
    "RunError",
    "Series",
    "add_arguments",
    "draw_curves",
    "find_runs",
    "format_table",
    "group_runs",
    "load_run",
    "read_history",
    "run",
    "summarize",
]
