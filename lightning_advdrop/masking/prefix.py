"""Handing back what was computed before the first mask acted, instead of computing it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from lightning_advdrop.masking.random_state import RandomState

TorchFunction = Callable[..., Any]


class PrefixMismatchError(RuntimeError):
    """A forward took another way in its second run, so that results of the first can't be handed back."""


class Prefix:
    """The torch calls of a forward pass before its first masked call, with their results.

    The first run of the forward appends to it until `stop`; later runs take the results from it and go on appending
    where an earlier run stopped. The graphs of the results are shared by all runs.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[TorchFunction, Any]] = []
        self._versions: list[tuple[Tensor, int]] = []
        self._random_state: RandomState | None = None
        self._complete = False

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def valid(self) -> bool:
        """Whether no result has been written to since."""
        return all(tensor._version == version for tensor, version in self._versions)

    def stop(self, *, complete: bool) -> None:
        """Ends a run's part. ``complete``: the next call depends on a mask, nothing may be appended any more."""
        tensors = [leaf for _, result in self._calls for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self._versions = [(tensor, tensor._version) for tensor in tensors if not tensor.is_inference()]
        self._random_state = RandomState.now()
        self._complete = complete

    def reader(self) -> PrefixReader:
        """Begins another run."""
        return PrefixReader(self)


class PrefixReader:
    """One run's place in a `Prefix`: first it hands back, then, unless the prefix is complete, it appends."""

    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix
        self._position = 0
        self._open = True

    def call(self, function: TorchFunction, compute: Callable[[], Any]) -> Any:
        """The result of a torch call, taken from the prefix or computed.

        Raises:
            PrefixMismatchError: if the run before called another function at this place.
        """
        prefix = self._prefix
        if not self._open:
            return compute()
        if self._position < len(prefix):
            recorded, result = prefix._calls[self._position]
            # Property getters are new objects at every look, equal but not the same.
            if recorded != function:
                raise PrefixMismatchError(f"{recorded} was called first, then {function}.")
            self._position += 1
            if self._position == len(prefix):
                self._reached_the_end()
            return result
        result = compute()
        prefix._calls.append((function, result))
        self._position += 1
        return result

    def stop(self, *, complete: bool) -> None:
        """Called where the run's first site or masked call begins; from here on everything is computed."""
        if self._open:
            self._open = False
            if not self._prefix._complete:
                self._prefix.stop(complete=complete)

    def _reached_the_end(self) -> None:
        if self._prefix._random_state is not None:
            self._prefix._random_state.restore()
        self._open = not self._prefix._complete
