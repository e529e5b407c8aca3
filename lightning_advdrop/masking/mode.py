"""The torch function mode under which a forward pass runs with masks, or is observed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_advdrop._torch import in_checkpoint
from lightning_advdrop.masking.prefix import Prefix, PrefixReader, flat_arguments
from lightning_advdrop.masking.running import RunningModules
from lightning_advdrop.masking.site_values import Perturbation, SiteValue
from lightning_advdrop.masking.sites import MaskSite, Observation, Shape, anchor_key

Choose = Callable[[Observation], SiteValue | None]
Handlers = Mapping[Callable[..., Any], Callable[..., Any]]
"""The function that is called in place of each torch function, as ``handler(mode, function, args, kwargs)``."""


class MaskingMode(TorchFunctionMode):
    """A function mode that intercepts the torch calls of a forward, and applies masks in those that belong to a site.

    The module itself is not changed. A call without a handler is made as it is, or its result is taken from ``prefix``.

    Args:
        handlers: the function to call in place of each torch function, see `lightning_advdrop.masking.handlers`.
        sites: the sites to look for.
        choose: returns the mask or perturbation of a site in this pass, or None for none.
        running: the stack of running modules, by which some sites are recognised.
        prefix: the results of earlier runs of the same forward before the first mask.
        first: whether this is the first run, which fills ``observed``.
        keep_masks: whether ``observed`` keeps the masks that the network draws itself in the first run.
        dropout: False to switch off all of the network's own dropout.

    Attributes:
        observed: what each site met in the first run.
        inside: whether the present call is part of a call that was handled.
        unrecognised: the functions that were called with weights that belong to no layer that is running.
    """

    def __init__(
        self,
        handlers: Handlers,
        sites: Sequence[MaskSite],
        choose: Choose,
        running: RunningModules,
        *,
        prefix: Prefix | None = None,
        first: bool = False,
        keep_masks: bool = False,
        dropout: bool = True,
    ) -> None:
        super().__init__()
        self.observed: dict[MaskSite, Observation] = {}
        self.keep_masks = keep_masks
        self.dropout = dropout
        self.inside = False
        self.unrecognised: set[str] = set()
        self._handlers = handlers
        self._sites = {site.key: site for site in sites}
        self._anchors = {anchor_key(site.anchor) for site in sites}
        self._owned = {(id(site.owner), site.parameter): site.anchor for site in sites if site.owner is not None}
        self._scopes = list({id(site.scope): site for site in sites if site.scope}.values())
        self._choose = choose
        self._running = running
        self._reader = PrefixReader(Prefix() if prefix is None else prefix)
        self._first = first
        self._applied: dict[int, Tensor] = {}
        self._aliases: dict[int, tuple[Tensor, Any]] = {}
        self._calls: Counter[int] = Counter()
        self._has_backward = torch.is_grad_enabled()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Handle a torch function that is called while the mode is on."""
        handler = self._handlers.get(func)
        if handler is None:
            return self.call(func, args, kwargs or {})
        return handler(self, func, args, kwargs or {})

    # Used by handlers.

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function, or return its result from an earlier run."""
        if self._applied and any(id(argument) in self._applied for argument in flat_arguments(args, kwargs)):
            self.before_mask()
        return self._reader.call(function, args, kwargs)

    @property
    def replays(self) -> bool:
        """Whether what is random in this pass was drawn in an earlier one, or will be drawn again in a later one."""
        return not self._first or self.keep_masks

    def before_mask(self) -> None:
        """End the part of the forward that doesn't depend on the masks of this run."""
        self._reader.stop(complete=not self._first)

    def check_computed_once(self, what: str) -> None:
        """Check that the backward pass won't recompute this part of the forward, where no mode would see it.

        Args:
            what: the beginning of the message.

        Raises:
            ValueError: inside activation checkpointing.
        """
        if self._has_backward and in_checkpoint():
            raise ValueError(
                f"{what} is reached inside activation checkpointing (torch.utils.checkpoint), which runs this part "
                "again in the backward pass, as it is: without masks, and with dropout. Switch checkpointing off "
                "there, or name other sites."
            )

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Mark the calls inside the context as parts of a call that was handled."""
        before, self.inside = self.inside, True
        try:
            yield
        finally:
            self.inside = before

    @contextmanager
    def within(self) -> Iterator[None]:
        """Let the mode see the parts of a call that it handles."""
        with self.handled(), self:
            yield

    def times(self, given: Tensor | None, value: Tensor | None) -> Tensor | None:
        """Multiply a mask that a call was given by the mask of this pass; either may be None."""
        if given is None or value is None:
            return value if given is None else given
        product = given * value
        self._applied[id(product)] = product
        return product

    def has(self, anchor: object) -> bool:
        """Tell whether a weight or module belongs to a site."""
        return anchor_key(self._parameter(anchor)) in self._anchors

    def register_alias(self, tensor: Tensor, parameter: Tensor) -> None:
        """Register a tensor that was computed from a parameter and takes its place in this pass."""
        self._aliases[id(tensor)] = tensor, self._parameter(parameter)

    def _parameter(self, anchor: object) -> Any:
        """Return the parameter whose place a tensor takes, else the anchor itself."""
        return self._aliases.get(id(anchor), (None, anchor))[1]

    def masks(self, anchor: object, kind: str, shape: Shape, activation: Tensor, drop_rate: float) -> bool:
        """Tell whether a mask takes the place of one that the network is about to draw at a site.

        Args:
            anchor: the weight by which the site is recognised. The layer may meet the site before or after this call.
            kind: the site's kind.
            shape: the shape of its mask.
            activation: the masked activation, or a tensor of its type and device.
            drop_rate: the probability with which the network drops a unit, in (0, 1).
        """
        known = self._sites.get((anchor_key(anchor), kind))
        if known is None:
            return False
        site = replace(known, drop_rate=drop_rate)
        before = self.observed.get(site)
        if before is None:
            value = self._value_at(Observation(site, shape, tuple(activation.shape), _empty_like(activation)))
        else:
            value, self.observed[site] = before.applied, replace(before, site=site)
        return isinstance(value, Tensor)

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

    def replaces_dropout(self, drop_rate: float) -> bool:
        """Tell whether dropout that is called now belongs to a site."""
        # What drops nothing has no mask, and what drops everything has only one.
        return not self.inside and 0 < drop_rate < 1 and self._scope() is not None

    def dropout_site(self, drop_rate: float) -> MaskSite | None:
        """Return the site of the dropout that is called now, by the running module and the number of its call."""
        scope = self._scope()
        if scope is None or not self.replaces_dropout(drop_rate):
            return None
        module = self._running.stack[-1]
        number = self._calls[id(module)]
        self._calls[id(module)] += 1
        path = scope.scope[id(module)]
        name = f"{path}#{number}:dropout" if number else f"{path}:dropout"
        known = self._sites.get((anchor_key(module), "dropout"), scope)
        return replace(known, name=name, layer=path, anchor=module, drop_rate=drop_rate)

    def _scope(self) -> MaskSite | None:
        """Return a site in whose scope the running module is."""
        running = id(self._running.stack[-1])
        return next((site for site in self._scopes if running in site.scope), None)

    def value_at(self, anchor: object, kind: str, shape: Shape, activation: Tensor, **known: Any) -> Any:
        """Return the mask or perturbation of a site in this pass; None if there is no such site, or none is applied.

        Args:
            anchor: the weight by which the site is recognised.
            kind: the site's kind.
            shape: the shape of its mask.
            activation: the masked activation, or a tensor of its type and device.
            known: further attributes of the `Observation`.

        Raises:
            ValueError: if the mask has another shape, or the layer was called with another batch size in this pass.
        """
        site = self._sites.get((anchor_key(self._parameter(anchor)), kind))
        if site is None:
            return None
        return self._value_at(Observation(site, shape, tuple(activation.shape), _empty_like(activation), **known))

    def dropout_value_at(self, site: MaskSite, shape: Shape, activation: Tensor, own: Tensor | None) -> Any:
        """Return the mask of a site that `dropout_site` found, as `value_at` does for other kinds.

        Args:
            site: the site, with the units of a row.
            shape: the shape of its mask.
            activation: the masked activation.
            own: the binary mask that the network drew; None where masks are not kept.
        """
        return self._value_at(Observation(site, shape, tuple(activation.shape), _empty_like(activation), mask=own))

    def _value_at(self, seen: Observation) -> SiteValue | None:
        self.check_computed_once(f"sites: {seen.site.name}")
        before = self.observed.get(seen.site)
        _check_same(before, seen)
        # A layer that is called again in one forward has the same mask again.
        value = self._choose(seen) if before is None else before.applied
        if value is not None:
            _check_value(seen, value)
            tensor = value.value if isinstance(value, Perturbation) else value
            self._applied[id(tensor)] = tensor
        if self._first:
            self._reader.stop(complete=False)
            if before is not None:
                seen = replace(seen, site=before.site)
            if isinstance(value, Tensor):
                seen = replace(seen, mask=(value.detach() != 0).to(value.dtype))
            self.observed[seen.site] = replace(seen, applied=value)
        return value

    def check_prefix(self) -> None:
        """Raise the `PrefixMismatchError` of this run again if the forward swallowed it."""
        if self._reader.mismatch is not None:
            raise self._reader.mismatch

    def stop_prefix(self) -> None:
        """End the first run's part of the prefix, for a forward that met no site."""
        self._reader.stop(complete=False)


def _empty_like(activation: Tensor) -> Tensor:
    return activation.detach().new_empty(0)


def _check_same(before: Observation | None, now: Observation) -> None:
    if before is not None and before.shape != now.shape:
        raise ValueError(
            f"sites: {now.site.name} is called with {before.shape[0]} and with {now.shape[0]} examples in one "
            "forward, so that one mask can't fit both; name other sites."
        )


def _check_value(seen: Observation, value: SiteValue) -> None:
    if isinstance(value, Perturbation):
        if seen.site.kind not in {"embedding", "input"}:
            raise ValueError(
                f"sites must be of the kind 'embedding' or 'input' for something to be added, got {seen.site.name!r}."
            )
        allowed, shape, what = [seen.activation], tuple(value.value.shape), "perturbation"
    else:
        allowed, shape, what = [seen.shape], tuple(value.shape), "mask"
        if seen.steps is not None:
            allowed.append((seen.steps, *seen.shape))
    if shape not in allowed:
        shapes = " or ".join(map(str, allowed))
        raise ValueError(
            f"masks: the {what} of {seen.site.name} must have the shape {shapes} for this batch, got {shape}."
        )
