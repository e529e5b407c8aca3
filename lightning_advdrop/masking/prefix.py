"""Reuse what a forward computed before its first masked call, instead of computing it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_advdrop._torch import base_of, is_recomputed, version_of
from lightning_advdrop.masking.random_state import RandomState

TorchFunction = Callable[..., Any]


class PrefixMismatchError(BaseException):
    """A later run of a forward called other functions than the first, so that results can't be reused.

    It derives from `BaseException` since a forward may handle exceptions of its own.
    """


class _Call(NamedTuple):
    """A torch call: its function, the signature of its arguments, and its result."""

    function: TorchFunction
    signature: tuple[Any, ...]
    result: Any


class Prefix:
    """The torch calls of a forward pass before its first masked call, with their results.

    The first run appends calls until it is stopped. Later runs take the results, and append where an earlier run
    stopped. All runs share the graphs of the results.

    Only a call without side effects can be reused. The prefix ends before a call that returns nothing (such as
    switching gradients off), that writes to a tensor from outside the prefix (such as a buffer), or that runs under
    activation checkpointing, whose results must not be kept. Where results are views of a tensor that was written to,
    nothing is reused.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._results: set[int] = set()
        self._versions: list[tuple[Tensor, int | None]] = []
        self._random_state: RandomState | None = None
        self._complete = False

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def valid(self) -> bool:
        """Whether no result has been written to since the prefix was stopped."""
        return all(version_of(tensor) == version for tensor, version in self._versions)

    def append(self, function: TorchFunction, arguments: list[Any], result: Any) -> None:
        """Add a call that can be reused."""
        self._calls.append(_Call(function, self.signature(arguments), result))
        given = {id(tensor) for a in arguments if isinstance(a, Tensor) for tensor in (a, base_of(a))}
        for leaf in _tensors(result):
            if id(leaf) not in given:  # dropout(x, 0) and x.contiguous() return x itself
                self._results.add(id(leaf))
                base = base_of(leaf)
                if base is not None and id(base) not in given:
                    self._results.add(id(base))  # made by the call itself, as by a linear layer

    def signature(self, arguments: list[Any]) -> tuple[Any, ...]:
        """Return what must be the same to reuse a call: numbers, parameters and results of the prefix."""
        return tuple(
            id(argument)
            if isinstance(argument, nn.Parameter) or id(argument) in self._results
            else argument
            if argument is None or isinstance(argument, (bool, int, float, str, torch.dtype, torch.device))
            else type(argument)
            for argument in arguments
        )

    def owns(self, tensor: Tensor) -> bool:
        """Tell whether a tensor's memory was allocated by a call of the prefix."""
        base = base_of(tensor)
        return id(tensor) in self._results and (base is None or id(base) in self._results)

    def stop(self, *, complete: bool, random_state: RandomState | None = None) -> None:
        """End a run's part; if ``complete``, no run may append any more."""
        self._versions = [(tensor, version_of(tensor)) for tensor in self._tensors()]
        self._random_state = random_state or RandomState.now()
        self._complete = complete

    def stop_before_write(self, written: list[Tensor], random_state: RandomState | None) -> None:
        """End the prefix before a call that wrote to tensors from outside, and drop it if results are views of them."""
        memory = {_memory(tensor) for tensor in written}
        if any(_memory(tensor) in memory for tensor in self._tensors()):
            self._calls.clear()
            self._results.clear()
        self.stop(complete=True, random_state=random_state)

    def _tensors(self) -> list[Tensor]:
        return [tensor for call in self._calls for tensor in _tensors(call.result)]


class PrefixReader:
    """One run's position in a `Prefix`: it reuses calls up to the end, then appends unless the prefix is complete.

    Args:
        prefix: the calls of earlier runs.

    Attributes:
        mismatch: the error that was raised, for a forward that swallows it.
    """

    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix
        self.mismatch: PrefixMismatchError | None = None
        self._position = 0
        self._open = len(prefix) > 0 or not prefix._complete

    def call(self, function: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of a torch call, from the prefix or computed.

        Raises:
            PrefixMismatchError: if an earlier run called something else at this position.
        """
        if not self._open:
            return function(*args, **kwargs)
        arguments = list(flat_arguments(args, kwargs))
        if self._position < len(self._prefix):
            return self._hand_back(function, arguments)
        return self._compute(function, args, kwargs, arguments)

    def stop(self, *, complete: bool) -> None:
        """End the run's part of the prefix, at its first site or masked call.

        Raises:
            PrefixMismatchError: if an earlier run went further, so that the random state at this point is not known.
        """
        if self._open:
            self._open = False
            if 0 < self._position < len(self._prefix):
                self._refuse("A mask acts before the end of what an earlier run left.")
            if not self._prefix._complete:
                self._prefix.stop(complete=complete)

    def _refuse(self, why: str) -> None:
        self.mismatch = PrefixMismatchError(why)
        raise self.mismatch

    def _hand_back(self, function: TorchFunction, arguments: list[Any]) -> Any:
        prefix = self._prefix
        call = prefix._calls[self._position]
        # Property getters are new objects at every look, equal but not the same.
        if call.function != function or call.signature != prefix.signature(arguments):
            self._refuse(f"{call.function} was called first, then {function}, or with other arguments.")
        self._position += 1
        if self._position == len(prefix):
            if prefix._random_state is not None:
                prefix._random_state.restore()
            self._open = not prefix._complete
        return call.result

    def _compute(
        self, function: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any], arguments: list[Any]
    ) -> Any:
        prefix = self._prefix
        if is_recomputed():
            self.stop(complete=True)
            return function(*args, **kwargs)
        versions = [(a, version_of(a)) for a in arguments if isinstance(a, Tensor)]
        before = RandomState.now() if kwargs.get("inplace") or _writes_in_place(function) else None
        result = function(*args, **kwargs)
        written = [tensor for tensor, version in versions if version_of(tensor) != version]
        if result is not None:  # else it would be made again, and write to the same results in each run
            written = [tensor for tensor in written if not prefix.owns(tensor)]
        if result is None or written:
            self._open = False
            prefix.stop_before_write(written, before)
        else:
            prefix.append(function, arguments, result)
            self._position += 1
        return result


def flat_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """Yield the arguments of a call, with the members of lists, tuples, dictionaries and slices one by one."""
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, (list, tuple)):
            yield from flat_arguments(tuple(argument), {})
        elif isinstance(argument, dict):
            yield from flat_arguments((), argument)
        elif isinstance(argument, slice):
            yield from (argument.start, argument.stop, argument.step)
        else:
            yield argument


def _tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in flat_arguments((result,), {}) if isinstance(leaf, Tensor)]


def _writes_in_place(function: TorchFunction) -> bool:
    """Tell by torch's naming convention whether a function writes to its arguments."""
    name = getattr(function, "__name__", "")
    return name.endswith("_") and not name.endswith("__")


def _memory(tensor: Tensor) -> int:
    """Identify a tensor's memory; a sparse tensor is never a view, and is identified by itself."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)
