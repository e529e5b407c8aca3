"""Sphinx configuration: MyST pages, examples that run during the build, and the API from the docstrings."""

import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
# The pages describe the source beside them, whatever is installed.
sys.path.insert(0, str(DOCS / "_ext"))
sys.path.insert(0, str(DOCS.parent))

from lightning_advdrop import __version__  # noqa: E402

project = "lightning-advdrop"
author = "The lightning-advdrop developers"
project_copyright = "the lightning-advdrop developers"
release = __version__
version = __version__

extensions = [
    "mathml",  # of docs/_ext
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# Examples run in a copy, so that what they write is not among the sources.
EXAMPLES = DOCS / "_build" / "examples"
shutil.rmtree(EXAMPLES, ignore_errors=True)
shutil.copytree(DOCS / "examples", EXAMPLES, ignore=shutil.ignore_patterns("__pycache__"))
sphinx_gallery_conf = {
    "examples_dirs": str(EXAMPLES.relative_to(DOCS)),
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "gallery_order.Order",
    "abort_on_example_error": True,
    "reset_modules": ("matplotlib", "quiet.quiet"),
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "image_srcset": ["2x"],
}

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
html_static_path = ["_static"]
html_css_files = ["custom.css"]
