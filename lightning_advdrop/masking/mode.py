"""The torch function mode under which a forward pass runs with masks, or is observed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_advdrop._torch import in_checkpoint
from lightning_advdrop.masking.anchors import Anchors
from lightning_advdrop.masking.checks import PERTURBED, check_same_batch, check_value
from lightning_advdrop.masking.examples import BatchEvidence, Examples, Shape
from lightning_advdrop.masking.observation import Observation
from lightning_advdrop.masking.prefix import Prefix, PrefixReader, flat_arguments
from lightning_advdrop.masking.running import RunningModules
from lightning_advdrop.masking.site_values import Perturbation, SiteValue
from lightning_advdrop.masking.sites import MaskSite
from lightning_advdrop.masking.sums import EmbeddingSums

Choose = Callable[[Observation], SiteValue | None]
Rows = Literal["unknown", "examples", "weights"]
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
        prefix: the results of earlier runs of the same forward before the first mask; None to keep and reuse nothing.
        first: whether this is the first run, which fills ``observed``.
        keep_masks: whether ``observed`` keeps the masks that the network draws itself in the first run.
        dropout: False to switch off all of the network's own dropout.

    Attributes:
        observed: what each site met in the first run.
        inside: whether the present call is part of a call that was handled.
        anchors: the weights and modules by which sites are recognised.
        running: the running modules.
        evidence: what layers have shown of the batch.
        sums: which embeddings are added to each other.
        rows: what the first dimension of a dropout mask holds that is drawn now.
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
        self.evidence, self.sums = BatchEvidence(), EmbeddingSums()
        self.rows: Rows = "unknown"
        self._handlers = handlers
        self.anchors = Anchors(sites, running)
        self._scopes = list({id(site.scope): site for site in sites if site.scope}.values())
        self._choose = choose
        self.running = running
        self._reader = PrefixReader(prefix)
        self._first = first
        self._applied: dict[int, Tensor] = {}
        self._calls: Counter[object] = Counter()
        self._has_backward = torch.is_grad_enabled()
        self.with_gradient: set[tuple[object, str]] = set()

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
        result = self._reader.call(function, args, kwargs)
        if self._first:
            self.sums.follow(function, args, kwargs, result)
        return result

    @property
    def replays(self) -> bool:
        """Tell whether what is random in this pass was drawn in an earlier one, or will be drawn again later."""
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
        return self._as_applied(given * value)

    def in_order(self, value: Any, order: Tensor | None, dim: int) -> Any:
        """Order the rows of a mask of this pass, in a dimension, as those of packed sequences; others have no order."""
        if order is None or not isinstance(value, Tensor):
            return value
        return self._as_applied(value.index_select(dim, order))

    def _as_applied(self, value: Tensor) -> Tensor:
        self._applied[id(value)] = value
        return value

    def masks(self, anchor: object, kind: str, shape: Shape, activation: Tensor, drop_rate: float) -> bool:
        """Tell whether a mask takes the place of one that the network is about to draw at a site.

        Args:
            anchor: the weight by which the site is recognised. The layer may meet the site before or after this call.
            kind: the site's kind.
            shape: the shape of its mask.
            activation: the masked activation, or a tensor of its type and device.
            drop_rate: the probability with which the network drops a unit, in (0, 1).
        """
        known = self.anchors.site(anchor, kind)
        if known is None:
            return False
        site = replace(known, drop_rate=drop_rate)
        before = self.observed.get(site)
        if before is None:
            value = self._value_at(Observation(site, shape, tuple(activation.shape), _empty_like(activation)))
        else:
            value, self.observed[site] = before.applied, replace(before, site=site)
        return isinstance(value, Tensor)

    def replaces_dropout(self, drop_rate: float) -> bool:
        """Tell whether dropout that is called now belongs to a site."""
        # What drops nothing has no mask, and what drops everything has only one.
        return not self.inside and 0 < drop_rate < 1 and self._scope() is not None

    def dropout_site(self, drop_rate: float) -> MaskSite | None:
        """Return the site of the dropout that is called now, by the running module and the number of its call."""
        scope = self._scope()
        if scope is None or not self.replaces_dropout(drop_rate):
            return None
        module = self.running.stack[-1]
        number = self._calls[id(module)]
        self._calls[id(module)] += 1
        path = scope.scope[id(module)]
        name = f"{path}#{number}:dropout" if number else f"{path}:dropout"
        known = self.anchors.site(module, "dropout") or scope
        return replace(known, name=name, layer=path, anchor=module, drop_rate=drop_rate)

    def _scope(self) -> MaskSite | None:
        """Return a site in whose scope the running module is."""
        running = id(self.running.stack[-1])
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
        site = self.anchors.site(anchor, kind)
        if site is None:
            return None
        number = self._calls[site.key]
        self._calls[site.key] += 1
        seen = Observation(site, shape, tuple(activation.shape), _empty_like(activation), **known)
        return self._value_at(seen, number if kind in PERTURBED else 0)

    def dropout_value_at(
        self, site: MaskSite, shape: Shape, activation: Tensor, own: Tensor | None, *, told: bool
    ) -> Any:
        """Return the mask of a site that `dropout_site` found, as `value_at` does for other kinds.

        Args:
            site: the site, with the units of a row.
            shape: the shape of its mask.
            activation: the masked activation.
            own: the binary mask that the network drew; None where masks are not kept.
            told: whether the rows of its mask are known.
        """
        like, batch_dim = _empty_like(activation), 0 if told or self.rows != "unknown" else None
        if self.rows == "examples":
            site = replace(site, examples=Examples(shape, 0))
        return self._value_at(Observation(site, shape, tuple(activation.shape), like, mask=own, batch_dim=batch_dim))

    def _value_at(self, seen: Observation, number: int = 0) -> SiteValue | None:
        self.check_computed_once(f"sites: {seen.site.name}")
        before = self.observed.get(seen.site)
        check_same_batch(before, seen)
        if torch.is_grad_enabled():
            self.with_gradient.add(seen.site.key)
        # A layer that is called again in one forward has the same mask again, but another perturbation.
        value = self._choose(seen) if before is None else before.applied
        if number and not isinstance(value, Tensor):
            seen = replace(seen, site=seen.site.at_call(number))
            value = self._choose(seen)
        self._latest = seen.site
        if value is not None:
            check_value(seen, value)
            self._as_applied(value.value if isinstance(value, Perturbation) else value)
        if self._first:
            self._reader.stop(complete=False)
            self._observe(replace(seen, applied=value), before)
        return value

    def _observe(self, seen: Observation, before: Observation | None) -> None:
        if before is not None and seen.site.call:
            self.observed[before.site] = replace(before, calls=(*before.calls, seen))
            return
        if before is not None:
            seen = replace(seen, site=before.site)
        if isinstance(seen.applied, Tensor):
            seen = replace(seen, mask=(seen.applied.detach() != 0).to(seen.applied.dtype))
        self.observed[seen.site] = seen

    def follow(self, embedded: Tensor) -> Tensor:
        """Follow the output of the embedding whose site was met last, and return it."""
        if self._first:
            self.sums.begin(embedded, self._latest)
        return embedded

    def check_prefix(self) -> None:
        """Raise the `PrefixMismatchError` of this run again if the forward swallowed it."""
        if self._reader.mismatch is not None:
            raise self._reader.mismatch

    def stop_prefix(self) -> None:
        """End the first run's part of the prefix, for a forward that met no site."""
        self._reader.stop(complete=False)


def _empty_like(activation: Tensor) -> Tensor:
    return activation.detach().new_empty(0)
