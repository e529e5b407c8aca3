"""The README is short, its Python runs, and the pages, pictures and targets that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_docs import blocks, run_blocks

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
PAGES_WITH_LINKS = (README, ROOT / "CONTRIBUTING.md")


def test_it_can_be_read_in_five_minutes() -> None:
    assert len(TEXT.splitlines()) <= 120


def test_it_begins_with_a_picture() -> None:
    title, picture, *_ = (line for line in TEXT.splitlines() if line)
    assert title.startswith("# ")
    assert re.fullmatch(r"!\[.+\]\(docs/images/\w+\.png\)", picture)


def test_the_python_runs() -> None:
    assert blocks(README, "python")
    run_blocks(README)


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name for page in PAGES_WITH_LINKS for name in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8"))
    }
    assert {"test", "demo"} <= named <= targets


def test_links_lead_to_files() -> None:
    for page in PAGES_WITH_LINKS:
        targets = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        files = [target for target in targets if not target.startswith("https://")]
        assert files
        assert not [target for target in files if not (ROOT / target).exists()]


def test_pictures_are_small() -> None:
    pictures = [*(ROOT / "docs" / "images").iterdir()]
    assert pictures
    assert not [path.name for path in pictures if path.stat().st_size >= 150_000]
