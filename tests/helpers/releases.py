"""What differs between the releases of Lightning that the tests run with."""

from __future__ import annotations

from typing import Any

import lightning
import lightning.pytorch.callbacks
import pytest

LIGHTNING = tuple(int(part) for part in lightning.__version__.split(".")[:2])
#: Argument of ``fit``, ``test`` and ``load_from_checkpoint`` that lets them read weights and plain types only.
SAFE: dict[str, Any] = {"weights_only": True} if LIGHTNING >= (2, 6) else {}
#: Lightning's own average of weights; None before 2.6.
EMAWeightAveraging: Any = getattr(lightning.pytorch.callbacks, "EMAWeightAveraging", None)


def since(major: int, minor: int, why: str) -> pytest.MarkDecorator:
    """Skips a test before a release of Lightning."""
    return pytest.mark.skipif((major, minor) > LIGHTNING, reason=f"needs Lightning {major}.{minor}: {why}")
