"""Models of documents: an encoder, the language model that pre-trains it, and the classifier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_advdrop.nn.embedding import LockedDropout, NormalizedEmbedding
from lightning_advdrop.nn.modules import MaskedLSTM

LSTMStates = tuple[Tensor, Tensor]
"""The hidden and the cell state of an LSTM, each ``(1, B, H)``."""


class DocumentEncoder(nn.Module):
    """A one-layer LSTM over normalised word embeddings with locked dropout.

    Source: Miyato, Dai & Goodfellow, ICLR 2017 (arXiv 1605.07725), section 2.

    Args:
        counts: the number of occurrences of each word, see `NormalizedEmbedding`.
        embedding_size: the width of the embeddings.
        hidden_size: the LSTM's units, ``H``.
        dropout: the probability of dropping a feature of the embeddings, at every step of a document, in [0, 1].
        padding_index: the index of the padding word; None for none.

    Example:
        >>> encoder = DocumentEncoder([1, 1, 1, 1], embedding_size=6, hidden_size=8)
        >>> encoder(torch.tensor([[3, 1, 2], [2, 0, 0]]), torch.tensor([3, 1])).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        counts: Sequence[int],
        embedding_size: int = 256,
        hidden_size: int = 1024,
        dropout: float = 0.5,
        padding_index: int | None = None,
    ) -> None:
        super().__init__()
        self.embedding = NormalizedEmbedding(counts, embedding_size, padding_index)
        self.dropout = LockedDropout(dropout)
        self.lstm = MaskedLSTM(embedding_size, hidden_size, batch_first=True)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the outputs at the last real token, ``(B, H)``, of documents ``(B, T)`` of the lengths ``(B,)``."""
        # Padding comes behind the last real token, so that documents need not be packed: on the CPU, the backward pass
        # of packed sequences takes ten times as long.
        outputs, _ = self.lstm(self.dropout(self.embedding(tokens)))
        found: Tensor = outputs[torch.arange(len(tokens), device=tokens.device), lengths - 1]
        return found

    def read_on(self, tokens: Tensor, states: LSTMStates | None = None) -> tuple[Tensor, LSTMStates]:
        """Read the next part of texts that are longer than a batch.

        Args:
            tokens: the next words of each text, int64, ``(B, T)``.
            states: the LSTM's states after the part before; None at the beginning.

        Returns:
            The output at each word, ``(B, T, H)``, and the states after the last word.
        """
        outputs, states = self.lstm(self.dropout(self.embedding(tokens)), states)
        return outputs, states


class LanguageModelOutput(NamedTuple):
    """The output of `DocumentLanguageModel`.

    Attributes:
        outputs: the LSTM's output at each word, ``(B, T, H)``, which regularizers compare.
        states: the LSTM's states after the last word.
    """

    outputs: Tensor
    states: LSTMStates


class DocumentLanguageModel(nn.Module):
    """A language model whose encoder pre-trains a document classifier.

    The softmax is torch's adaptive one (Grave et al., 2017, arXiv 1609.04309), for which words are sorted by frequency.

    Args:
        counts: the number of occurrences of each word, see `NormalizedEmbedding`.
        embedding_size: the width of the embeddings.
        hidden_size: the LSTM's units, ``H``, at least ``4 ** len(cutoffs)``.
        dropout: the probability of dropping a feature of the embeddings, in [0, 1], see `DocumentEncoder`.
        padding_index: the index of the padding word; None for none.
        cutoffs: the word indices at which the clusters of the softmax begin, at least 1 and rising. Those beyond the
            vocabulary are ignored; if none is left, there is one in its middle.

    Raises:
        ValueError: if the cutoffs don't rise, one is below 1, or ``hidden_size`` is too small for their number.

    Example:
        >>> model = DocumentLanguageModel([1] * 20, embedding_size=6, hidden_size=8, cutoffs=[10])
        >>> tokens = torch.arange(12).view(2, 6)
        >>> outputs, states = model(tokens[:, :-1])
        >>> model.loss(outputs, targets=tokens[:, 1:]).shape
        torch.Size([])
    """

    def __init__(
        self,
        counts: Sequence[int],
        embedding_size: int = 256,
        hidden_size: int = 1024,
        dropout: float = 0.5,
        padding_index: int | None = None,
        cutoffs: Sequence[int] = (2000, 20000),
    ) -> None:
        super().__init__()
        if any(cutoff < 1 for cutoff in cutoffs) or any(low >= high for low, high in itertools.pairwise(cutoffs)):
            raise ValueError(f"cutoffs must be at least 1 and rise, got {list(cutoffs)}.")
        used = [cutoff for cutoff in cutoffs if cutoff < len(counts)] or [len(counts) // 2]
        if hidden_size < 4 ** len(used):
            raise ValueError(
                f"hidden_size must be at least {4 ** len(used)} for {len(used)} cutoffs below the number of words, got "
                f"{hidden_size}."
            )
        self.encoder = DocumentEncoder(counts, embedding_size, hidden_size, dropout, padding_index)
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(hidden_size, len(counts), used)

    def forward(self, tokens: Tensor, states: LSTMStates | None = None) -> LanguageModelOutput:
        """Read the next words ``(B, T)`` of each text, see `DocumentEncoder.read_on`."""
        return LanguageModelOutput(*self.encoder.read_on(tokens, states))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean negative log-likelihood, in nats, of words ``(B, T)`` after outputs ``(B, T, H)``."""
        found: Tensor = self.softmax(outputs.flatten(0, 1), targets.flatten()).loss
        # Clusters without a target get a gradient of zero, since distributed training waits for every gradient.
        untouched = torch.stack([part.flatten()[0] for part in self.softmax.tail.parameters()]).sum()
        return found + 0 * untouched


