"""Pre-train a document classifier as a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.optim import Optimizer

from lightning_advdrop._ranges import check_range
from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.nn import DocumentEncoder, DocumentLanguageModel
from lightning_advdrop.tasks.base_task import clip_all_but_embeddings, decaying_adam
from lightning_advdrop.tasks.checkpoints import check_shapes
from lightning_advdrop.tasks.next_words import Batch, NextWordTask


class TextPretrainingTask(NextWordTask):
    """A language model over the documents of a data set; classifiers start from its embedding and LSTM.

    It reads contiguous batches ``(T, B)`` of all documents, one after the other: the LSTM's state is carried from
    batch to batch, and gradients end at the beginning of each. With the data module's ``reverse=True`` it becomes the
    backward model of a bidirectional classifier. The network is made for the vocabulary of the data module.

    Logs ``train/loss`` (nats a word), ``train/perplexity``, ``val/loss``, ``val/perplexity``, ``test/loss`` and
    ``test/perplexity`` once an epoch, and ``train/loss_step`` every ``log_every_n_steps`` of the trainer. The defaults
    are the published settings, but for the adaptive softmax in place of a sampled one.

    Source: Dai & Le, "Semi-supervised Sequence Learning", NeurIPS 2015 (arXiv 1511.01432); Miyato, Dai & Goodfellow,
    ICLR 2017 (arXiv 1605.07725), section 4.

    Args:
        embedding_size: the features of a word, at least 1.
        hidden_size: the LSTM's units, at least 1.
        dropout: the share of embedding features that is dropped, in [0, 1).
        cutoffs: of the adaptive softmax, see `lightning_advdrop.nn.DocumentLanguageModel`.
        learning_rate: of Adam, above 0.
        decay: what the rate is multiplied by at each step, in (0, 1].
        clip_norm: the largest norm of all gradients but the embedding's together, above 0; None leaves clipping to the
            trainer, whose own setting always goes first.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> TextPretrainingTask(embedding_size=16, hidden_size=32).learning_rate
        0.001
    """

    model: DocumentLanguageModel
    data_task = "pretrain"
    data_kind = "documents with task='pretrain'"
    known_by = ("model.encoder.embedding.weight", "model.softmax.head.weight")

    def __init__(
        self,
        embedding_size: int = 256,
        hidden_size: int = 1024,
        dropout: float = 0.5,
        cutoffs: Sequence[int] = (2000, 20000),
        learning_rate: float = 1e-3,
        decay: float = 0.9999,
        clip_norm: float | None = 1.0,
    ) -> None:
        super().__init__()
        check_range("at least 1", embedding_size=embedding_size, hidden_size=hidden_size)
        check_range("in [0, 1)", dropout=dropout)
        check_range("above 0", learning_rate=learning_rate)
        check_range("in (0, 1]", decay=decay)
        check_range("above 0 or None", clip_norm=clip_norm)
        self.save_hyperparameters()
        self.sizes = embedding_size, hidden_size, dropout
        self.cutoffs = list(cutoffs)
        self.learning_rate = learning_rate
        self.decay = decay
        self.clip_norm = clip_norm

    def make_model(self) -> None:
        """Make the language model."""
        assert self.vocabulary is not None
        assert self.text is not None
        self.model = DocumentLanguageModel(self.vocabulary.counts, *self.sizes, self.text.padding_index, self.cutoffs)

    def start_from(self, data: LightningDataModule) -> None:
        """Take the data module's pretrained word vectors, if it has any."""
        vectors: Tensor | None = data.vectors  # type: ignore[attr-defined]
        if vectors is not None:
            self.model.encoder.embedding.take(vectors)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the negative log-likelihood of the next words."""
        loss = self._loss("train", batch, batch_idx)
        self._log_words("train", loss, batch[1])
        return loss

    def evaluate(self, stage: str, batch: Batch, batch_idx: int) -> None:
        """Log the loss and the perplexity."""
        self._log_words(stage, self._loss(stage, batch, batch_idx), batch[1])

    def configure_optimizers(self) -> Any:
        """Make Adam, with a rate that falls from step to step."""
        return decaying_adam(self, self.learning_rate, self.decay)

    def clip_as_published(self, optimizer: Optimizer) -> None:
        """Clip the norm of all gradients but the embedding's."""
        if self.clip_norm is not None:
            clip_all_but_embeddings(self, self.clip_norm)

    def _loss(self, stage: str, batch: Batch, batch_idx: int) -> Tensor:
        tokens, targets = (part.t() for part in batch)  # (B, T)
        carried = self.states_before(stage, batch_idx, batch[0])
        outputs, states = self.model(tokens, None if carried is None else carried[0])
        self.keep_states(stage, [states])
        return self.model.loss(outputs, targets)


def load_pretrained(
    encoder: DocumentEncoder, argument: str, path: str | Path, *, vocabulary: Vocabulary, reverse: bool
) -> None:
    """Give an encoder the embedding and LSTM of a pre-trained language model.

    Args:
        encoder: what gets the weights.
        argument: the name of the argument that ``path`` was given as, for messages.
        path: a checkpoint of a `TextPretrainingTask`.
        vocabulary: the words of the data, which have to be those of the checkpoint.
        reverse: whether the encoder reads from the last word to the first, as the language model must as well.

    Raises:
        MissingCheckpointError: if there is no such file.
        ValueError: if it can't be read, is another checkpoint, or does not fit.
    """
    where, prefix = f"{argument}={str(path)!r}", "model.encoder."
    checkpoint = TextPretrainingTask.read(argument, path, vocabulary)
    found = checkpoint["text"]["reverse"]
    if found != reverse:
        raise ValueError(f"{where} must be of a model trained with reverse={reverse}, got reverse={found}.")
    named = checkpoint["state_dict"].items()
    weights = {name.removeprefix(prefix): weight for name, weight in named if name.startswith(prefix)}
    check_shapes(where, "embedding_size and hidden_size", weights, encoder.state_dict())
    encoder.load_state_dict(weights)
