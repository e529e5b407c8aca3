"""Classify documents, with labelled and unlabelled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import Accuracy, F1Score, Metric

from lightning_advdrop._lightning import trainer_callbacks
from lightning_advdrop._ranges import check_range
from lightning_advdrop.callbacks import RegularizerCallback, regularized_loss
from lightning_advdrop.datamodules.text_batches import TextBatch, encode_documents
from lightning_advdrop.functional import cross_entropy_to_label
from lightning_advdrop.nn import DocumentClassifier
from lightning_advdrop.tasks.base_task import clip_all_but_embeddings, decaying_adam, evaluating
from lightning_advdrop.tasks.document_classification import joined, predicted_classes
from lightning_advdrop.tasks.text_pretraining import load_pretrained
from lightning_advdrop.tasks.vocabulary import VocabularyTask

TrainingBatch = Mapping[str, TextBatch | None]
"""The parts ``labelled`` and, where there are any, ``unlabelled``."""


class Classified(NamedTuple):
    """The result of `TextClassificationTask.classify` for one text.

    Attributes:
        label: the number of the most probable class.
        name: its name, or the number as a string where classes have none.
        probability: its probability, in [0, 1].
    """

    label: int
    name: str
    probability: float


class TextClassificationTask(VocabularyTask):
    """Semi-supervised classification of documents by an LSTM that was pre-trained as a language model.

    The supervised loss is that of the labelled documents. The trainer's regularizers get the predictions of labelled
    and unlabelled documents together, from one pass, in which the loss leaves the unlabelled ones out; without an
    active regularizer they are left out of the pass as well. The network is made for the vocabulary of the data module.

    Logs ``train/loss`` (cross-entropy), ``train/error``, ``val/loss``, ``val/error`` (the share of documents that are
    classified wrongly), ``val/f1`` (of the class 1; of more than two classes the mean), and the same of ``test``, once
    an epoch, and ``train/loss_step`` every ``log_every_n_steps`` of the trainer. The defaults are the published
    settings. The published evaluation is of a moving average of the weights: add
    `lightning_advdrop.callbacks.ExponentialAveraging` to the trainer's callbacks.

    Source: Miyato, Dai & Goodfellow, "Adversarial Training Methods for Semi-Supervised Text Classification", ICLR 2017
    (arXiv 1605.07725); Park et al., AAAI 2019 (arXiv 1904.09816), section "Semi-supervised text classification".

    Args:
        num_classes: at least 2; None takes it from the data module. Two classes have a single logit.
        embedding_size: the features of a word, at least 1.
        hidden_size: the LSTM's units in each direction, at least 1.
        classifier_size: the units of the hidden layer behind it, at least 1.
        dropout: the share of embedding features that is dropped, in [0, 1).
        bidirectional: whether documents are read backward as well, by an embedding and LSTM of their own.
        learning_rate: of Adam, above 0.
        decay: what the rate is multiplied by at each step, in (0, 1].
        clip_norm: the largest norm of all gradients but the embedding's together, above 0; None leaves clipping to the
            trainer, whose own setting always goes first.
        pretrained: a checkpoint of `lightning_advdrop.tasks.TextPretrainingTask`, from which embedding and LSTM start;
            None for random ones.
        pretrained_backward: the same for the backward direction, from a model trained with ``reverse=True``.

    Raises:
        ValueError: if an argument is out of its range, or ``pretrained_backward`` is given without
            ``bidirectional``.

    Example:
        >>> TextClassificationTask(embedding_size=16, hidden_size=32).learning_rate
        0.0005
    """

    #: Regularizers don't wrap ``training_step``: it asks them itself.
    delegates_regularization = True
    model: DocumentClassifier
    data_task = "classify"
    data_kind = "documents with task='classify'"
    known_by = ("model.encoder.embedding.weight", "model.head.0.weight")

    def __init__(
        self,
        num_classes: int | None = None,
        embedding_size: int = 256,
        hidden_size: int = 1024,
        classifier_size: int = 30,
        dropout: float = 0.5,
        bidirectional: bool = False,
        learning_rate: float = 5e-4,
        decay: float = 0.9998,
        clip_norm: float | None = 1.0,
        pretrained: str | Path | None = None,
        pretrained_backward: str | Path | None = None,
    ) -> None:
        super().__init__()
        if num_classes is not None and num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, or None for that of the data, got {num_classes}.")
        check_range(
            "at least 1", embedding_size=embedding_size, hidden_size=hidden_size, classifier_size=classifier_size
        )
        check_range("in [0, 1)", dropout=dropout)
        check_range("above 0", learning_rate=learning_rate)
        check_range("in (0, 1]", decay=decay)
        check_range("above 0 or None", clip_norm=clip_norm)
        if pretrained_backward is not None and not bidirectional:
            raise ValueError(f"pretrained_backward={str(pretrained_backward)!r} needs bidirectional=True, got False.")
        pretrained, pretrained_backward = (
            None if path is None else str(path) for path in (pretrained, pretrained_backward)
        )
        self.save_hyperparameters()
        self.num_classes = num_classes
        self.sizes = embedding_size, hidden_size, classifier_size, dropout
        self.bidirectional = bidirectional
        self.learning_rate = learning_rate
        self.decay = decay
        self.clip_norm = clip_norm
        self.pretrained = {"pretrained": pretrained, "pretrained_backward": pretrained_backward}

    def make_model(self) -> None:
        """Make the classifier."""
        assert self.vocabulary is not None
        assert self.text is not None
        found = self.text.num_classes
        self.classes = found if self.num_classes is None else self.num_classes
        if found > self.classes:
            raise ValueError(f"num_classes must be at least {found}, that of the data, got {self.classes}.")
        self.model = DocumentClassifier(
            self.vocabulary.counts,
            self.classes,
            *self.sizes,
            self.text.padding_index,
            bidirectional=self.bidirectional,
        )

    def make_metrics(self) -> Mapping[str, Metric]:
        """Make the error rate, and the F1 score: of two classes that of the class 1, else the mean of all."""
        task: Any = {"task": "binary" if self.classes == 2 else "multiclass", "num_classes": self.classes}
        return {"error": 1 - Accuracy(**task, average="micro"), "f1": F1Score(**task, average="macro")}

    def start_from(self, data: LightningDataModule) -> None:
        """Take word vectors from the data module if it has any, then what has been pre-trained.

        Raises:
            ValueError: if a pre-trained model has another vocabulary, other sizes or the other direction.
        """
        encoders = {"pretrained": self.model.encoder, "pretrained_backward": self.model.backward_encoder}
        vectors: Tensor | None = data.vectors  # type: ignore[attr-defined]
        for argument, encoder in encoders.items():
            if encoder is None:
                continue
            if vectors is not None:
                encoder.embedding.take(vectors)
            path, backward = self.pretrained[argument], argument == "pretrained_backward"
            if path is not None:
                assert self.vocabulary is not None
                load_pretrained(encoder, argument, path, vocabulary=self.vocabulary, reverse=backward)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Compute the logits ``(B, classes)``, or ``(B, 1)`` of two classes.

        Args:
            tokens: the words' numbers, ``(B, T)``, padded at the right.
            lengths: how many are real, ``(B,)``, from 1 to ``T``.
        """
        logits: Tensor = self.model(tokens, lengths)
        return logits

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Return the cross-entropy of the labelled documents, plus the penalties of the trainer's regularizers."""
        labelled = batch["labelled"]
        assert labelled is not None
        tokens, lengths, labels = self._documents(labelled, batch.get("unlabelled"))
        loss = regularized_loss(
            self,
            lambda: self(tokens, lengths),
            lambda logits: cross_entropy_to_label(logits, labels),
            target=labels,
            real_steps=torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(1),
            complete=True,
        )
        # The labelled ones come first.
        self._log_documents("train", loss.supervised, loss.prediction[: len(labelled.labels)], labelled.labels)
        total: Tensor = loss.total
        return total

    def evaluate(self, stage: str, batch: TextBatch, batch_idx: int) -> None:
        """Log the loss, the error rate and the F1 score."""
        logits = self(batch.tokens, batch.lengths)
        self._log_documents(stage, cross_entropy_to_label(logits, batch.labels), logits, batch.labels)

    def predict_step(self, batch: TextBatch | Sequence[str], batch_idx: int = 0) -> dict[str, Tensor]:
        """Classify documents, or raw texts.

        Args:
            batch: documents, or strings as a loader over a list of texts gives them.
            batch_idx: not used.

        Returns:
            The predicted class, ``label`` ``(B,)``, and each class's ``probabilities`` ``(B, classes)``.
        """
        if not isinstance(batch, TextBatch):
            batch = self._encode(batch)
        logits = self(batch.tokens, batch.lengths)
        probabilities = (F.pad(logits, (1, 0)) if logits.shape[-1] == 1 else logits).softmax(-1)
        return {"label": predicted_classes(logits), "probabilities": probabilities}

    @torch.no_grad()
    def classify(self, texts: Sequence[str], batch_size: int = 64) -> list[Classified]:
        """Classify raw texts, for inference and without a trainer.

        Args:
            texts: any number of strings.
            batch_size: how many are read at once, at least 1.

        Raises:
            TypeError: if ``texts`` is a string itself.
            ValueError: if ``batch_size`` is below 1, or the task has no vocabulary yet.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of strings, got the string {texts[:20]!r}.")
        check_range("at least 1", batch_size=batch_size)
        names = (self.text and self.text.class_names) or ()
        found = []
        with evaluating(self):
            for start in range(0, len(texts), batch_size):
                result = self.predict_step(texts[start : start + batch_size])
                for label, probabilities in zip(
                    result["label"].tolist(), result["probabilities"].tolist(), strict=True
                ):
                    name = names[label] if label < len(names) else str(label)
                    found.append(Classified(label, name, probabilities[label]))
        return found

    def configure_optimizers(self) -> Any:
        """Make Adam, with a rate that falls from step to step."""
        return decaying_adam(self, self.learning_rate, self.decay)

    def clip_as_published(self, optimizer: Optimizer) -> None:
        """Clip the norm of all gradients but the embedding's."""
        if self.clip_norm is not None:
            clip_all_but_embeddings(self, self.clip_norm)

    def _documents(self, labelled: TextBatch, unlabelled: TextBatch | None) -> TextBatch:
        """The documents of one pass: the unlabelled ones belong to it where a regularizer looks at them."""
        regularizers = [each for each in trainer_callbacks(self.trainer) if isinstance(each, RegularizerCallback)]
        active = any(each.current_weight(self.trainer) > 0 for each in regularizers)
        if unlabelled is None or not active:
            return labelled
        assert self.text is not None
        return joined(labelled, unlabelled, self.text.padding_index)

    def _encode(self, texts: Sequence[str]) -> TextBatch:
        if self.vocabulary is None or self.text is None:
            raise ValueError("texts need a task with a vocabulary, got one that was neither trained nor loaded.")
        encoded = encode_documents(list(texts), self.vocabulary, self.text.max_tokens, self.text.tokenizer)
        return TextBatch(*(part.to(self.device) for part in encoded))

    def _log_documents(self, stage: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._log(stage, loss, len(labels), predicted_classes(logits.detach()), labels)


load_text_classifier = TextClassificationTask.load