class DocumentClassifier(nn.Module):
    """A document classifier: an encoder for one or both directions, a hidden ReLU layer, and a linear layer.

    The hidden layer gets the encoders' outputs at the last token that they read.

    Source: Miyato, Dai & Goodfellow, ICLR 2017 (arXiv 1605.07725), section 2 and, for both directions, section 4.

    Args:
        counts: the number of occurrences of each word, see `NormalizedEmbedding`.
        num_classes: the number of classes, at least 2. Two classes have one logit, that of the class 1.
        embedding_size: the width of the embeddings.
        hidden_size: the units of each direction's LSTM.
        classifier_size: the units of the hidden layer.
        dropout: the probability of dropping a feature of the embeddings, in [0, 1], see `DocumentEncoder`.
        padding_index: the index of the padding word; None for none.
        bidirectional: whether a second encoder reads documents from the last word to the first.

    Example:
        >>> model = DocumentClassifier([1, 1, 1, 1], 2, embedding_size=6, hidden_size=8, bidirectional=True)
        >>> model(torch.tensor([[3, 1, 2], [2, 0, 0]]), torch.tensor([3, 1])).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        counts: Sequence[int],
        num_classes: int,
        embedding_size: int = 256,
        hidden_size: int = 1024,
        classifier_size: int = 30,
        dropout: float = 0.5,
        padding_index: int | None = None,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        sizes = embedding_size, hidden_size, dropout, padding_index
        self.encoder = DocumentEncoder(counts, *sizes)
        self.backward_encoder = DocumentEncoder(counts, *sizes) if bidirectional else None
        self.head = nn.Sequential(
            nn.Linear(hidden_size * (2 if bidirectional else 1), classifier_size),
            nn.ReLU(),
            nn.Linear(classifier_size, 1 if num_classes == 2 else num_classes),
        )

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Compute the logits of documents.

        Args:
            tokens: the word indices, int64, ``(B, T)``, padded at the right.
            lengths: the number of real tokens of each document, int64, ``(B,)``.

        Returns:
            The logits, ``(B, classes)``, or ``(B, 1)`` for two classes.
        """
        read = [self.encoder(tokens, lengths)]
        if self.backward_encoder is not None:
            read.append(self.backward_encoder(reversed_documents(tokens, lengths), lengths))
        logits: Tensor = self.head(torch.cat(read, -1))
        return logits


def reversed_documents(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Reverse documents; padding stays at the right.

    Args:
        tokens: the word indices, ``(B, T)``, padded at the right.
        lengths: the number of real tokens of each document, ``(B,)``.

    Example:
        >>> reversed_documents(torch.tensor([[3, 1, 2], [2, 4, 0]]), torch.tensor([3, 2]))
        tensor([[2, 1, 3],
                [4, 2, 0]])
    """
    steps = torch.arange(tokens.shape[1], device=tokens.device)
    mirrored = lengths.unsqueeze(1) - 1 - steps
    return tokens.gather(1, torch.where(mirrored < 0, steps, mirrored))
