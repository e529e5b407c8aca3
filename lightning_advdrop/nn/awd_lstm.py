"""The AWD-LSTM language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_advdrop._ranges import check_range
from lightning_advdrop.nn.embedding import check_indices
from lightning_advdrop.nn.own_dropout import Place, dropped_weight, locked_dropout, word_dropout

LSTMState = tuple[Tensor, Tensor]


class AWDLSTMOutput(NamedTuple):
    """The output of `AWDLSTM`.

    Attributes:
        logits: the logits of each next word, ``(T, B, V)``.
        states: the last hidden and cell state of each layer, ``(1, B, H)`` each.
        outputs: the last layer's outputs after dropout, ``(T, B, D)``.
        raw_outputs: the last layer's outputs before dropout, ``(T, B, D)``.
    """

    logits: Tensor
    states: list[LSTMState]
    outputs: Tensor
    raw_outputs: Tensor


class AWDLSTM(nn.Module):
    """A language model of stock LSTM layers with dropout on words, activations and weights.

    It drops whole words, the same units of a sequence at every step (locked dropout) before, between and after the
    layers, and single hidden-to-hidden weights (DropConnect). The layers are plain `torch.nn.LSTM` modules. Each kind
    of dropout is also a mask site (see `lightning_advdrop.masking.find_sites`), where a given mask replaces the
    network's own.

    Source: Merity, Keskar & Socher, "Regularizing and Optimizing LSTM Language Models", ICLR 2018 (arXiv 1708.02182).

    Args:
        vocabulary_size: the number of words, ``V``.
        embedding_size: the width of the embeddings, ``E``.
        hidden_size: the units of each layer. With tied weights the last layer has ``E``.
        num_layers: the number of layers.
        word_dropout: the probability of dropping a word from the embedding table, in [0, 1).
        input_dropout: the probability of locked dropout before the first layer, in [0, 1).
        hidden_dropout: the probability of locked dropout between layers, in [0, 1).
        output_dropout: the probability of locked dropout after the last layer, in [0, 1).
        weight_dropout: the probability of dropping a hidden-to-hidden weight, in [0, 1).
        tie_weights: whether the decoder shares the embedding's weight.

    Raises:
        ValueError: if a size is below 1, or a probability is not in [0, 1).

    Example:
        >>> model = AWDLSTM(10, embedding_size=4, hidden_size=6, num_layers=2)
        >>> output = model(torch.zeros(5, 3, dtype=torch.int64))
        >>> output.logits.shape, [tuple(h.shape) for h, c in output.states]
        (torch.Size([5, 3, 10]), [(1, 3, 6), (1, 3, 4)])
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int = 400,
        hidden_size: int = 1150,
        num_layers: int = 3,
        *,
        word_dropout: float = 0.1,
        input_dropout: float = 0.4,
        hidden_dropout: float = 0.3,
        output_dropout: float = 0.4,
        weight_dropout: float = 0.5,
        tie_weights: bool = True,
    ) -> None:
        super().__init__()
        sizes = {
            "vocabulary_size": vocabulary_size,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
        }
        rates = {
            "word_dropout": word_dropout,
            "input_dropout": input_dropout,
            "hidden_dropout": hidden_dropout,
            "output_dropout": output_dropout,
            "weight_dropout": weight_dropout,
        }
        _check(sizes, rates)
        self.word_dropout, self.weight_dropout = word_dropout, weight_dropout
        self.input_dropout, self.hidden_dropout, self.output_dropout = input_dropout, hidden_dropout, output_dropout
        last = embedding_size if tie_weights else hidden_size
        widths = [embedding_size, *[hidden_size] * (num_layers - 1), last]
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.rnns = nn.ModuleList(nn.LSTM(*pair) for pair in pairwise(widths))
        self.decoder = nn.Linear(last, vocabulary_size)
        if tie_weights:
            self.decoder.weight = self.embedding.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize embedding and decoder; the layers keep torch's initialization."""
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        if self.decoder.weight is not self.embedding.weight:
            nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: Tensor, states: Sequence[LSTMState] | None = None) -> AWDLSTMOutput:
        """Predict each next word.

        Args:
            tokens: the word indices, int64, ``(T, B)``.
            states: the states that an earlier call returned, for text that continues; None for zeros.

        Raises:
            ValueError: if ``tokens`` has not two dimensions, or ``states`` is not as long as there are layers.
        """
        if tokens.dim() != 2:
            raise ValueError(f"tokens must have the shape (steps, batch), got {tuple(tokens.shape)}.")
        check_indices("tokens", tokens, self.embedding.num_embeddings)
        if states is not None and len(states) != len(self.rnns):
            raise ValueError(f"states must hold one for each of the {len(self.rnns)} layers, got {len(states)}.")
        x = word_dropout(tokens, self.embedding.weight, self.word_dropout, self.training)  # (T, B, E)
        finals = []
        for index, (layer, rate, places) in enumerate(self._layers()):
            x = locked_dropout(x, rate, self.training, places)
            x, state = self._run_layer(layer, x, None if states is None else states[index])  # (T, B, H)
            finals.append(state)
        outputs = locked_dropout(x, self.output_dropout, self.training, [_output(layer)])
        return AWDLSTMOutput(self.decoder(outputs), finals, outputs, x)

    def _layers(self) -> Iterator[tuple[nn.LSTM, float, list[Place]]]:
        """Yield each layer, the dropout probability before it, and the sites at that place."""
        before: nn.LSTM | None = None
        for layer in self.rnns:
            assert isinstance(layer, nn.LSTM)
            place = [Place("input", layer.all_weights[0][0])]
            if before is None:
                yield layer, self.input_dropout, place
            else:
                yield layer, self.hidden_dropout, [_output(before), *place]
            before = layer

    def _run_layer(self, layer: nn.LSTM, x: Tensor, state: LSTMState | None) -> tuple[Tensor, LSTMState]:
        """Run a layer with DropConnect, by the function that the layer itself calls."""
        weight_ih, weight_hh, *biases = layer.all_weights[0]
        dropped = dropped_weight(weight_hh, self.weight_dropout, self.training)
        if state is None:
            zeros = x.new_zeros(1, x.shape[1], layer.hidden_size)
            state = zeros, zeros
        weights = [weight_ih, dropped, *biases]
        output, h, c = torch.lstm(x, state, weights, True, 1, 0.0, self.training, False, False)
        return output, (h, c)


def _output(layer: nn.LSTM) -> Place:
    return Place("output", layer.all_weights[0][1])


def _check(sizes: dict[str, int], rates: dict[str, float]) -> None:
    check_range("at least 1", **sizes)
    check_range("in [0, 1)", **rates)
