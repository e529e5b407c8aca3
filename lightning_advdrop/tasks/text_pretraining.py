"""Pre-training a document classifier as a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.optim import Optimizer

from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.nn import DocumentLanguageModel
from lightning_advdrop.tasks.carried import CarriedStates, all_columns, own_columns
from lightning_advdrop.tasks.training import check_sizes, check_training, decaying_adam
from lightning_advdrop.tasks.vocabulary import TextSettings, VocabularyTask

Batch = tuple[Tensor, Tensor]


class TextPretrainingTask(VocabularyTask):
    """A language model over the documents of a data set; classifiers start from its embedding and LSTM.

    It reads contiguous batches ``(T, B)`` of all documents, one after the other: the LSTM's state is carried from
    batch to batch, and gradients end at the beginning of each. With the data module's ``reverse=True`` it becomes the
    backward model of a bidirectional classifier. The network is made for the vocabulary of the data module.

    Logs ``train/loss`` (nats a word), ``val/loss``, ``val/perplexity``, ``test/loss`` and ``test/perplexity`` once an
    epoch, and ``train/loss_step`` every ``log_every_n_steps`` of the trainer. The defaults are the published settings,
    but for the adaptive softmax in place of a sampled one.

    Source: Dai & Le, "Semi-supervised Sequence Learning", NeurIPS 2015 (arXiv 1511.01432); Miyato, Dai & Goodfellow,
    ICLR 2017 (arXiv 1605.07725), section 4.

    Args:
        embedding_size: the features of a word, at least 1.
        hidden_size: the LSTM's units, at least 1.
        dropout: the share of embedding features that is dropped, in [0, 1).
        cutoffs: of the adaptive softmax, see `lightning_advdrop.nn.DocumentLanguageModel`.
        learning_rate: of Adam, above 0.
        decay: what the rate is multiplied by at each step, in (0, 1].
        clip_norm: the largest norm of all gradients together, above 0; None leaves clipping to the trainer, whose own
            setting always goes first.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> TextPretrainingTask(embedding_size=16, hidden_size=32).learning_rate
        0.001
    """

    model: DocumentLanguageModel
    data_task = "pretrain"

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
        check_sizes(embedding_size=embedding_size, hidden_size=hidden_size)
        check_training(dropout, learning_rate, decay, clip_norm)
        self.save_hyperparameters()
        self.sizes = embedding_size, hidden_size, dropout
        self.cutoffs = list(cutoffs)
        self.learning_rate = learning_rate
        self.decay = decay
        self.clip_norm = clip_norm
        self.carried = CarriedStates()

    def build(self, vocabulary: Vocabulary, text: TextSettings) -> None:
        """Makes the language model."""
        self.model = DocumentLanguageModel(vocabulary.counts, *self.sizes, text.padding_index, self.cutoffs)

    def start_from(self, data: LightningDataModule) -> None:
        """Takes the data module's pretrained word vectors, if it has any."""
        vectors: Tensor | None = data.vectors  # type: ignore[attr-defined]
        if vectors is not None:
            self.model.encoder.embedding.take(vectors)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The negative log-likelihood of the next words."""
        loss = self._loss("train", batch, batch_idx)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=batch[0].numel(), sync_dist=True)
        self.log("train/loss_step", loss.detach(), on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs loss and perplexity."""
        self._evaluate("val", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs loss and perplexity."""
        self._evaluate("test", batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Logs the perplexity."""
        self._log_perplexity("val")

    def on_test_epoch_end(self) -> None:
        """Logs the perplexity."""
        self._log_perplexity("test")

    def configure_optimizers(self) -> Any:
        """Adam, with a rate that falls from step to step."""
        return decaying_adam(self, self.learning_rate, self.decay)

    def clip_as_published(self, optimizer: Optimizer) -> None:
        """Clips the norm of all gradients."""
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, self.clip_norm, "norm")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the vocabulary, and the state that a training that is resumed within an epoch goes on from."""
        super().on_save_checkpoint(checkpoint)
        states = self.carried.get("train")
        checkpoint["carried_states"] = None if states is None else all_columns(states, self._trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks the vocabulary, and takes the carried state up again."""
        super().on_load_checkpoint(checkpoint)
        states = checkpoint.get("carried_states")
        if states is not None:
            self.carried.keep("train", own_columns(states, self._trainer))

    def _loss(self, stage: str, batch: Batch, batch_idx: int) -> Tensor:
        tokens, targets = (part.t() for part in batch)  # (B, T)
        carried = self.carried.before(stage, batch_idx, batch[0])
        outputs, states = self.model(tokens, None if carried is None else carried[0])
        self.carried.keep(stage, [states])
        return self.model.loss(outputs, targets)

    def _evaluate(self, stage: str, batch: Batch, batch_idx: int) -> None:
        loss = self._loss(stage, batch, batch_idx)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=batch[0].numel(), sync_dist=True)

    def _log_perplexity(self, stage: str) -> None:
        mean = self.trainer.callback_metrics.get(f"{stage}/loss")
        if mean is not None:
            self.log(f"{stage}/perplexity", torch.as_tensor(mean).exp(), prog_bar=True)
