"""Parse a call of one of torch's recurrent functions, to run it under masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from lightning_advdrop import _torch
from lightning_advdrop.nn.gru_kernel import masked_gru_layer
from lightning_advdrop.nn.layer import LayerWeights, States
from lightning_advdrop.nn.lstm_kernel import masked_lstm_layer
from lightning_advdrop.nn.packed import mask_sequences, mirrored_rows
from lightning_advdrop.nn.recurrent_masks import (
    RecurrentMasks,
    check_locked_mask,
    check_mask_count,
    check_recurrent_mask,
)
from lightning_advdrop.nn.rnn_kernel import masked_rnn_relu_layer, masked_rnn_tanh_layer

RecurrentFunction = Callable[..., tuple[Tensor, ...]]
MaskedLayer = Callable[[Tensor, Sequence[int], States, Tensor, LayerWeights], tuple[Tensor, States]]

RECURRENT_FUNCTIONS: Mapping[RecurrentFunction, MaskedLayer] = MappingProxyType(
    {
        torch.lstm: masked_lstm_layer,
        torch.gru: masked_gru_layer,
        torch.rnn_tanh: masked_rnn_tanh_layer,
        torch.rnn_relu: masked_rnn_relu_layer,
    }
)
"""The masked layer of each of torch's recurrent functions."""

MASKED_LAYERS: tuple[MaskedLayer, ...] = tuple(RECURRENT_FUNCTIONS.values())
"""The four masked layers."""


class RecurrentConfig(NamedTuple):
    """The layout of recurrent layers, by the arguments of `torch.lstm` of the same names.

    Example:
        >>> RecurrentConfig(True, 2, 0.0, True, bidirectional=True).directions
        2
    """

    has_biases: bool
    num_layers: int
    dropout: float
    train: bool
    bidirectional: bool

    @property
    def directions(self) -> int:
        """The number of directions of each layer."""
        return 2 if self.bidirectional else 1


