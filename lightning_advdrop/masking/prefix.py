"""Reuse what a forward computed before its first masked call, instead of computing it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightning_advdrop._torch import in_transform, is_recomputed, is_wrapped, version_of
from lightning_advdrop._torch_calls import unseen_by_modes
from lightning_advdrop.masking.left_out import ATOMS
from lightning_advdrop.masking.random_state import RandomState
from lightning_advdrop.masking.tensor_copies import same_bits

TorchFunction = Callable[..., Any]

# Functions that give away a tensor's memory, where what is written to it has no version: to NumPy, to an alias.
_DATA: Any = Tensor.data
_ESCAPES: frozenset[Any] = frozenset(
    {
        *(Tensor.numpy, Tensor.__array__, Tensor.data_ptr, Tensor.untyped_storage, Tensor.storage, Tensor.__dlpack__),
        *(_DATA.__get__, _DATA.__set__, Tensor.set_, Tensor.share_memory_),
    }
)
# A call with such an argument is made anew in each run, since it draws from the generator, or shares the memory.
_ANEW = (torch.Generator, np.ndarray)


class PrefixMismatchError(BaseException):
    """A later run of a forward called other functions than the first, so that results can't be reused.

    It derives from `BaseException` since a forward may handle exceptions of its own.
    """


class _Call(NamedTuple):
    """A torch call: its function, the signature of its arguments, and its result.

    What shares memory with others from outside the prefix has no result: it is called anew in each run.
    """

    function: TorchFunction
    signature: tuple[Any, ...]
    result: Any
    anew: bool


class Prefix:
    """The torch calls of a forward pass before its first masked call, with their results.

    The first run appends calls until it is stopped. Later runs take the results, and append where an earlier run
    stopped. All runs share the graphs of the results.

    Only a call without side effects can be reused. The prefix ends before a call that returns nothing (such as
    switching gradients off), that writes to a tensor from outside the prefix (such as a buffer), that takes or returns
    other objects than tensors, arrays, generators and plain values, or that runs under activation checkpointing or a
    transform such as `torch.vmap`, whose results must not be kept. Views of tensors from outside are made anew in each
    run. Nothing is reused once a result has been written to, also through memory that was given away, as by
    ``Tensor.numpy()``, or could have been inside a transform.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._results: set[int] = set()
        self._memory: set[int] = set()
        self._versions: list[tuple[Tensor, int | None]] = []
        self._given_away: list[tuple[Tensor, Tensor]] = []
        self._untraced = False
        self._random_state: RandomState | None = None
        self._complete = False

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def valid(self) -> bool:
        """Tell whether no result has been written to since the prefix was stopped, as far as that can be told."""
        return (
            not self._untraced
            and all(version_of(tensor) == version for tensor, version in self._versions)
            and all(same_bits(tensor.detach(), content) for tensor, content in self._given_away)
        )

    def append(self, function: TorchFunction, arguments: list[Any], result: Any) -> None:
        """Add a call that can be reused."""
        signature = self.signature(arguments)
        outside = {memory_of(argument) for argument in arguments if isinstance(argument, Tensor)} - self._memory
        found = _tensors(result)
        anew = function in _ESCAPES or any(isinstance(argument, _ANEW) for argument in arguments)
        anew = anew or any(memory_of(tensor) in outside for tensor in found)
        self._calls.append(_Call(function, signature, None if anew else apart(result), anew))
        if not anew:
            self._results.update(map(id, found))
            self._memory.update(map(memory_of, found))

    def signature(self, arguments: list[Any]) -> tuple[Any, ...]:
        """Return what must be the same to reuse a call: numbers, parameters and results of the prefix."""
        return tuple(
            id(argument)
            if isinstance(argument, nn.Parameter) or id(argument) in self._results
            else argument
            if type(argument) in ATOMS
            else type(argument)
            for argument in arguments
        )

    def owns(self, tensor: Tensor) -> bool:
        """Tell whether a tensor's memory was allocated by a call of the prefix."""
        return memory_of(tensor) in self._memory

    def give_away(self, arguments: list[Any]) -> None:
        """Keep the content of results whose memory can be written to from now on without being noticed."""
        if in_transform():  # which wraps results, and copies of them
            self._untraced = True
            return
        for tensor in arguments:
            if isinstance(tensor, Tensor) and self.owns(tensor):
                self._given_away.append((tensor, tensor.detach().clone()))

    def stop(self, *, complete: bool, random_state: RandomState | None = None) -> None:
        """End a run's part; if ``complete``, no run may append any more."""
        self._versions = [(tensor, version_of(tensor)) for tensor in self.results]
        self._random_state = random_state or RandomState.now()
        self._complete = complete

    def stop_before_write(self, written: list[Tensor], random_state: RandomState | None) -> None:
        """End the prefix before a call that wrote to tensors, and drop it if these are results."""
        if any(self.owns(tensor) for tensor in written):
            self._calls.clear()
            self._results.clear()
            self._memory.clear()
        self.stop(complete=True, random_state=random_state)

    @property
    def results(self) -> list[Tensor]:
        """The tensors that are handed back to further runs."""
        return [tensor for call in self._calls for tensor in _tensors(call.result)]


