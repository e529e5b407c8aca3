"""Find the parameters that a forward writes to, such as a momentum encoder's or a centre."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from lightning_advdrop._torch import version_of
from lightning_advdrop.masking.tensor_copies import same_bits

# In so many passes of a module, in training and in evaluation, all parameters are compared with a copy.
_COMPARED = 3
# In later passes so many numbers of each parameter are, beside its version: writing to ``.data`` has no version.
_NUMBERS = 16


# The parameters that some forward writes to, and what takes their place in a pass.
_WRITTEN = WeakIdKeyDictionary()
# The number of passes of each module, of each kind, in training and in evaluation.
_PASSES: WeakKeyDictionary[nn.Module, dict[tuple[bool, str], int]] = WeakKeyDictionary()


class ParameterWrites:
    """Parameters before a pass, to find those that it writes to.

    The first passes compare each parameter with a copy. Those that were found are copied before each later pass. Of the
    others a later pass compares the version and a few numbers.

    Args:
        module: the module whose forward runs.
        parameters: its parameters, and what acts for them.
        kind: what runs.
        number: the number of the pass; None for the next one of its kind.
    """

    def __init__(
        self, module: nn.Module, parameters: Iterable[Tensor], kind: str = "forward", number: int | None = None
    ) -> None:
        self._module = module
        self._parameters = [each for each in parameters if not is_lazy(each) and each.device.type != "meta"]
        self._kind, self._number = kind, _next_number(module, kind) if number is None else number
        self._written = [each for each in self._parameters if each in _WRITTEN]
        written = set(map(id, self._written))
        self._unwritten = [each for each in self._parameters if id(each) not in written]
        compared = self._number < _COMPARED
        self._copies = {id(each): each.detach().clone() for each in (self._parameters if compared else self._written)}
        self._found: list[Tensor] = []
        self._marks = None if compared else _Marks(self._unwritten)

    def again(self) -> ParameterWrites:
        """Return the same for the present moment of the same pass."""
        return ParameterWrites(self._module, self._parameters, self._kind, self._number)

    def stand_ins(self) -> list[tuple[Tensor, Tensor]]:
        """Make what takes the place of each parameter that forward writes to, with its content before the pass.

        Returns:
            Pairs of a stand-in, whose gradient goes to the parameter, and the parameter.
        """
        found = [(_in_place_of(each, self._copies[id(each)]), each) for each in [*self._written, *self._found]]
        for stand_in, _ in found:
            _WRITTEN[stand_in] = True
        return found

    def find(self) -> list[Tensor]:
        """Find the parameters that were written to since, and know them from now on.

        Raises:
            ValueError: if the content before is not known, since no earlier pass wrote to the parameter.
        """
        found = self._changed()
        late = [each for each in found if id(each) not in self._copies]
        if late:
            raise ValueError(
                f"module: {self._kind} must write to the same parameters from the first pass on, got "
                f"{self._named(late)}, not written to in the first {_COMPARED}; write to it elsewhere, as in "
                "on_train_batch_end, or register it as a buffer, which is restored in any case."
            )
        for each in found:
            _WRITTEN[each] = True
        self._found = found
        return found

    def undo(self) -> None:
        """Restore the parameters that were written to.

        Raises:
            ValueError: as told by `find`.
        """
        with torch.no_grad():
            for parameter in self.find():
                parameter.copy_(self._copies[id(parameter)])

    def _changed(self) -> list[Tensor]:
        """Return the parameters that differ, without those that were known already."""
        if self._marks is not None:
            return self._marks.changed()
        return [each for each in self._unwritten if not same_bits(each.detach(), self._copies[id(each)])]

    def _named(self, parameters: Sequence[Tensor]) -> str:
        names = {id(parameter): name for name, parameter in self._module.named_parameters()}
        return ", ".join(names.get(id(each), "a parameter") for each in parameters)


class _Marks:
    """The versions of parameters, where their memory is, and a few numbers of each."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._places = [_place(each) for each in parameters]
        self._numbers = _numbers(parameters)

    def changed(self) -> list[Tensor]:
        """Return the parameters that were written to since."""
        moved = [each for each, place in zip(self._parameters, self._places, strict=True) if _place(each) != place]
        if moved:
            return moved
        now = _numbers(self._parameters)
        if all(same_bits(now[kind], before) for kind, before in self._numbers.items()):
            return []
        # Rare, so that it may take time to find which one it was.
        return [
            each
            for each, before in zip(self._parameters, self._each(), strict=True)
            if not same_bits(_few(each), before)
        ]

    def _each(self) -> list[Tensor]:
        """Return the numbers of each parameter."""
        start: dict[object, int] = {}
        found = []
        for each in self._parameters:
            kind, count = _kind(each), len(_few(each))
            begin = start.get(kind, 0)
            start[kind] = begin + count
            found.append(self._numbers[kind][begin : begin + count])
        return found


def _place(parameter: Tensor) -> tuple[int | None, int]:
    return version_of(parameter), parameter.data_ptr() if parameter.layout is torch.strided else 0


def _kind(tensor: Tensor) -> tuple[torch.device, torch.dtype]:
    return tensor.device, tensor.dtype


def _few(parameter: Tensor) -> Tensor:
    """Return a view of a few numbers, evenly apart; of none where a tensor has gaps."""
    if parameter.layout is not torch.strided or not parameter.is_contiguous():
        return parameter.detach().new_empty(0)
    return parameter.detach().view(-1)[:: max(1, parameter.numel() // _NUMBERS)]


def _numbers(parameters: Sequence[Tensor]) -> dict[tuple[torch.device, torch.dtype], Tensor]:
    """Copy a few numbers of each parameter, in one tensor for each device and type."""
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for each in parameters:
        groups.setdefault(_kind(each), []).append(_few(each))
    return {kind: torch.cat(few) for kind, few in groups.items()}


def _next_number(module: nn.Module, kind: str) -> int:
    passes = _PASSES.setdefault(module, {})
    number = passes.get((module.training, kind), 0)
    passes[module.training, kind] = number + 1
    return number


def _in_place_of(parameter: Tensor, content: Tensor) -> Tensor:
    """Return a tensor of another content that takes a parameter's place in a pass, and hands it its gradient.

    Writing to it leaves the parameter alone, and the graphs that have saved that.
    """
    if not parameter.requires_grad:
        return nn.Parameter(content.clone(), requires_grad=False)
    with torch.enable_grad():
        stand_in = parameter.clone()
    with torch.no_grad():
        stand_in.copy_(content)
    return stand_in
