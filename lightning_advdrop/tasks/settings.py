"""What is allowed for the settings of language modelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_settings(settings: Mapping[str, Any]) -> None:
    """Checks the settings of `LanguageModelingTask` that its model does not check itself.

    Args:
        settings: all of them by name.

    Raises:
        ValueError: if one is outside what is allowed.
    """
    for name in ("learning_rate", "clip_norm"):
        if settings[name] is not None and settings[name] <= 0:
            raise ValueError(f"{name} must be above 0, got {settings[name]}.")
    for name in ("weight_decay", "decay_after", "alpha", "beta"):
        if settings[name] < 0:
            raise ValueError(f"{name} must be at least 0, got {settings[name]}.")
    for name in ("vocabulary_size", "reference_length"):
        if settings[name] is not None and settings[name] < 1:
            raise ValueError(f"{name} must be at least 1 or None, got {settings[name]}.")
    if not 0 < settings["rate_decay"] <= 1:
        raise ValueError(f"rate_decay must be in (0, 1], got {settings['rate_decay']}.")
