"""The position of a loader in an epoch, for runs that are stopped and resumed within it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class EpochPosition:
    """Which batch of which epoch a loader is at, and with which one it begins after a run was resumed.

    Args:
        settings: What the batches of an epoch depend on, by name, in plain types; a resumed run must have the same.
        used_batches: Returns the number of batches used in this epoch, for trainers that fetch batches ahead or fail in
            a step; ``None`` to count those drawn.

    Example:
        >>> position = EpochPosition({"columns": 4})
        >>> position.begin(epoch=1)
        0
        >>> position.draw(batches=3)
        >>> resumed = EpochPosition({"columns": 4})
        >>> resumed.load_state_dict(position.state_dict(epoch=1))
        >>> resumed.begin(epoch=1), resumed.begin(epoch=2)
        (3, 0)
    """

    def __init__(self, settings: Mapping[str, Any], used_batches: Callable[[], int] | None = None) -> None:
        self._settings = dict(settings)
        self._used_batches = used_batches
        self._loaded: tuple[int, int] | None = None  # an epoch, and the batch with which it begins
        self._drawn = 0, 0  # the epoch of the latest pass, and its batches so far

    def begin(self, epoch: int) -> int:
        """Begin a pass; return the number of its first batch, which is 0 unless a run is resumed in this epoch."""
        first, self._loaded = self._first(epoch), None
        self._drawn = epoch, first
        return first

    def draw(self, batches: int) -> None:
        """Note how many batches of this pass have been drawn, those before its first one included."""
        self._drawn = self._drawn[0], batches

    def state_dict(self, epoch: int) -> dict[str, Any]:
        """Return the epoch, the number of batches used in it, and the settings that they depend on."""
        if self._loaded is not None or self._drawn[0] != epoch:  # no batch of this pass has been drawn yet
            used = self._first(epoch)
        else:
            used = self._drawn[1] if self._used_batches is None else self._used_batches()
        return {"epoch": epoch, "batch": used, **self._settings}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue after the batches that had been used when the state was saved.

        Raises:
            ValueError: If a setting differs; it names the setting.
        """
        for name, value in self._settings.items():
            if state_dict.get(name, value) != value:  # earlier releases had fewer settings
                raise ValueError(
                    f"{name} must be {state_dict[name]!r} to go on in the middle of the epoch that the checkpoint was"
                    f" saved in, got {value!r}"
                )
        self._loaded = state_dict["epoch"], state_dict["batch"]

    def _first(self, epoch: int) -> int:
        return self._loaded[1] if self._loaded is not None and self._loaded[0] == epoch else 0