class PrefixReader:
    """One run's position in a `Prefix`: it reuses calls up to the end, then appends unless the prefix is complete.

    Args:
        prefix: the calls of earlier runs; None for a run of which nothing is reused, so that nothing is kept.

    Attributes:
        mismatch: the error that was raised, for a forward that swallows it.
    """

    def __init__(self, prefix: Prefix | None) -> None:
        self._prefix = Prefix() if prefix is None else prefix
        self.mismatch: PrefixMismatchError | None = None
        self._position = 0
        self._open = prefix is not None and (len(prefix) > 0 or not prefix._complete)

    def call(self, function: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of a torch call, from the prefix or computed.

        Raises:
            PrefixMismatchError: if an earlier run called something else at this position.
        """
        if not self._open and function not in _ESCAPES:
            return function(*args, **kwargs)
        arguments = list(flat_arguments(args, kwargs))
        if function in _ESCAPES:
            with unseen_by_modes():
                self._prefix.give_away(arguments)
        if not self._open:
            return function(*args, **kwargs)
        if self._position < len(self._prefix):
            return self._hand_back(function, args, kwargs, arguments)
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

    def _hand_back(
        self, function: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any], arguments: list[Any]
    ) -> Any:
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
        return function(*args, **kwargs) if call.anew else apart(call.result)

    def _compute(
        self, function: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any], arguments: list[Any]
    ) -> Any:
        prefix = self._prefix
        if is_recomputed() or in_transform() or not all(map(_is_plain, arguments)):
            self.stop(complete=True)
            return function(*args, **kwargs)
        versions = [(a, version_of(a)) for a in arguments if isinstance(a, Tensor)]
        before = RandomState.now() if kwargs.get("inplace") or _writes_in_place(function) else None
        result = function(*args, **kwargs)
        written = [tensor for tensor, version in versions if version_of(tensor) != version]
        if result is not None:  # else it would be made again, and write to the same results in each run
            written = [tensor for tensor in written if not prefix.owns(tensor)]
        plain = all(map(_is_plain, flat_arguments((result,), {}))) or function in _ESCAPES
        if result is None or written or not plain:
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


def apart(result: Any) -> Any:
    """Copy the lists and dictionaries of a result, which a forward may change, and nothing else."""
    if type(result) is list:
        return [apart(member) for member in result]
    if type(result) is dict:
        return {name: apart(member) for name, member in result.items()}
    return result


def _is_plain(value: Any) -> bool:
    """Tell whether a value has no state that a call may change, but for that of tensors with memory of their own."""
    if isinstance(value, Tensor):
        return not is_wrapped(value)
    plain = (np.generic, FunctionType, BuiltinFunctionType, type, *_ANEW)
    return isinstance(value, plain) or type(value) in ATOMS


def _writes_in_place(function: TorchFunction) -> bool:
    """Tell by torch's naming convention whether a function writes to its arguments."""
    name = getattr(function, "__name__", "")
    return name.endswith("_") and not name.endswith("__")


def memory_of(tensor: Tensor) -> int:
    """Identify a tensor's memory; a sparse tensor is never a view, and is identified by itself.

    Args:
        tensor: any tensor.
    """
    with unseen_by_modes():
        return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)
