"""Tables in a page of the documentation, written by the program that measures them."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def write_between(page: Path, name: str, text: str) -> None:
    """Put a text between two markers of a page, such as ``<!-- price: begin -->`` and ``<!-- price: end -->``.

    Args:
        page: the page.
        name: that of the markers.
        text: what replaces all between them.

    Raises:
        ValueError: if it has no such markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, first, rest = page.read_text(encoding="utf-8").partition(begin)
    _, second, after = rest.partition(end)
    if not (first and second):
        raise ValueError(f"{page.name} must have the lines {begin!r} and {end!r}, got none; put them around the place.")
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")
