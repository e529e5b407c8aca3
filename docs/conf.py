"""Sphinx configuration: MyST pages, the API from the docstrings."""

import sys
from pathlib import Path

# The pages describe the source beside them, whatever is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lightning_advdrop import __version__

project = "lightning-advdrop"
author = "The lightning-advdrop developers"
project_copyright = "the lightning-advdrop developers"
release = __version__
version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Names in single backticks in docstrings are references where there is something to refer to.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# Docstrings of torch and Lightning follow other conventions, and link to pages that are not built here.
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"lightning-advdrop {release}"
html_show_sourcelink = False
