"""LSTMs of several layers and directions under recurrent masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lightning_advdrop.nn.lstm_kernel import LSTMWeights, masked_lstm_layer

State = tuple[Tensor, Tensor]
RecurrentMask = Tensor | Sequence["Tensor | None"]


class LSTMConfig(NamedTuple):
    """How an LSTM is laid out; the fields are the arguments of `torch.lstm` of the same names."""

    has_biases: bool
    num_layers: int
    dropout: float
    train: bool
    bidirectional: bool

    @property
    def directions(self) -> int:
        """Number of directions of each layer."""
        return 2 if self.bidirectional else 1


def split_weights(flat: Sequence[Tensor], config: LSTMConfig) -> list[LSTMWeights]:
    """Groups the flat weights of `torch.lstm` by layer and direction, in that order.

    Args:
        flat: ``weight_ih, weight_hh[, bias_ih, bias_hh]`` for each layer and direction.
        config: the layout of the LSTM.

    Example:
        >>> lstm = nn.LSTM(2, 3, num_layers=2)
        >>> len(split_weights(lstm._flat_weights, LSTMConfig(True, 2, 0.0, True, False)))
        2
    """
    width = 4 if config.has_biases else 2
    return [LSTMWeights(*flat[start : start + width]) for start in range(0, len(flat), width)]


def _reversed_rows(batch_sizes: Sequence[int], device: torch.device) -> Tensor:
    """For each packed row the row of the same sequence's mirrored step; applied twice it is the identity."""
    steps = torch.tensor(batch_sizes)
    starts = steps.cumsum(0) - steps
    step = torch.repeat_interleave(torch.arange(len(steps)), steps)  # (N,)
    sequence = torch.arange(len(step)) - starts[step]
    lengths = (steps.unsqueeze(1) > torch.arange(int(steps[0]))).sum(0)  # (B,)
    mirrored: Tensor = starts[lengths[sequence] - 1 - step] + sequence
    return mirrored.to(device)


def _stock_layer(x: Tensor, batch_sizes: Sequence[int], state: State, weights: LSTMWeights) -> tuple[Tensor, State]:
    """One layer and direction without a mask, by the kernel of `torch.nn.LSTM`."""
    flat = [weight for weight in weights if weight is not None]
    hx = tuple(s.unsqueeze(0) for s in state)
    sizes = torch.tensor(batch_sizes)
    output, h_n, c_n = torch.lstm(x, sizes, hx, flat, len(flat) == 4, 1, 0.0, True, False)
    return output, (h_n.squeeze(0), c_n.squeeze(0))


def masked_lstm(
    x: Tensor,
    batch_sizes: Sequence[int],
    hx: State,
    weights: Sequence[LSTMWeights],
    masks: Sequence[Tensor | None],
    config: LSTMConfig,
) -> tuple[Tensor, State]:
    """An LSTM of several layers and directions, each with its own recurrent mask or none.

    Args:
        x: the input rows, packed, ``(N, in)`` (see `lightning_advdrop.nn.lstm_kernel`).
        batch_sizes: the rows of each step.
        hx: the initial hidden and cell states, each ``(layers * directions, B, H)``.
        weights: the parameters of each layer and direction.
        masks: the mask of each layer and direction, ``(B, H)``, ``(T, B, H)`` or None.
        config: the layout of the LSTM.

    Returns:
        The output rows ``(N, directions * H)`` and the final states, each ``(layers * directions, B, H)``.

    Example:
        >>> lstm = nn.LSTM(2, 3)
        >>> config = LSTMConfig(True, 1, 0.0, True, False)
        >>> hx = torch.zeros(1, 4, 3), torch.zeros(1, 4, 3)
        >>> weights, masks = split_weights(lstm._flat_weights, config), [torch.ones(4, 3)]
        >>> output, _ = masked_lstm(torch.ones(20, 2), [4] * 5, hx, weights, masks, config)
        >>> output.shape
        torch.Size([20, 3])
    """
    mirrored = _reversed_rows(batch_sizes, x.device) if config.bidirectional else None
    finals: list[State] = []
    initial = list(zip(hx[0].unbind(0), hx[1].unbind(0), strict=True))
    for layer in range(config.num_layers):
        outputs = []
        for direction in range(config.directions):
            index = layer * config.directions + direction
            rows = x[mirrored] if direction == 1 and mirrored is not None else x
            mask = masks[index]
            if mask is None:
                output, final = _stock_layer(rows, batch_sizes, initial[index], weights[index])
            else:
                output, final = masked_lstm_layer(rows, batch_sizes, initial[index], mask, weights[index])
            outputs.append(output[mirrored] if direction == 1 and mirrored is not None else output)
            finals.append(final)
        x = torch.cat(outputs, -1) if config.bidirectional else outputs[0]
        if config.dropout and config.train and layer < config.num_layers - 1:
            x = F.dropout(x, config.dropout)
    h_n, c_n = (torch.stack(states) for states in zip(*finals, strict=True))
    return x, (h_n, c_n)


