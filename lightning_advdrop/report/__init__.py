"""Reports: tables and plots from finished training runs. Imports no other room."""

from lightning_advdrop.report.command import add_arguments, run
from lightning_advdrop.report.errors import ReportError, RunError
from lightning_advdrop.report.gaps import draw_gaps
from lightning_advdrop.report.groups import Group, group_runs
from lightning_advdrop.report.histories import Series, read_history
from lightning_advdrop.report.masks import MaskShares, draw_masks, read_masks
from lightning_advdrop.report.metrics import PREFERRED, choose_metrics
from lightning_advdrop.report.pages import Page, Picture, Table, as_html, as_markdown
from lightning_advdrop.report.plots import draw_curves
from lightning_advdrop.report.runs import Regularizer, Run, find_runs, load_run
from lightning_advdrop.report.tables import Row, format_table, summarize

__all__ = [
    "PREFERRED",
    "Group",
    "MaskShares",
    "Page",
    "Picture",
    "Regularizer",
    "ReportError",
    "Row",
    "Run",
    "RunError",
    "Series",
    "Table",
    "add_arguments",
    "as_html",
    "as_markdown",
    "choose_metrics",
    "draw_curves",
    "draw_gaps",
    "draw_masks",
    "find_runs",
    "format_table",
    "group_runs",
    "load_run",
    "read_history",
    "read_masks",
    "run",
    "summarize",
]
