"""Recognise the calls that belong to sites, by their weights and by the module that is running."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from lightning_advdrop.masking.running import RunningModules
from lightning_advdrop.masking.sites import MaskSite, anchor_key


class Anchors:
    """The weights and modules by which the sites of a pass are recognised.

    Args:
        sites: the sites.
        running: the stack of running modules.

    Attributes:
        unrecognised: the functions that were called with weights that belong to no layer that is running.
    """

    def __init__(self, sites: Sequence[MaskSite], running: RunningModules) -> None:
        self.unrecognised: set[str] = set()
        self._running = running
        self._sites = {site.key: site.at_call(0) if site.call else site for site in sites}
        self._keys = {anchor_key(site.anchor) for site in sites}
        self._owned = {(id(site.owner), site.parameter): site.anchor for site in sites if site.owner is not None}
        self._aliases: dict[int, tuple[Tensor, Any]] = {}

    def __contains__(self, anchor: object) -> bool:
        return anchor_key(self._parameter(anchor)) in self._keys

    def site(self, anchor: object, kind: str) -> MaskSite | None:
        """Return the site of a kind that a weight or module belongs to."""
        return self._sites.get((anchor_key(self._parameter(anchor)), kind))

    def register_alias(self, tensor: Tensor, parameter: Tensor) -> None:
        """Register a tensor that was computed from a parameter and takes its place in this pass."""
        self._aliases[id(tensor)] = tensor, self._parameter(parameter)

    def recognise(self, function: Callable[..., Any], weight: Tensor, name: str) -> None:
        """Recognise a weight that was computed, by the layer that is running and the name that it has there.

        Args:
            function: the function that is called with the weight.
            weight: the weight; a parameter is recognised by itself.
            name: its name in a layer that calls the function, ``weight_hh_l0``.
        """
        if isinstance(weight, nn.Parameter) or id(weight) in self._aliases:
            return
        anchor = self._owned.get((id(self._running.stack[-1]), name))
        if anchor is None:
            self.unrecognised.add(function.__name__)
        else:
            self._aliases[id(weight)] = weight, anchor

    def _parameter(self, anchor: object) -> Any:
        """Return the parameter whose place a tensor takes, else the anchor itself."""
        return self._aliases.get(id(anchor), (None, anchor))[1]
