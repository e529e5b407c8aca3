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
# In later passes so many numbers of each parameter are, beside its place: writing to ``.data`` changes only these.
_NUMBERS = 16
_Kind = tuple[torch.device, torch.dtype]

# The parameters that some forward writes to, and what takes their place in a pass.
_WRITTEN = WeakIdKeyDictionary()
# The number of passes of each module, of each kind, in training and in evaluation.
_PASSES: WeakKeyDictionary[nn.Module, dict[tuple[bool, str], int]] = WeakKeyDictionary()


class ParameterWrites:
    """Parameters before a pass, to find those that it writes to.

    The first passes compare each parameter with a copy. Those that were found are copied before each later pass. Of the
    others a later pass compares a few numbers. A parameter that was written to, or got other memory, and holds what it
    held counts as well: a forward that clips its weights need not change any, and other passes must write elsewhere.

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
        self._places = [_place(each) for each in self._unwritten]
        self._numbers = None if compared else _Numbers(self._unwritten)

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
        changed = self._changed()
        found = [*changed, *self._moved(changed)]
        late = [each for each in found if id(each) not in self._copies]
        unknown = [each for each in late if any(each is other for other in changed) or not _is_sampled(each)]
        if unknown:
            raise ValueError(
                f"module: {self._kind} must write to the same parameters from the first pass on, got "
                f"{self._named(unknown)}, not written to in the first {_COMPARED}; write to it elsewhere, as in "
                "on_train_batch_end, or register it as a buffer, which is restored in any case."
            )
        self._copies |= {id(each): each.detach().clone() for each in late}  # it holds what it held
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
                content = self._copies[id(parameter)]
                if not same_bits(parameter.detach(), content):  # graphs may have saved it as it is
                    parameter.copy_(content)

    def _changed(self) -> list[Tensor]:
        """Return the parameters that differ, without those that were known already."""
        if self._numbers is not None:
            return self._numbers.changed()
        return [each for each in self._unwritten if not same_bits(each.detach(), self._copies[id(each)])]

    def _moved(self, changed: Sequence[Tensor]) -> list[Tensor]:
        """Return the parameters that were written to, or have other memory, beside those that differ."""
        differ = set(map(id, changed))
        placed = zip(self._unwritten, self._places, strict=True)
        return [each for each, place in placed if _place(each) != place and id(each) not in differ]

    def _named(self, parameters: Sequence[Tensor]) -> str:
        names = {id(parameter): name for name, parameter in self._module.named_parameters()}
        return ", ".join(names.get(id(each), "a parameter") for each in parameters)


class _Numbers:
    """A few numbers of each parameter."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        few = [_few(each) for each in parameters]
        self._kinds, self._counts = [_kind(each) for each in few], [each.numel() for each in few]
        self._numbers = _joined(few, self._kinds)

    def changed(self) -> list[Tensor]:
        """Return the parameters that hold others now."""
        few = [_few(each) for each in self._parameters]
        now = _joined(few, map(_kind, few))
        if now.keys() == self._numbers.keys() and all(same_bits(now[kind], self._numbers[kind]) for kind in now):
            return []
        # Rare, so that it may take time to find which one it was.
        each = zip(self._parameters, few, self._each(), strict=True)
        return [parameter for parameter, numbers, before in each if not same_bits(numbers, before)]

    def _each(self) -> list[Tensor]:
        """Return the numbers of each parameter."""
        start: dict[object, int] = {}
        found = []
        for kind, count in zip(self._kinds, self._counts, strict=True):
            begin = start.get(kind, 0)
            start[kind] = begin + count
            found.append(self._numbers[kind][begin : begin + count])
        return found


def _place(parameter: Tensor) -> tuple[int | None, int]:
    """Return what differs once a parameter was written to in place or got other memory; ``.data`` hides the first."""
    return version_of(parameter), parameter.data_ptr() if parameter.layout is torch.strided else 0


def _kind(tensor: Tensor) -> _Kind:
    return tensor.device, tensor.dtype


def _is_sampled(parameter: Tensor) -> bool:
    """Tell whether a few numbers of a parameter are compared: not of one with gaps."""
    return parameter.layout is torch.strided and parameter.is_contiguous()


def _few(parameter: Tensor) -> Tensor:
    """Return a view of a few numbers, evenly apart; of none where a tensor has gaps."""
    if not _is_sampled(parameter):
        return parameter.detach().new_empty(0)
    return parameter.detach().view(-1)[:: max(1, parameter.numel() // _NUMBERS)]


def _joined(few: Sequence[Tensor], kinds: Iterable[_Kind]) -> dict[_Kind, Tensor]:
    """Copy a few numbers of each parameter to one tensor for each device and type."""
    groups: dict[_Kind, list[Tensor]] = {}
    for each, kind in zip(few, kinds, strict=True):
        groups.setdefault(kind, []).append(each)
    return {kind: torch.cat(numbers) for kind, numbers in groups.items()}


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
