"""A table of a callback's sites."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from typing_extensions import Self

from lightning_advdrop.masking import MaskSite, not_covered

_SHAPES = {
    "recurrent": "(B, {site.units})",
    "weight": "({site.rows}, {site.units})",
    "embedding": "({site.units}, 1)",
    "dropout": "as the activation",
}


class SiteTable(str):
    """A table of sites: Markdown where it is printed, and a table of HTML in a notebook.

    Attributes:
        tables: by heading, the lines of cells, of which the first is the table's head.

    Example:
        >>> SiteTable({"": [["site"], ["lstm"]]})._repr_html_()
        '<table><thead><tr><th>site</th></tr></thead><tbody><tr><td>lstm</td></tr></tbody></table>'
    """

    tables: Mapping[str, Sequence[Sequence[str]]]

    def __new__(cls, tables: Mapping[str, Sequence[Sequence[str]]], note: str = "") -> Self:
        """Lay out the tables, and below them a note."""
        parts = [f"{heading}\n\n{_table(*lines)}" if heading else _table(*lines) for heading, lines in tables.items()]
        made = super().__new__(cls, "\n\n".join([*parts, *([note] if note else [])]))
        made.tables = tables
        made._note = note
        return made

    _note: str

    def __getnewargs__(self) -> tuple[Any, ...]:
        """What copies and pickles are made from."""
        return (self.tables, self._note)

    def _repr_html_(self) -> str:
        parts = [f"{_paragraph(heading)}{_html(*lines)}" for heading, lines in self.tables.items()]
        return "".join([*parts, _paragraph(self._note)])


def describe_sites(module: nn.Module, sites: Sequence[MaskSite]) -> SiteTable:
    """Describe the sites in a module by a table, and below it the parts that they don't cover, and why.

    Args:
        module: the module in which the sites were found.
        sites: the sites; ``B`` in the shapes of their masks is the batch size.

    Returns:
        Text in Markdown, which a notebook shows as a table.

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> lstm = nn.LSTM(4, 3)
        >>> print(describe_sites(lstm, find_sites(lstm)))
        | site         | layer | mask   | rate         |
        | ------------ | ----- | ------ | ------------ |
        | l0:recurrent | LSTM  | (B, 3) | the callback |
    """
    rows = [(site.name, type(module.get_submodule(site.layer)).__name__, _mask(site), _rate(site)) for site in sites]
    tables: dict[str, Sequence[Sequence[str]]] = {"": [("site", "layer", "mask", "rate"), *rows]}
    left_out = not_covered(module, sites)
    if left_out:
        tables["Not covered:"] = [("part", "layer", "why"), *left_out]
    functional = "Dropout that is called as a function is found when the forward runs."
    return SiteTable(tables, functional if any(site.kind == "dropout" for site in sites) else "")


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text else ""


def _html(header: Sequence[str], *rows: Sequence[str]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(header, 'th')}</thead><tbody>{body}</tbody></table>"


def _mask(site: MaskSite) -> str:
    return _SHAPES.get(site.kind, "(B, 1, {site.units})").format(site=site)


def _rate(site: MaskSite) -> str:
    return "the callback" if site.rate is None else str(site.rate)


def _table(header: Sequence[str], *rows: Sequence[str]) -> str:
    """Markdown, with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )
