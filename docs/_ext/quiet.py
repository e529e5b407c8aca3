"""Examples print their own results, and not what Lightning says of the machine that builds the pages."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning.pytorch  # noqa: F401 - sets the levels of its loggers


def quiet(gallery_conf: dict[str, Any], example: str) -> None:  # noqa: ARG001 - the signature is the gallery's
    """Silence Lightning's notes and warnings of what the reader of a page can't change, before each example."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 uses a name of torch's that is to be renamed.
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LightningCLI's args parameter.*")
