"""Formulas as MathML, which browsers draw themselves: pages need neither a script nor the network."""

from __future__ import annotations

import re
from typing import Literal

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator


def to_mathml(formula: str, display: Literal["inline", "block"] = "inline") -> str:
    """Convert a formula, with ordinary delimiters in place of large ones, which some fonts draw much too large."""
    return convert(re.sub(r"\\big[lr]", "", formula), display=display)


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(to_mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula in a paragraph of its own, which scrolls where it is wider than the page."""
    formula = to_mathml(node.astext(), "block")
    translator.body.append(f'<div class="formula" tabindex="0">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