@dataclass(frozen=True, eq=False)
class RecurrentCall:
    """A call of `torch.lstm`, `torch.gru`, `torch.rnn_tanh` or `torch.rnn_relu`, padded or packed.

    Attributes:
        function: the torch function.
        data: the input: ``(T, B, in)``, ``(B, T, in)`` with ``batch_first``, or packed rows ``(N, in)``.
        batch_sizes: the number of rows of each step.
        weights: the parameters of each layer and direction.
        states: the initial states, each ``(layers * directions, B, width)``: hidden, and for an LSTM cell.
        config: the layout of the layers.
        batch_first: whether padded input has its batch first.
        packed_sizes: the batch sizes of packed input as a tensor; None for padded input.

    Example:
        >>> gru, zeros = torch.nn.GRU(2, 3), torch.zeros(1, 4, 3)
        >>> args = (torch.ones(5, 4, 2), zeros, gru.all_weights[0], True, 1, 0.0, True, False, False)
        >>> call = RecurrentCall.parse(torch.gru, args)
        >>> call.batch, call.weights[0].weight_hh is gru.weight_hh_l0
        (4, True)
        >>> output, h_n = call.run_masked(RecurrentMasks([torch.zeros(4, 3)]))
        >>> output.shape
        torch.Size([5, 4, 3])
    """

    function: RecurrentFunction
    data: Tensor
    batch_sizes: list[int]
    weights: list[LayerWeights]
    states: States
    config: RecurrentConfig
    batch_first: bool = False
    packed_sizes: Tensor | None = None

    @classmethod
    def parse(cls, function: RecurrentFunction, args: Sequence[Any]) -> RecurrentCall:
        """Parse the arguments of a call.

        Args:
            function: one of `RECURRENT_FUNCTIONS`.
            args: its positional arguments, ``(input, hx, weights, has_biases, layers, dropout, train, bidirectional,
                batch_first)`` or ``(data, batch_sizes, hx, weights, has_biases, layers, dropout, train,
                bidirectional)``.

        Raises:
            ValueError: if ``function`` is not one of `RECURRENT_FUNCTIONS`, or there are not 9 arguments.
        """
        if function not in RECURRENT_FUNCTIONS:
            allowed = ", ".join(f"torch.{known.__name__}" for known in RECURRENT_FUNCTIONS)
            raise ValueError(f"function must be one of {allowed}, got {function!r}.")
        if len(args) != 9:
            raise ValueError(f"args must be the 9 positional arguments of a recurrent function, got {len(args)}.")
        data, sizes, batch_first = args[0], None, False
        if isinstance(args[3], (list, tuple)):
            sizes, hx, flat, *layout = args[1:]
            batch_sizes = sizes.tolist()
        else:
            hx, flat, *layout, batch_first = args[1:]
            batch, steps = data.shape[:2] if batch_first else data.shape[1::-1]
            batch_sizes = [batch] * steps
        config = RecurrentConfig(*layout)
        states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        return cls(function, data, batch_sizes, _split_weights(flat, config), states, config, batch_first, sizes)

    @property
    def packed(self) -> bool:
        """Whether the input is packed."""
        return self.packed_sizes is not None

    @property
    def batch(self) -> int:
        """The batch size, ``B``."""
        return self.batch_sizes[0]

    @property
    def drops_between_layers(self) -> bool:
        """Whether units are dropped between the layers."""
        return self.config.train and self.config.dropout > 0 and self.config.num_layers > 1

    def replace(self, *, weights: Sequence[LayerWeights] | None = None, dropout: float | None = None) -> RecurrentCall:
        """Return the same call with other weights or another dropout between layers.

        Args:
            weights: the parameters of each layer and direction; None keeps them.
            dropout: the dropout probability, in [0, 1]; None keeps it.
        """
        config = self.config if dropout is None else self.config._replace(dropout=dropout)
        return dataclasses.replace(self, weights=self.weights if weights is None else list(weights), config=config)

    def run(self) -> tuple[Tensor, ...]:
        """Call the torch function, and return its output and final states."""
        hx = _as_given(self.states)
        flat = [tensor for weights in self.weights for tensor in weights if tensor is not None]
        if self.packed:
            return self.function(self.data, self.packed_sizes, hx, flat, *self.config)
        return self.function(self.data, hx, flat, *self.config, self.batch_first)

    def run_masked(self, masks: RecurrentMasks, *, single_layers: bool = False) -> tuple[Tensor, ...]:
        """Run the call under masks.

        Layers and directions without a recurrent mask run on the stock kernel.

        Args:
            masks: the masks.
            single_layers: whether to run layer by layer without any mask, too, with dropout between them that comes
                from torch's generators. On the CPU the result is the same.

        Returns:
            The output and final states, in the shapes of the torch function.

        Raises:
            ValueError: if the number or the shape of masks doesn't match the call.
        """
        self._check_counts(masks)
        if masks.empty and not single_layers:
            return self.run()
        rows = self.data
        if not self.packed:
            rows = (rows.transpose(0, 1) if self.batch_first else rows).flatten(0, 1)  # (T * B, in)
        rows, finals = self._run_layers(rows, masks)
        rows = self._under_locked_mask(rows, masks.output, "output")
        states = (torch.stack(states) for states in zip(*finals, strict=True))
        if self.packed:
            return rows, *states
        output = rows.view(len(self.batch_sizes), self.batch, rows.shape[1])
        return output.transpose(0, 1) if self.batch_first else output, *states

    def _check_counts(self, masks: RecurrentMasks) -> None:
        # Shapes are checked where a mask is applied: to a function mode, reading a mask here would be its first use.
        check_mask_count("recurrent", masks.recurrent, len(self.weights), "layers x directions")
        if masks.inputs:
            check_mask_count("inputs", masks.inputs, self.config.num_layers, "one a layer, or none at all")

    def _under_locked_mask(self, rows: Tensor, mask: Tensor | None, name: str) -> Tensor:
        """Apply a mask ``(B, 1, D)`` to rows ``(N, D)``."""
        if mask is None:
            return rows
        check_locked_mask(name, mask, self.batch, rows.shape[1])
        return mask_sequences(rows, self.batch_sizes, mask.squeeze(1))

    def _run_layers(self, rows: Tensor, masks: RecurrentMasks) -> tuple[Tensor, list[States]]:
        """Return the last layer's output, ``(N, directions * P)``, and the states of each layer and direction."""
        config, finals = self.config, []
        mirrored = mirrored_rows(self.batch_sizes, rows.device) if config.bidirectional else None
        for layer in range(config.num_layers):
            if layer > 0 and config.dropout and config.train:
                rows = F.dropout(rows, config.dropout)
            if masks.inputs:
                rows = self._under_locked_mask(rows, masks.inputs[layer], f"inputs[{layer}]")
            outputs = []
            for direction in range(config.directions):
                index = layer * config.directions + direction
                turned = mirrored if direction == 1 else None
                given = rows if turned is None else rows[turned]
                output, final = self._run_direction(given, index, masks.recurrent[index])
                outputs.append(output if turned is None else output[turned])
                finals.append(final)
            rows = torch.cat(outputs, -1) if config.bidirectional else outputs[0]
        return rows, finals

    def _run_direction(self, rows: Tensor, index: int, mask: Tensor | None) -> tuple[Tensor, States]:
        """Run one layer in one direction, without a mask on the stock kernel."""
        state, weights = tuple(s[index] for s in self.states), self.weights[index]
        if mask is not None:
            width = weights.weight_hh.shape[1]
            check_recurrent_mask("recurrent", index, mask, len(self.batch_sizes), self.batch, width)
            return RECURRENT_FUNCTIONS[self.function](rows, self.batch_sizes, state, mask, weights)
        sizes = torch.tensor(self.batch_sizes) if self.packed_sizes is None else self.packed_sizes
        config = RecurrentConfig(self.config.has_biases, 1, 0.0, train=True, bidirectional=False)
        hx = tuple(s.unsqueeze(0) for s in state)
        call = RecurrentCall(self.function, rows, self.batch_sizes, [weights], hx, config, packed_sizes=sizes)
        if rows.is_cuda:
            _torch.accept_split_weights()
        output, *finals = call.run()
        return output, tuple(final.squeeze(0) for final in finals)