def masked_lstm_call(args: Sequence[Any], masks: Sequence[Tensor | None]) -> tuple[Tensor, Tensor, Tensor]:
    """Does what ``torch.lstm(*args)`` does, for padded and packed input, under recurrent masks.

    Args:
        args: the positional arguments of `torch.lstm`: ``(input, hx, weights, has_biases, layers, dropout, train,
            bidirectional, batch_first)`` or ``(data, batch_sizes, hx, weights, has_biases, layers, dropout, train,
            bidirectional)``.
        masks: the mask of each layer and direction, ``(B, H)``, ``(T, B, H)`` or None.

    Returns:
        Output, final hidden state and final cell state, shaped as by `torch.lstm`.

    Example:
        >>> lstm, zeros = nn.LSTM(2, 3), torch.zeros(1, 4, 3)
        >>> args = (torch.ones(5, 4, 2), (zeros, zeros), lstm._flat_weights, True, 1, 0.0, True, False, False)
        >>> output, _, _ = masked_lstm_call(args, [torch.ones(4, 3)])
        >>> torch.allclose(output, torch.lstm(*args)[0], atol=1e-6)
        True
    """
    if isinstance(args[1], Tensor):
        data, sizes, hx, flat, *layout = args
        config = LSTMConfig(*layout)
        output, (h_n, c_n) = masked_lstm(data, sizes.tolist(), hx, split_weights(flat, config), masks, config)
        return output, h_n, c_n
    x, hx, flat, *layout, batch_first = args
    config = LSTMConfig(*layout)
    if batch_first:
        x = x.transpose(0, 1)
    steps, batch, _ = x.shape  # (T, B, in)
    rows = x.reshape(steps * batch, x.shape[-1])
    output, (h_n, c_n) = masked_lstm(rows, [batch] * steps, hx, split_weights(flat, config), masks, config)
    output = output.view(steps, batch, output.shape[-1])
    return output.transpose(0, 1) if batch_first else output, h_n, c_n


