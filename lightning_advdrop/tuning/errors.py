"""Errors of tuning."""

from __future__ import annotations


class TuneError(ValueError):
    """Raised if an argument of the search is wrong, so that no run could succeed."""


class RunFailedError(RuntimeError):
    """Raised in the place of what ended one run; the search records it and goes on."""