def masked_call(call: RecurrentCall, masks: RecurrentMasks) -> tuple[Tensor, ...]:
    """Run a call under masks, visibly to function modes.

    Args:
        call: the call.
        masks: the masks.

    Returns:
        The output and final states, in the shapes of the torch function.

    Raises:
        ValueError: if the number or the shape of masks doesn't match the call.

    Example:
        >>> gru, zeros = torch.nn.GRU(2, 3), torch.zeros(1, 4, 3)
        >>> args = (torch.ones(5, 4, 2), zeros, gru.all_weights[0], True, 1, 0.0, True, False, False)
        >>> output, _ = masked_call(RecurrentCall.parse(torch.gru, args), RecurrentMasks([torch.ones(4, 3)]))
        >>> torch.allclose(output, gru(args[0])[0], atol=1e-6)
        True
    """
    tensors = (call.data, *call.states)
    if has_torch_function(tensors):
        result: tuple[Tensor, ...] = handle_torch_function(masked_call, tensors, call, masks)
        return result
    return call.run_masked(masks)


def _as_given(states: States) -> Tensor | States:
    """Return states as the torch functions take them: a tuple for an LSTM, one tensor for the others."""
    return states if len(states) > 1 else states[0]


def _split_weights(flat: Sequence[Tensor], config: RecurrentConfig) -> list[LayerWeights]:
    """Group flat weights by layer and direction."""
    width = len(flat) // (config.num_layers * config.directions)
    # Without biases, what follows the two weights, if anything, is the projection.
    names = [name for name in LayerWeights._fields if config.has_biases or not name.startswith("bias")]
    groups = (flat[start : start + width] for start in range(0, len(flat), width))
    return [LayerWeights(**dict(zip(names, group, strict=False))) for group in groups]