class MaskedLSTM(nn.LSTM):
    """A drop-in `torch.nn.LSTM` whose recurrent connections can be masked.

    The constructor, parameters and ``state_dict`` are those of `torch.nn.LSTM`, and without a mask so is the
    computation. With one, ``h[t-1] * mask`` enters the gates of step ``t``; the step's output is not masked. The mask
    is multiplied as it is: apply `lightning_advdrop.functional.rescale_mask` to it before, if it is to be rescaled.

    Source: Gal & Ghahramani (2016) for time-invariant masks; Park et al. (2019).

    Raises:
        ValueError: if ``proj_size`` is not 0.

    Example:
        >>> lstm = MaskedLSTM(4, 3, batch_first=True)
        >>> mask = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
        >>> output, (h_n, c_n) = lstm(torch.randn(2, 5, 4), recurrent_mask=mask)
        >>> output.shape
        torch.Size([2, 5, 3])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.proj_size:
            raise ValueError(f"proj_size must be 0 for MaskedLSTM, got {self.proj_size}: projections can't be masked.")

    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002
        hx: State | None = None,
        *,
        recurrent_mask: RecurrentMask | None = None,
    ) -> Any:
        """Runs the LSTM, under a mask if one is given.

        Args:
            input: ``(T, B, in)``, ``(B, T, in)`` with ``batch_first``, ``(T, in)`` unbatched, or a packed sequence.
            hx: the initial hidden and cell states, each ``(layers * directions, B, H)``; zeros by default.
            recurrent_mask: ``(B, H)`` or ``(T, B, H)`` for one layer in one direction (``(H,)`` unbatched); for more, a
                sequence with such a mask or None for each layer and direction, or a tensor of them stacked. Rows are in
                the order of the batch before packing; the steps of a mask for a reverse direction are in the order in
                which that direction takes them.

        Returns:
            What `torch.nn.LSTM` returns: ``output, (h_n, c_n)``.

        Raises:
            ValueError: if a mask has none of these shapes; for the input, what `torch.nn.LSTM` raises.
        """
        if recurrent_mask is None:
            return super().forward(input, hx)
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx, recurrent_mask)
        batched = input.dim() == 3
        time, batch = (1, 0) if self.batch_first else (0, 1)
        x = input if batched else input.unsqueeze(batch)
        self.check_input(x, None)
        states = hx if hx is None or batched else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
        masks = self._mask_list(recurrent_mask, x.shape[time], x.shape[batch])
        state = self._state(states, x, x.shape[batch])
        output, h_n, c_n = masked_lstm_call((x, state, *self._layout(), self.batch_first), masks)
        if not batched:
            output, h_n, c_n = output.squeeze(batch), h_n.squeeze(1), c_n.squeeze(1)
        return output, (h_n, c_n)

    def _forward_packed(self, packed: PackedSequence, hx: State | None, recurrent_mask: RecurrentMask) -> Any:
        data, sizes, to_sorted, to_original = packed
        self.check_input(data, sizes)
        batch = int(sizes[0])
        masks = self._mask_list(recurrent_mask, len(sizes), batch)
        state = self._state(hx, data, batch)
        if to_sorted is not None:
            masks = [mask if mask is None else mask.index_select(-2, to_sorted) for mask in masks]
            state = (state[0].index_select(1, to_sorted), state[1].index_select(1, to_sorted)) if hx else state
        output, h_n, c_n = masked_lstm_call((data, sizes, state, *self._layout()), masks)
        if to_original is not None:
            h_n, c_n = h_n.index_select(1, to_original), c_n.index_select(1, to_original)
        return PackedSequence(output, sizes, to_sorted, to_original), (h_n, c_n)

    def _layout(self) -> tuple[Any, ...]:
        flat: Any = self._flat_weights
        return flat, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional

    def _state(self, hx: State | None, like: Tensor, batch: int) -> State:
        shape = (self._mask_count, batch, self.hidden_size)
        if hx is None:
            zeros = like.new_zeros(shape)
            return zeros, zeros
        for name, state in zip(("h_0", "c_0"), hx, strict=True):
            if state.shape != shape:
                raise ValueError(f"hx: {name} must have the shape {shape}, got {tuple(state.shape)}.")
        return hx

    @property
    def _mask_count(self) -> int:
        return self.num_layers * (2 if self.bidirectional else 1)

    def _mask_list(self, masks: RecurrentMask, steps: int, batch: int) -> list[Tensor | None]:
        """One checked mask, ``(B, H)`` or ``(T, B, H)``, or None for each layer and direction."""
        count = self._mask_count
        parts: list[Tensor | None]
        if isinstance(masks, Tensor):
            stacked = masks.dim() > 0 and (count > 1 or (masks.dim() == 3 and len(masks) == 1))
            parts = list(masks.unbind(0)) if stacked else [masks]
        else:
            parts = list(masks)
        allowed = [(batch, self.hidden_size), (steps, batch, self.hidden_size)]
        if batch == 1:  # unbatched input has masks without a batch dimension
            parts = [part.unsqueeze(0) if part is not None and part.dim() == 1 else part for part in parts]
        if len(parts) != count:
            raise ValueError(f"recurrent_mask must hold {count} masks (layers x directions), got {len(parts)}.")
        for index, part in enumerate(parts):
            if part is not None and tuple(part.shape) not in allowed:
                raise ValueError(
                    f"recurrent_mask must have the shape {allowed[0]} or {allowed[1]} for each layer and direction, "
                    f"got {tuple(part.shape)} at position {index}."
                )
        return parts
