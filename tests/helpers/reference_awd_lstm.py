"""AWD-LSTM once more, step by step and with every mask in sight, for `lightning_advdrop.nn.AWDLSTM` to agree with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Replaced = Mapping[tuple[str, int], Tensor]


class ReferenceAWDLSTM:
    """Computes from the parameters of a model what it should, with its random masks drawn in the same order.

    Args:
        parameters: by name.
        rates: the probabilities ``word``, ``input``, ``hidden``, ``output`` and ``weight``; empty for inference.
        replaced: masks that stand for the model's own: ``("weight", 2)`` is the one of layer 2. Those at places where
            the model draws none are multiplied there.
    """

    def __init__(self, parameters: Mapping[str, Tensor], rates: Mapping[str, float], replaced: Replaced) -> None:
        self.parameters, self.rates, self.replaced = parameters, rates, replaced
        self.layers = len({name.split(".")[1] for name in parameters if name.startswith("rnns.")})

    def __call__(self, tokens: Tensor, states: Any = None) -> Tensor:
        """The logits ``(T, B, V)``."""
        table = self.parameters["embedding.weight"]
        words = self._mask("embedding", 0, (len(table), 1), self._noise((len(table),), "word", table))
        x = (table * words)[tokens] if words is not None else table[tokens]
        for layer in range(self.layers):
            x = self._locked("input", layer, x, "hidden" if layer else "input")
            x = self._layer(layer, x, None if states is None else states[layer])
            if layer < self.layers - 1 and ("output", layer) in self.replaced:
                x = x * self.replaced["output", layer].transpose(0, 1)
        x = self._locked("output", self.layers - 1, x, "output")
        return x @ self.parameters["decoder.weight"].t() + self.parameters["decoder.bias"]

    def _noise(self, shape: tuple[int, ...], rate: str, like: Tensor) -> Tensor | None:
        if not self.rates.get(rate):
            return None
        return F.dropout(torch.ones(shape, dtype=like.dtype), self.rates[rate])

    def _mask(self, kind: str, layer: int, shape: tuple[int, ...], own: Tensor | None) -> Tensor | None:
        found = self.replaced.get((kind, layer), own)
        return None if found is None else found.reshape(shape)

    def _locked(self, kind: str, layer: int, x: Tensor, rate: str) -> Tensor:
        shape = (x.shape[1], 1, x.shape[2])
        own = self._noise(shape, rate, x)
        if kind == "input" and ("output", layer - 1) in self.replaced:
            own = None  # it is at the same place
        mask = self._mask(kind, layer, shape, own)
        return x if mask is None else x * mask.transpose(0, 1)

    def _layer(self, layer: int, x: Tensor, state: Any) -> Tensor:
        parts = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weight_ih, weight_hh, bias_ih, bias_hh = (self.parameters[f"rnns.{layer}.{part}"] for part in parts)
        mask = self._mask("weight", layer, tuple(weight_hh.shape), self._noise(tuple(weight_hh.shape), "weight", x))
        if mask is not None:
            weight_hh = weight_hh * mask
        zeros = x.new_zeros(x.shape[1], weight_hh.shape[1])
        h, c = (zeros, zeros) if state is None else (part[0] for part in state)
        recurrent = self.replaced.get(("recurrent", layer), torch.ones((), dtype=x.dtype))
        outputs = []
        for row in x.unbind(0):
            gates = row @ weight_ih.t() + bias_ih + (h * recurrent) @ weight_hh.t() + bias_hh
            i, f, g, o = gates.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs)
