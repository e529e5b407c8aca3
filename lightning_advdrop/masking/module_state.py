"""Restore what a module and the arguments of its forward hold around another run of that forward."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from lightning_advdrop._torch import hooks_of, parameters_of
from lightning_advdrop._torch_calls import unseen_by_modes
from lightning_advdrop.masking.facets import Globals
from lightning_advdrop.masking.growing_lists import GrowingLists
from lightning_advdrop.masking.left_out import ATOMS
from lightning_advdrop.masking.names import name_of
from lightning_advdrop.masking.object_parts import facets_of, facets_of_type, is_numbers, is_special
from lightning_advdrop.masking.own_generators import DrawsNumbers
from lightning_advdrop.masking.parameter_writes import ParameterWrites
from lightning_advdrop.masking.rebuilding import made_anew, ran_on
from lightning_advdrop.masking.tensor_copies import copies_of

_Swaps = dict[int, Any]


def _function_of(called: Any) -> Any:
    """Return the function behind partial calls and methods."""
    while isinstance(called, functools.partial):
        called = called.func
    return getattr(called, "__func__", called)


class _Entry(NamedTuple):
    """The content of one facet of an object."""

    holder: Any
    facet: Any
    keys: Any
    values: Sequence[Any]

    def fill(self, swaps: _Swaps) -> None:
        values = [swaps.get(id(value), value) for value in self.values] if swaps else self.values
        self.facet.fill(self.holder, self.keys, values)


class _Record:
    """The contents, at one time, of the objects that can be reached from some roots.

    Args:
        roots: where to start.
        lists: those whose older members are not looked at.

    Attributes:
        entries: what each one held, for those that can be refilled.
        leaves: tensors without parameters, and arrays of numbers.
        parameters: the parameters, and other tensors that act for them, as in ``torch.func.functional_call``.
        made: what can't be refilled, but made anew.
    """

    def __init__(self, roots: Sequence[Any], lists: GrowingLists) -> None:
        self._lists = lists
        self.entries: list[_Entry] = []
        self.leaves: dict[int, Any] = {}
        self.parameters: dict[int, Tensor] = {}
        self.made: dict[int, _Entry] = {}
        self._seen: dict[int, Any] = {}
        self.reach(roots)

    def reach(self, roots: Sequence[Any]) -> None:
        """Record what can be reached from further roots."""
        waiting = list(roots)
        while waiting:
            holder = waiting.pop()
            if id(holder) not in self._seen:
                self._seen[id(holder)] = holder
                waiting.extend(self._look_into(holder))
        for name in self.parameters.keys() & self.leaves.keys():
            del self.leaves[name]

    @property
    def objects(self) -> list[Any]:
        """Return all objects that were reached."""
        return list(self._seen.values())

    def _look_into(self, holder: Any) -> list[Any]:
        """Record an object, and return those that it holds."""
        kind: Any = type(holder)
        if is_special(kind):
            self._look_at(holder)
        held: list[Any] = []
        for facet in facets_of(holder) if is_special(kind) else facets_of_type(kind):
            entry = _Entry(holder, facet, *facet.read(holder))
            if facet.refills:
                self.entries.append(entry)
            else:
                self.made[id(holder)] = entry
            values = entry.values[self._lists.settled(holder) :] if kind is list else entry.values
            held += [value for value in values if type(value) not in ATOMS]
        return held

    def _look_at(self, holder: Any) -> None:
        """Record a tensor or an array, or the parameters of a module."""
        if isinstance(holder, nn.Module):
            acting = {id(tensor): tensor for tensor in parameters_of(holder).values() if tensor is not None}
            self.parameters |= acting
            for hooks in hooks_of(holder):  # which there are, not what they refer to: they run in every pass
                self._seen[id(hooks)] = hooks
                self.entries += [_Entry(hooks, facet, *facet.read(hooks)) for facet in facets_of(hooks)]
        elif isinstance(holder, nn.Parameter):
            self.parameters[id(holder)] = holder
        elif isinstance(holder, Tensor) or is_numbers(holder):
            self.leaves[id(holder)] = holder

    def restore(self) -> None:
        """Make all objects hold again what they held."""
        for entry in self.entries:
            entry.fill({})


class ModuleState:
    """A snapshot of what a module holds: buffers, attributes, random generators, and what these hold in turn.

    A forward pass may write to these: running statistics, a carried hidden state, a queue, its own arguments. Run it
    again from the snapshot to get what the first run got, and keep the state as the first run left it. Python objects
    are refilled in place, so that each one stays itself for all that know it. In the place of tensors and arrays the
    module holds copies meanwhile, since graphs may have saved the originals. Parameters that forward writes to are
    found by comparing all parameters with a copy in the first passes of a module, and are restored, too.

    Left alone are the trainer, loggers, data sets, optimizers and the like, see `left_out`; and what is not reached
    from the module, such as global variables.

    Args:
        module: the module, with all its submodules.
        others: what else a forward may write to: the function that calls it, with all that it refers to.
        kind: what runs, ``forward`` or another method.

    Example:
        >>> import torch
        >>> norm = nn.BatchNorm1d(2)
        >>> state = ModuleState(norm)
        >>> with state.borrowed():
        ...     _ = norm(torch.randn(8, 2))
        >>> norm.num_batches_tracked.item()
        0
    """

    def __init__(self, module: nn.Module, *others: Any, kind: str = "forward") -> None:
        self._module = module
        self._roots = [*others, *map(Globals.of, map(_function_of, others)), module]
        self._checked = False
        with unseen_by_modes():
            self._lists = GrowingLists(module)
            self._record = _Record(self._roots, self._lists)
            self._copies = copies_of(list(self._record.leaves.values()))
            self._writes = ParameterWrites(module, self._record.parameters.values(), kind)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that were reached, parameters too."""
        leaves = [leaf for leaf in self._record.leaves.values() if isinstance(leaf, Tensor)]
        return [*leaves, *self._record.parameters.values()]

    def check(self) -> None:
        """Look for what the pass since the snapshot did that can't be undone in another one.

        Raises:
            ValueError: if the pass ran through something that can't be copied, such as a generator, or wrote to a
                parameter that was not written to before.
        """
        for holder, facet, keys, _ in self._record.made.values():
            if ran_on(holder, facet, keys):
                name = name_of(holder, self._module, self._roots[0])
                raise ValueError(
                    f"module: forward must not run through an iterator that can't be copied, got {name}, a "
                    f"{type(holder).__name__}, which no other pass can run through again; make it a list, or take "
                    "from it before the forward what that needs."
                )
        with unseen_by_modes():
            self._writes.find()
            self._copy_what_was_settled()
        self._checked = True

    def _copy_what_was_settled(self) -> None:
        """Copy the members of lists that were taken for settled, and have been written to."""
        for members in self._lists.written():
            name = name_of(members, self._module, self._roots[0])
            warnings.warn(
                f"{name}: a tensor in this list was written to, after many passes that only appended to it; other "
                "passes of this step start from what was written. Keep what passes write to in a buffer.",
                stacklevel=2,
            )
            known = len(self._record.leaves)
            self._record.reach(members)
            self._copies += copies_of([*self._record.leaves.values()][known:])

    @contextmanager
    def borrowed(self, seed: int | None = None) -> Iterator[Sequence[tuple[Tensor, Tensor]]]:
        """Put the module into this state inside the context, and restore its present state afterwards.

        Args:
            seed: where the random generators start that the module owns, at least 0; None is where they were.

        Returns:
            Pairs of a tensor and the parameter in whose place it is.
        """
        with unseen_by_modes():
            present = _Record([*self._roots, *self._record.objects], self._lists)
            swaps = dict(zip(self._record.leaves, copies_of(self._copies), strict=True))
            stand_ins = self._writes.stand_ins()
            swaps |= {id(parameter): stand_in for stand_in, parameter in stand_ins}
            self._fill(swaps)
            if seed is not None:
                self.seed(seed)
            # What a checked forward writes to is in the copies.
            watched = None if self._checked else self._writes.again()
        try:
            yield stand_ins
        finally:
            with unseen_by_modes():
                present.restore()
                if watched is not None:
                    watched.undo()
                self._copy_what_was_settled()

    def _fill(self, swaps: _Swaps) -> None:
        swaps = made_anew(self._record.made, swaps)
        for entry in self._record.entries:
            entry.fill({} if swaps.keys().isdisjoint(map(id, entry.values)) else swaps)

    def drawn(self) -> Callable[[], None]:
        """Return what sets the random generators that the module owns back to where they are now."""
        drawing = [entry for entry in self._record.entries if isinstance(entry.facet, DrawsNumbers)]
        now = [_Entry(each.holder, each.facet, *each.facet.read(each.holder)) for each in drawing]

        def back() -> None:
            for entry in now:
                entry.fill({})

        return back

    def seed(self, seed: int) -> None:
        """Seed the random generators that the module owns.

        Args:
            seed: at least 0.
        """
        drawing = [entry for entry in self._record.entries if isinstance(entry.facet, DrawsNumbers)]
        for number, entry in enumerate(drawing, 1):
            entry.facet.seed(entry.holder, (seed + number) % 2**32)
