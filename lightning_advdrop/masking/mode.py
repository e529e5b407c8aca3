"""The torch function mode under which a forward pass runs with masks, or is watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_advdrop.masking.prefix import Prefix, PrefixReader
from lightning_advdrop.masking.sites import MaskSite
from lightning_advdrop.nn.lstm import LSTMConfig, masked_lstm_call, split_weights
from lightning_advdrop.nn.lstm_kernel import LSTMWeights, masked_lstm_layer

Masks = Mapping[MaskSite, Tensor]


class MaskingMode(TorchFunctionMode):
    """Sees every torch function that a forward calls, and lets masks act where a site's layer is among them.

    Nothing in the module is replaced: a call belongs to a site if it is given the site's weight.

    Args:
        sites: the sites to look for.
        masks: the masks to apply; sites without one run as they are. None to watch only: the batch size that each site
            meets is noted in ``batch_sizes``.
        prefix: what earlier runs of the same forward computed before the first mask.
        needs_parameter_gradients: False where only the masks' gradients will be asked for.
    """

    def __init__(
        self,
        sites: Sequence[MaskSite],
        masks: Masks | None = None,
        *,
        prefix: Prefix | None = None,
        needs_parameter_gradients: bool = True,
    ) -> None:
        super().__init__()
        self.batch_sizes: dict[MaskSite, int] = {}
        self._sites = {(id(site.weight), site.kind): site for site in sites}
        self._masks = masks
        self._reader = PrefixReader(Prefix() if prefix is None else prefix)
        self._needs_parameter_gradients = needs_parameter_gradients
        self._inside = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch for every function while the mode is on."""
        kwargs = kwargs or {}
        if func is torch.lstm and not self._inside:
            weights = _lstm_weights(args)
            if self._touches(weights):
                return self._call_lstm(args, weights)
        elif func is masked_lstm_layer:
            return self._call_layer(*args)
        return self._reader.call(func, args, kwargs)

    def stop_prefix(self) -> None:
        """Ends this run's part of the prefix; called at the end of a watched forward that met no site."""
        self._reader.stop(complete=False)

    def _touches(self, weights: Sequence[LSTMWeights]) -> bool:
        return any((id(w.weight_hh), kind) in self._sites for w in weights for kind in ("recurrent", "weight"))

    def _call_lstm(self, args: tuple[Any, ...], weights: Sequence[LSTMWeights]) -> Any:
        sizes = _batch_sizes(args)
        batch = sizes[0]
        if self._masks is None:
            for w in weights:
                self._watch(w, batch)
            return torch.lstm(*args)
        recurrent = [self._mask(w.weight_hh, "recurrent", sizes) for w in weights]
        masked = [self._under_weight_mask(w, sizes) for w in weights]
        flat = [tensor for w in masked for tensor in w if tensor is not None]
        args = tuple(flat if isinstance(arg, (list, tuple)) and arg[0] is weights[0].weight_ih else arg for arg in args)
        if all(mask is None for mask in recurrent):
            return self._reader.call(torch.lstm, args, {})
        self._inside = True
        try:
            with self:  # to see, and hand back, what happens before the first masked layer
                return masked_lstm_call(args, recurrent)
        finally:
            self._inside = False

    def _call_layer(
        self,
        x: Tensor,
        batch_sizes: Sequence[int],
        state: tuple[Tensor, Tensor],
        mask: Tensor,
        weights: LSTMWeights,
    ) -> Any:
        """A masked layer: on the way from `_call_lstm`, or a `MaskedLSTM` that the model's own forward gave a mask."""
        args = (x, batch_sizes, state, mask, weights)
        if self._masks is None:
            self._watch(weights, batch_sizes[0])
            return self._reader.call(masked_lstm_layer, args, {})
        if not self._inside:
            site_mask = self._mask(weights.weight_hh, "recurrent", batch_sizes)
            masked = self._under_weight_mask(weights, batch_sizes)
            if site_mask is None and masked is weights:
                return self._reader.call(masked_lstm_layer, args, {})
            weights, mask = masked, mask if site_mask is None else mask * site_mask
        self._reader.stop(complete=True)
        if not self._needs_parameter_gradients:
            weights = LSTMWeights(*map(_without_gradient, weights))
        return masked_lstm_layer(x, batch_sizes, state, mask, weights)

    def _watch(self, weights: LSTMWeights, batch: int) -> None:
        for kind in ("recurrent", "weight"):
            site = self._sites.get((id(weights.weight_hh), kind))
            if site is not None:
                self._reader.stop(complete=False)
                if self.batch_sizes.setdefault(site, batch) != batch and site.rows is None:
                    raise ValueError(
                        f"sites: {site.name} is called with {self.batch_sizes[site]} and with {batch} examples in one "
                        "forward, so that one mask can't fit both; name other sites."
                    )

    def _mask(self, weight: Tensor, kind: str, batch_sizes: Sequence[int]) -> Tensor | None:
        """The mask for the layer that has this weight, checked; None if it has none."""
        site = self._sites.get((id(weight), kind))
        mask = None if site is None or self._masks is None else self._masks.get(site)
        if site is None or mask is None:
            return None
        shape = site.shape(batch_sizes[0])
        allowed = [shape] if site.rows is not None else [shape, (len(batch_sizes), *shape)]
        if tuple(mask.shape) not in allowed:
            shapes = " or ".join(map(str, allowed))
            raise ValueError(
                f"masks: the mask of {site.name} must have the shape {shapes} for this batch, got {tuple(mask.shape)}."
            )
        return mask

    def _under_weight_mask(self, weights: LSTMWeights, batch_sizes: Sequence[int]) -> LSTMWeights:
        mask = self._mask(weights.weight_hh, "weight", batch_sizes)
        if mask is None:
            return weights
        self._reader.stop(complete=True)
        return weights._replace(weight_hh=weights.weight_hh * mask)


def _batch_sizes(args: tuple[Any, ...]) -> list[int]:
    """The number of rows of each step in a call of `torch.lstm`."""
    if isinstance(args[1], Tensor):
        sizes: list[int] = args[1].tolist()
        return sizes
    steps, batch = args[0].shape[:2][:: -1 if args[-1] else 1]
    return [batch] * steps


def _without_gradient(weight: Any) -> Any:
    """A parameter without its gradient; a weight that was computed, from a mask perhaps, stays as it is."""
    return weight.detach() if weight is not None and weight.is_leaf else weight


def _lstm_weights(args: tuple[Any, ...]) -> list[LSTMWeights]:
    """The weights in a call of `torch.lstm`, by layer and direction; empty for projected layers, which have more."""
    first = 3 if isinstance(args[1], Tensor) else 2  # a packed call has its batch sizes before the rest
    flat, *layout = args[first : first + 6]
    config = LSTMConfig(*layout)
    expected = config.num_layers * config.directions * (4 if config.has_biases else 2)
    return split_weights(flat, config) if len(flat) == expected else []
