"""Drop-in replacements of torch's recurrent layers that take masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lightning_advdrop.nn.call import RecurrentCall, RecurrentFunction, masked_call
from lightning_advdrop.nn.layer import States
from lightning_advdrop.nn.recurrent_masks import Mask, RecurrentMasks, check_mask_count, check_recurrent_mask

RecurrentMask = Tensor | Sequence[Mask]

_FUNCTIONS: Mapping[str, RecurrentFunction] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}


class _MaskedRecurrent(nn.RNNBase):
    """The forward of the masked layers, a base class before the stock layer."""

    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002
        hx: Tensor | States | None = None,
        *,
        recurrent_mask: RecurrentMask | None = None,
    ) -> Any:
        """Run the layers, under a mask if one is given.

        Args:
            input: ``(T, B, in)``, ``(B, T, in)`` with ``batch_first``, ``(T, in)`` unbatched, or a packed sequence.
            hx: the initial hidden state, ``(layers * directions, B, P)``, and for an LSTM ``(h_0, c_0)`` with the cell
                state ``(layers * directions, B, H)``; without the batch dimension if unbatched; zeros by default.
            recurrent_mask: ``(B, P)`` or ``(T, B, P)`` for one layer in one direction (``(P,)`` unbatched), where ``P``
                is the hidden size, or ``proj_size`` if that is not 0. For several, a sequence with such a mask or None
                for each layer and direction, or the masks stacked in one tensor. Rows are in the order of the batch
                before packing. The steps of a reverse direction's mask are in the order in which it takes them.

        Returns:
            The stock layer's result: ``output, (h_n, c_n)`` of an LSTM, ``output, h_n`` of the others.

        Raises:
            ValueError: if a mask or an initial state has another shape.
        """
        if recurrent_mask is None:
            return super().forward(input, hx)
        states = None if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, states, recurrent_mask)
        batched = input.dim() == 3
        time, batch = (1, 0) if self.batch_first else (0, 1)
        x = input if batched else input.unsqueeze(batch)
        self.check_input(x, None)
        if states is not None and not batched:
            states = tuple(state.unsqueeze(1) for state in states)
        masks = self._mask_list(recurrent_mask, x.shape[time], x.shape[batch])
        initial = self._states(states, x, x.shape[batch])
        output, *finals = self._run(masks, (x,), initial, (self.batch_first,))
        if not batched:
            output, finals = output.squeeze(batch), [final.squeeze(1) for final in finals]
        return output, self._result(finals)

    def _forward_packed(self, packed: PackedSequence, hx: States | None, recurrent_mask: RecurrentMask) -> Any:
        data, sizes, to_sorted, to_original = packed
        self.check_input(data, sizes)
        batch = int(sizes[0])
        masks = self._mask_list(recurrent_mask, len(sizes), batch)
        states = self._states(hx, data, batch)
        if to_sorted is not None:
            masks = [mask if mask is None else mask.index_select(-2, to_sorted) for mask in masks]
            states = tuple(state.index_select(1, to_sorted) for state in states)
        output, *finals = self._run(masks, (data, sizes), states, ())
        if to_original is not None:
            finals = [final.index_select(1, to_original) for final in finals]
        return PackedSequence(output, sizes, to_sorted, to_original), self._result(finals)

    def _run(
        self, masks: list[Mask], data: tuple[Any, ...], states: States, batch_first: tuple[Any, ...]
    ) -> tuple[Tensor, ...]:
        """Make the stock layer's call, under masks."""
        layout = self.bias, self.num_layers, self.dropout, self.training, self.bidirectional
        # By name, since `torch.func.functional_call` may have swapped them for this call.
        weights = [weight for weights in self.all_weights for weight in weights]
        args = *data, self._result(states), weights, *layout, *batch_first
        return masked_call(RecurrentCall.parse(_FUNCTIONS[self.mode], args), RecurrentMasks(masks))

    def _result(self, states: Sequence[Tensor]) -> Tensor | States:
        return tuple(states) if self.mode == "LSTM" else states[0]

    def _states(self, hx: States | None, like: Tensor, batch: int) -> States:
        shapes = {"h_0": (self._mask_count, batch, self._width)}
        if self.mode == "LSTM":
            shapes["c_0"] = (self._mask_count, batch, self.hidden_size)
        if hx is None:
            return tuple(like.new_zeros(shape) for shape in shapes.values())
        if len(hx) != len(shapes):
            raise ValueError(f"hx must be {' and '.join(shapes)} for {type(self).__name__}, got {len(hx)} tensors.")
        for (name, shape), state in zip(shapes.items(), hx, strict=True):
            if state.shape != shape:
                raise ValueError(f"hx: {name} must have the shape {shape}, got {tuple(state.shape)}.")
        return hx

    @property
    def _width(self) -> int:
        """The width of the hidden state, ``P``."""
        return self.proj_size or self.hidden_size

    @property
    def _mask_count(self) -> int:
        return self.num_layers * (2 if self.bidirectional else 1)

    def _mask_list(self, masks: RecurrentMask, steps: int, batch: int) -> list[Mask]:
        """Return a checked mask, ``(B, P)`` or ``(T, B, P)``, or None for each layer and direction."""
        count = self._mask_count
        parts: list[Mask]
        if isinstance(masks, Tensor):
            stacked = masks.dim() > 0 and (count > 1 or (masks.dim() == 3 and len(masks) == 1))
            parts = list(masks.unbind(0)) if stacked else [masks]
        else:
            parts = list(masks)
        if batch == 1:  # masks of unbatched input have no batch dimension
            parts = [part.unsqueeze(0) if part is not None and part.dim() == 1 else part for part in parts]
        check_mask_count("recurrent_mask", parts, count, "layers x directions")
        for index, part in enumerate(parts):
            if part is not None:
                check_recurrent_mask("recurrent_mask", index, part, steps, batch, self._width)
        return parts


