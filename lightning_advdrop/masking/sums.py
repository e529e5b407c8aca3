"""Tell which embeddings a forward adds to each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lightning_advdrop.masking.observation import Observation
from lightning_advdrop.masking.sites import MaskSite

_ADDING = frozenset(
    {"add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__rsub__", "__isub__"}
)
# What keeps each element of an embedding apart from the others.
_KEEPING = frozenset(
    {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "div_", "__truediv__", "__itruediv__", "dropout"}
    | {"to", "type_as", "float", "half", "bfloat16", "double", "contiguous", "clone"}
    | {"expand", "expand_as", "unsqueeze", "squeeze", "transpose", "permute", "view", "reshape", "__getitem__"}
)


class EmbeddingSums:
    """Follow the outputs of embeddings through a forward.

    A network that adds embeddings of words, positions and types has one embedding in the sense of a perturbation, whose
    norm would grow with the number of tables otherwise. Several calls of one table stay as they are.
    """

    def __init__(self) -> None:
        self._followed: dict[int, tuple[Tensor, MaskSite]] = {}
        self._added_to: dict[MaskSite, MaskSite] = {}

    def begin(self, output: Tensor, site: MaskSite) -> None:
        """Follow the output of a call of an embedding."""
        self._followed[id(output)] = output, site

    def follow(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> None:
        """See a call that the forward makes."""
        name = getattr(function, "__name__", "")
        if not self._followed or not (name in _ADDING or name in _KEEPING) or not isinstance(result, Tensor):
            return
        found = [self._followed[id(each)][1] for each in (*args, *kwargs.values()) if id(each) in self._followed]
        if len(found) == 2 and name in _ADDING:
            first, second = map(self._first, found)
            if first != second:
                self._added_to[second] = first
        if len(found) == 1 or (found and name in _ADDING):
            self._followed[id(result)] = result, found[0]

    def _first(self, site: MaskSite) -> MaskSite:
        while site in self._added_to:
            site = self._added_to[site]
        return site

    def told(self, observed: Mapping[MaskSite, Observation]) -> dict[MaskSite, Observation]:
        """Mark the embeddings that are added to one of a larger table, or to an earlier equal one, as not alone."""
        groups: dict[MaskSite, list[Observation]] = {}
        for seen in observed.values():
            for call in (seen, *seen.calls):
                groups.setdefault(self._first(call.site), []).append(call)
        kept = {call.site for calls in groups.values() for call in _of_largest(calls)}

        def marked(call: Observation) -> Observation:
            return call if call.site in kept else replace(call, alone=False)

        return {
            site: replace(marked(seen), calls=tuple(map(marked, seen.calls)))
            if self._added_to and seen.site.kind == "embedding"
            else seen
            for site, seen in observed.items()
        }


def _of_largest(calls: Sequence[Observation]) -> list[Observation]:
    """Return the calls of the table that has the largest output in a group."""
    largest = max(calls, key=lambda call: math.prod(call.activation)).site.at_call(0)
    return [call for call in calls if call.site.at_call(0) == largest]
