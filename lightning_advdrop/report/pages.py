"""Write a report as Markdown and as one HTML file."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_advdrop.report.tables import TEXT_COLUMNS, aligned

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; }
th, td { padding: 0.3rem 0.8rem; border-bottom: 1px solid #ddd; text-align: right; }
.text { text-align: left; }
figure { margin: 2rem 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #555; }"""


@dataclass(frozen=True)
class Picture:
    """A picture in a report.

    Args:
        path: The PNG file, in the folder of the report.
        title: Its subject in a few words.
        caption: How to read it; names in backticks are code.
    """

    path: Path
    title: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table in a report.

    Args:
        title: The heading, which is left out where the table is the only one.
        cells: The cells, line by line, the heading first.
    """

    title: str
    cells: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Page:
    """The content of a report, whatever its format.

    Args:
        title: The heading.
        tables: In their order.
        explanation: How to read the tables; names in backticks are code.
        pictures: In their order.
        remarks: Notes on runs that were left out, and the like.
    """

    title: str
    tables: Sequence[Table]
    explanation: str
    pictures: Sequence[Picture]
    remarks: Sequence[str]


def as_markdown(page: Page) -> str:
    """Write a report as Markdown, which names its pictures by their files beside it.

    Args:
        page: The content.

    Example:
        >>> print(as_markdown(Page("Report", [Table("a", [["task", "a"], ["x", "1"]])], "Of `a`.", [], ["b"])))
        # Report
        <BLANKLINE>
        | task | a  |
        | :--- | :- |
        | x    | 1  |
        <BLANKLINE>
        Of `a`.
        <BLANKLINE>
        ## Remarks
        <BLANKLINE>
        - b
        <BLANKLINE>
    """
    parts = [f"# {page.title}"]
    for table in page.tables:
        parts += [f"## {table.title}"] * (len(page.tables) > 1) + [aligned(table.cells)]
    parts.append(page.explanation)
    for picture in page.pictures:
        parts += [f"![{picture.title}]({picture.path.name})", picture.caption]
    if page.remarks:
        parts += ["## Remarks", "\n".join(f"- {remark}" for remark in page.remarks)]
    return "\n\n".join(parts) + "\n"


def as_html(page: Page) -> str:
    """Write a report as HTML with the pictures in it: one file that can be sent or moved.

    Args:
        page: The content.

    Raises:
        OSError: If a picture cannot be read.

    Example:
        >>> table = Table("a", [["method", "task", "mean"], ["<b>", "x", "1"]])
        >>> page = Page("a < b", [table], "Of `a`.", [], [])
        >>> "<h1>a &lt; b</h1>" in as_html(page), '<td class="text">&lt;b&gt;</td>' in as_html(page)
        (True, True)
    """
    parts = [f"<h1>{html.escape(page.title)}</h1>"]
    for table in page.tables:
        parts += [f"<h2>{html.escape(table.title)}</h2>"] * (len(page.tables) > 1) + [_table(table.cells)]
    parts.append(f"<p>{_text(page.explanation)}</p>")
    parts += [_figure(picture) for picture in page.pictures]
    if page.remarks:
        items = "\n".join(f"<li>{html.escape(remark)}</li>" for remark in page.remarks)
        parts += ["<h2>Remarks</h2>", f"<ul>\n{items}\n</ul>"]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(page.title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n{body}\n</body>\n"
        "</html>\n"
    )


def _table(cells: Sequence[Sequence[str]]) -> str:
    heading, *lines = cells
    body = "\n".join(_line(line, "td") for line in lines)
    return f"<table>\n<thead>\n{_line(heading, 'th')}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _line(cells: Sequence[str], tag: str) -> str:
    kinds = [' class="text"' if index < TEXT_COLUMNS else "" for index in range(len(cells))]
    inner = "".join(f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
    return f"<tr>{inner}</tr>"


def _text(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _figure(picture: Picture) -> str:
    content = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    image = f'<img src="data:image/png;base64,{content}" alt="{html.escape(picture.title)}">'
    return f"<figure>\n{image}\n<figcaption>{_text(picture.caption)}</figcaption>\n</figure>"