class MaskedLSTM(_MaskedRecurrent, nn.LSTM):
    """A drop-in `torch.nn.LSTM` whose recurrent connections can be masked.

    Constructor, parameters and ``state_dict`` are those of `torch.nn.LSTM`, and so is the computation without a mask.
    With a mask, ``h[t-1] * mask`` enters the gates of step ``t``; the step's output is not masked. With ``proj_size``,
    ``h`` is the projected hidden state. The mask is not rescaled, see `lightning_advdrop.functional.rescale_mask`.

    Source: Gal & Ghahramani (2016) for time-invariant masks; Park et al. (2019).

    Example:
        >>> lstm = MaskedLSTM(4, 3, batch_first=True)
        >>> mask = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
        >>> output, (h_n, c_n) = lstm(torch.randn(2, 5, 4), recurrent_mask=mask)
        >>> output.shape
        torch.Size([2, 5, 3])
    """


class MaskedGRU(_MaskedRecurrent, nn.GRU):
    """A drop-in `torch.nn.GRU` whose recurrent connections can be masked, like `MaskedLSTM`.

    ``h[t-1] * mask`` enters the products of all three gates. The state that the update gate carries over is not masked.

    Source: Gal & Ghahramani (2016) for time-invariant masks; Park et al. (2019).

    Example:
        >>> gru = MaskedGRU(4, 3, batch_first=True)
        >>> output, h_n = gru(torch.randn(2, 5, 4), recurrent_mask=torch.zeros(2, 3))
        >>> output.shape, h_n.shape
        (torch.Size([2, 5, 3]), torch.Size([1, 2, 3]))
    """


class MaskedRNN(_MaskedRecurrent, nn.RNN):
    """A drop-in `torch.nn.RNN`, with tanh or relu, whose recurrent connections can be masked, like `MaskedLSTM`.

    Source: Gal & Ghahramani (2016) for time-invariant masks; Park et al. (2019).

    Example:
        >>> rnn = MaskedRNN(4, 3, nonlinearity="relu")
        >>> output, h_n = rnn(torch.randn(5, 2, 4), recurrent_mask=torch.ones(2, 3))
        >>> torch.allclose(output, rnn(torch.randn(5, 2, 4))[0])
        False
    """
