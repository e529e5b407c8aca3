"""Lists that a module's passes only append to, such as the outputs of all steps of an epoch."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from lightning_advdrop._torch import version_of
from lightning_advdrop.masking.left_out import ATOMS

# After so many passes that did nothing to a list but append to it, its older members are no longer copied.
_APPENDED = 3
# Of a list that was written to after all.
_NEVER = -(2**60)


class _Seen(NamedTuple):
    """A list at one time.

    Attributes:
        members: the list.
        names: the identities of its members.
        times: how often members were appended since it was seen first, with nothing else done to it.
        settled: the number of its first members that need no copies.
        tensors: those that the settled members are or hold.
    """

    members: list[Any]
    names: list[int]
    times: int = 0
    settled: int = 0
    tensors: Sequence[weakref.ref[Tensor]] = ()

    @property
    def versions(self) -> list[int | None]:
        """How often each tensor has been written to; None for what is gone, or doesn't tell."""
        found = (reference() for reference in self.tensors)
        return [None if tensor is None else version_of(tensor) for tensor in found]


# What was seen at the last snapshot of each module. Not the members, whose memory a cleared list gives back.
_LISTS: WeakKeyDictionary[nn.Module, dict[int, _Seen]] = WeakKeyDictionary()


class GrowingLists:
    """The lists that a module's passes only append to, at one time.

    Models gather what each step predicts in a list, for the end of the epoch. To look into all its members and copy
    them before each pass takes longer with each step. Once a few passes have done nothing to a list but append to it,
    the tensors that have been in it for a while are taken for what no pass writes to, and only watched.

    Args:
        module: the module whose lists they are.

    Example:
        >>> import torch
        >>> module = nn.Linear(2, 2)
        >>> module.outputs = []
        >>> for _ in range(6):
        ...     lists = GrowingLists(module)
        ...     settled = lists.settled(module.outputs)
        ...     module.outputs.append(torch.zeros(2))
        >>> settled
        4
    """

    def __init__(self, module: nn.Module) -> None:
        self._before = _LISTS.get(module, {})
        self._now = _LISTS[module] = {}
        self._versions: dict[int, list[int | None]] = {}

    def settled(self, members: list[Any]) -> int:
        """Return the number of a list's first members that need no copies, and know the list from now on."""
        seen = self._now.get(id(members))
        if seen is None:
            self._now[id(members)] = seen = _seen(members, self._before.get(id(members)))
            self._versions[id(members)] = seen.versions
        return seen.settled

    def written(self) -> list[list[Any]]:
        """Return the lists of which a settled tensor was written to, and never take them for settled again."""
        found = [name for name, versions in self._versions.items() if self._now[name].versions != versions]
        for name in found:
            del self._versions[name]
            self._now[name] = self._now[name]._replace(times=_NEVER, settled=0, tensors=())
        return [self._now[name].members for name in found]


def _seen(members: list[Any], before: _Seen | None) -> _Seen:
    names = list(map(id, members))
    if before is None or before.members is not members or names[: len(before.names)] != before.names:
        return _Seen(members, names)
    times = before.times + (len(names) > len(before.names))
    if times < _APPENDED:
        return _Seen(members, names, times)
    later = [*map(_tensors_in, members[before.settled : len(before.names)])]
    if any(tensors is None for tensors in later):
        return _Seen(members, names)
    tensors = [*before.tensors, *(weakref.ref(tensor) for each in later for tensor in each or ())]
    return _Seen(members, names, times, len(before.names), tensors)


def _tensors_in(member: Any) -> list[Tensor] | None:
    """Return the tensors that a member is or holds; None if it holds anything else that could change."""
    kind = type(member)
    parts = list(member.values()) if kind is dict else list(member) if kind in {tuple, list} else [member]
    if any(type(part) is not Tensor and type(part) not in ATOMS for part in parts):
        return None
    return [part for part in parts if type(part) is Tensor]
