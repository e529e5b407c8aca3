"""Tell which embeddings a forward adds to each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from lightning_advdrop.masking.sites import MaskSite, Observation

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
    norm would grow with the number of tables otherwise.
    """

    def __init__(self) -> None:
        self._followed: dict[int, tuple[Tensor, MaskSite]] = {}
        self._added_to: dict[MaskSite, MaskSite] = {}

    def begin(self, output: Tensor, site: MaskSite) -> None:
        """Follow the output of a call of an embedding."""
        self._followed[id(output)] = output, site

    def follow(self, function: Callable[..., Any], args: tuple[Any, ...], result: Any) -> None:
        """See a call that the forward makes."""
        name = getattr(function, "__name__", "")
        if not self._followed or not (name in _ADDING or name in _KEEPING) or not isinstance(result, Tensor):
            return
        found = [self._followed[id(each)][1] for each in args if id(each) in self._followed]
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
        """Mark the embeddings that are added to a larger one, or to an earlier one of the same size, as not alone."""
        groups: dict[MaskSite, list[Observation]] = {}
        for seen in observed.values():
            for call in (seen, *seen.calls):
                groups.setdefault(self._first(call.site), []).append(call)
        largest = {max(calls, key=lambda call: math.prod(call.activation)).site for calls in groups.values()}

        def marked(call: Observation) -> Observation:
            return call if call.site in largest else replace(call, alone=False)

        return {
            site: replace(marked(seen), calls=tuple(map(marked, seen.calls)))
            if self._added_to and seen.site.kind == "embedding"
            else seen
            for site, seen in observed.items()
        }
