"""Packages that only some parts of this package need, and what to do when one is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "cli": ("wandb", "jsonargparse"),
    "text": ("torchtext",),
    "data": ("pooch", "requests", "platformdirs"),
    "report": ("matplotlib", "scipy", "PIL"),
    "tune": ("optuna", "sqlalchemy"),
    "examples": ("sklearn",),
}
"""The extras of this package, with the modules that each of them brings."""


class MissingExtraError(ModuleNotFoundError):
    """A part of this package was used whose extra is not installed."""


@contextmanager
def needed(by: str) -> Iterator[None]:
    """Name the extra that brings a module, if importing it in the context fails because it is not installed.

    Args:
        by: what needs the module, as the beginning of a sentence.

    Raises:
        MissingExtraError: if a module of `EXTRAS` is missing; another missing module raises what it always does.

    Example:
        >>> with needed("Drawing figures"):
        ...     raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib.figure")
        Traceback (most recent call last):
        ...
        lightning_advdrop._extras.MissingExtraError: Drawing figures needs matplotlib, which is not installed; run \
`pip install 'lightning-advdrop[report]'`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = next((name for name, modules in EXTRAS.items() if module in modules), None)
        if extra is None:
            raise
        raise MissingExtraError(
            f"{by} needs {module}, which is not installed; run `pip install 'lightning-advdrop[{extra}]'`.", name=module
        ) from None
