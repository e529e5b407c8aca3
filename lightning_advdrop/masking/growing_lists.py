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
        names: the identities of its members, and of what these hold.
        times: how often members were appended since it was seen first, with nothing else done to it.
        settled: the number of its first members that need no copies.
        tensors: those that the settled members are or hold.
    """

    members: list[Any]
    names: list[Any]
    times: int = 0
    settled: int = 0
    tensors: Sequence[weakref.ref[Tensor]] = ()


class _Watched(NamedTuple):
    """What the settled members of a list are or hold, at one time."""

    containers: list[Any]
    names: list[Any]
    tensors: list[Tensor]
    versions: list[int | None]

    @classmethod
    def of(cls, seen: _Seen) -> _Watched:
        containers = [member for member in seen.members[: seen.settled] if type(member) in {dict, list}]
        tensors = [tensor for reference in seen.tensors if (tensor := reference()) is not None]
        return cls(containers, [*map(_name, containers)], tensors, [*map(version_of, tensors)])

    @property
    def changed(self) -> bool:
        """Tell whether anything was written to since."""
        return self.versions != [*map(version_of, self.tensors)] or self.names != [*map(_name, self.containers)]


# What was seen at the last snapshot of each module. Not the members, whose memory a cleared list gives back.
_LISTS: WeakKeyDictionary[nn.Module, dict[int, _Seen]] = WeakKeyDictionary()


class GrowingLists:
    """The lists that a module's passes only append to, at one time.

    Models gather what each step predicts in a list, for the end of the epoch. To look into all its members and copy
    them before each pass takes longer with each step. Once a few passes have done nothing to a list but append to it,
    the members that have been in it for a while are taken for what no pass writes to, and only watched.

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
        self._watched: dict[int, _Watched] = {}

    def settled(self, members: list[Any]) -> int:
        """Return the number of a list's first members that need no copies, and know the list from now on."""
        seen = self._now.get(id(members))
        if seen is None:
            self._now[id(members)] = seen = _seen(members, self._before.get(id(members)))
            self._watched[id(members)] = _Watched.of(seen)
        return seen.settled

    def written(self) -> list[list[Any]]:
        """Return the lists of which a settled tensor was written to, and never take them for settled again."""
        found = [name for name, watched in self._watched.items() if watched.changed]
        for name in found:
            del self._watched[name]
            self._now[name] = self._now[name]._replace(times=_NEVER, settled=0, tensors=())
        return [self._now[name].members for name in found]


def _seen(members: list[Any], before: _Seen | None) -> _Seen:
    names = [*map(_name, members)]
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


def _name(member: Any) -> Any:
    """Return the identity of a member, and of what it holds where that may change."""
    kind = type(member)
    if kind is dict:
        return (id(member), *map(id, member), *map(id, member.values()))
    return (id(member), *map(id, member)) if kind is list else id(member)


def _tensors_in(member: Any) -> list[Tensor] | None:
    """Return the tensors that a member is or holds; None if it holds anything else that could change."""
    kind = type(member)
    parts = list(member.values()) if kind is dict else list(member) if kind in {tuple, list} else [member]
    if any(type(part) is not Tensor and type(part) not in ATOMS for part in parts):
        return None
    return [part for part in parts if type(part) is Tensor]
