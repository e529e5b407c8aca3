"""Tables and plots of finished training runs."""

from lightning_advdrop._deprecation import renamed_attributes
from lightning_advdrop.mask_shares import MaskShares
from lightning_advdrop.report.command import add_arguments, run
from lightning_advdrop.report.errors import ReportError, RunError
from lightning_advdrop.report.groups import Group, group_runs
from lightning_advdrop.report.histories import Series, read_history, read_masks
from lightning_advdrop.report.metrics import PREFERRED, choose_metrics
from lightning_advdrop.report.pages import Page, Picture, Table, as_html, as_markdown
from lightning_advdrop.report.plots import draw_curves, draw_gaps, draw_masks
from lightning_advdrop.report.runs import RegularizerEntry, Run, find_runs, load_run
from lightning_advdrop.report.tables import Row, format_table, summarize

__getattr__ = renamed_attributes(__name__, {"Regularizer": "RegularizerEntry"})

__all__ = [
    "PREFERRED",
    "Group",
    "MaskShares",
    "Page",
    "Picture",
    "RegularizerEntry",
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
