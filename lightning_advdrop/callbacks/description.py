"""A table of a callback's sites."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lightning_advdrop.masking import MaskSite, not_covered

_SHAPES = {
    "recurrent": "(B, {site.units})",
    "weight": "({site.rows}, {site.units})",
    "embedding": "({site.units}, 1)",
    "dropout": "as the activation",
}


def describe_sites(module: nn.Module, sites: Sequence[MaskSite]) -> str:
    """Describe the sites in a module by a Markdown table, and below it the parts that they don't cover, and why.

    Args:
        module: the module in which the sites were found.
        sites: the sites; ``B`` in the shapes of their masks is the batch size.

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> lstm = nn.LSTM(4, 3)
        >>> print(describe_sites(lstm, find_sites(lstm)))
        | site         | layer | mask   | rate         |
        | ------------ | ----- | ------ | ------------ |
        | l0:recurrent | LSTM  | (B, 3) | the callback |
    """
    rows = [(site.name, type(module.get_submodule(site.layer)).__name__, _mask(site), _rate(site)) for site in sites]
    text = _table(("site", "layer", "mask", "rate"), rows)
    left_out = not_covered(module, sites)
    if left_out:
        text += "\n\nNot covered:\n\n" + _table(("part", "layer", "why"), left_out)
    if any(site.kind == "dropout" for site in sites):
        text += "\n\nDropout that is called as a function is found when the forward runs."
    return text


def _mask(site: MaskSite) -> str:
    return _SHAPES.get(site.kind, "(B, 1, {site.units})").format(site=site)


def _rate(site: MaskSite) -> str:
    return "the callback" if site.rate is None else str(site.rate)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )
