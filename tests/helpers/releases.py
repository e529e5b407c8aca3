"""What differs between the releases of Lightning that the tests run with, and errors that name a release of torch."""

from __future__ import annotations

import importlib
from typing import Any

import lightning
import lightning.pytorch.callbacks
import pytest
import torch

from tests.helpers.messages import refused

LIGHTNING = tuple(int(part) for part in lightning.__version__.split(".")[:2])
#: Argument of ``fit``, ``test`` and ``load_from_checkpoint`` that lets them read weights and plain types only.
SAFE: dict[str, Any] = {"weights_only": True} if LIGHTNING >= (2, 6) else {}
#: Lightning's own average of weights; None before 2.6.
EMAWeightAveraging: Any = getattr(lightning.pytorch.callbacks, "EMAWeightAveraging", None)
#: Lightning under both of its names.
each_package = pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])


def since(major: int, minor: int, why: str) -> pytest.MarkDecorator:
    """Skips a test before a release of Lightning."""
    return pytest.mark.skipif((major, minor) > LIGHTNING, reason=f"needs Lightning {major}.{minor}: {why}")


def release_refused(*parts: str) -> Any:
    """An error that names the release, these parts, and the first release that was tried."""
    return refused(f"torch {torch.__version__}", *parts, "torch 2.6", error=RuntimeError)


def plain_trainer(package: str = "lightning.pytorch", **arguments: Any) -> Any:
    """A trainer of one of them that keeps nothing."""
    return importlib.import_module(package).Trainer(
        logger=False, enable_checkpointing=False, accelerator="cpu", **arguments
    )
