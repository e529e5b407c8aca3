"""Check the settings of tasks."""

from lightning_advdrop._ranges import check_range

__all__ = ["check_range"]
