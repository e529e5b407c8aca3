"""Predict each next word of a long text."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from lightning_advdrop._deprecation import warn_renamed
from lightning_advdrop._ranges import check_range
from lightning_advdrop.callbacks import regularized_loss
from lightning_advdrop.nn import AWDLSTM, AWDLSTMOutput
from lightning_advdrop.tasks.checkpoints import check_shapes, saved_vocabulary
from lightning_advdrop.tasks.next_words import Batch, NextWordTask, State
from lightning_advdrop.tasks.perplexity import token_loss


class LanguageModelingTask(NextWordTask):
    """Model a language with an AWD-LSTM: PTB, WikiText-2 or any text.

    Batches are pairs of tokens and the tokens that follow them, ``(T, B)`` each. Each batch continues the one before:
    hidden states are carried from batch to batch, in training those of the base pass, without a gradient. They start
    from zeros in each epoch and each pass over an evaluation split, and are part of a checkpoint.

    Logs ``train/loss`` (cross-entropy), ``train/perplexity``, ``val/loss``, ``val/perplexity``, ``test/loss`` and
    ``test/perplexity`` once an epoch, over all tokens alike, and ``train/loss_step`` every ``log_every_n_steps`` of the
    trainer. ``training_step`` hands itself to every regularizer callback of the trainer. The defaults are the published
    settings of Merity et al. (2018) as used by Park et al. (2019), section "Language modelling": SGD, whose rate is
    scaled by the length of each batch, and gradients clipped by norm.

    Args:
        vocabulary_size: the number of words; None takes it from the ``vocabulary`` of the trainer's data module.
        embedding_size: the features of a word, at least 1.
        hidden_size: the units of each layer but for the last one of a model with tied weights, at least 1.
        num_layers: the number of LSTM layers, at least 1.
        learning_rate: of SGD for a batch of ``reference_length`` steps, above 0.
        reference_length: the rate is scaled by a batch's steps divided by this, at least 1; where gradients are
            accumulated, by the mean over their batches. None for a rate that does not depend on the length.
        weight_decay: of SGD, at least 0.
        clip_norm: the largest norm of the gradient, above 0; None leaves clipping to the trainer, whose own setting
            always goes first.
        rate_decay: what the rate is multiplied by in each epoch after ``decay_after``, in (0, 1].
        decay_after: the epochs with the full rate, at least 0.
        alpha: activation regularisation: the factor of the mean square of the last layer's outputs after dropout.
        beta: temporal activation regularisation: the factor of the mean square of the last layer's changes from step to
            step.
        pretrained: a checkpoint of an earlier run whose weights a fit starts from, for fine-tuning.
        network: ``word_dropout``, ``input_dropout``, ``hidden_dropout``, ``output_dropout``, ``weight_dropout`` and
            ``tie_weights`` of `lightning_advdrop.nn.AWDLSTM`.

    Raises:
        TypeError: for another argument.
        ValueError: if an argument is out of its range.

    Example:
        >>> task = LanguageModelingTask(vocabulary_size=9, embedding_size=4, hidden_size=6)
        >>> task(torch.zeros(5, 2, dtype=torch.int64)).logits.shape
        torch.Size([5, 2, 9])
    """

    #: Regularizers don't wrap ``training_step``: it asks them itself.
    delegates_regularization = True
    model: AWDLSTM
    known_by = ("model.embedding.weight", "model.rnns.0.weight_hh_l0", "model.decoder.bias")
    without_data = "give vocabulary_size"
    document_tasks = ("pretrain",)
    data_kind = "a running text, such as TextFileDataModule, or of documents with task='pretrain',"

    def __init__(
        self,
        vocabulary_size: int | None = None,
        embedding_size: int = 400,
        hidden_size: int = 1150,
        num_layers: int = 3,
        *,
        learning_rate: float = 30.0,
        reference_length: int | None = 70,
        weight_decay: float = 1.2e-6,
        clip_norm: float | None = 0.25,
        rate_decay: float = 1.0,
        decay_after: int = 0,
        alpha: float = 0.0,
        beta: float = 0.0,
        pretrained: str | None = None,
        **network: Any,
    ) -> None:
        super().__init__()
        try:
            bound = inspect.signature(AWDLSTM).bind(1, embedding_size, hidden_size, num_layers, **network)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}.__init__() {error}") from None
        bound.apply_defaults()
        network.update(bound.kwargs)  # for the hyperparameters
        self.network = network
        self.sizes = embedding_size, hidden_size, num_layers
        self.save_hyperparameters()
        check_range("above 0", learning_rate=learning_rate)
        check_range("above 0 or None", clip_norm=clip_norm)
        check_range("at least 0", weight_decay=weight_decay, decay_after=decay_after, alpha=alpha, beta=beta)
        check_range("at least 1 or None", vocabulary_size=vocabulary_size, reference_length=reference_length)
        check_range("in (0, 1]", rate_decay=rate_decay)
        self.learning_rate, self.weight_decay, self.clip_norm = learning_rate, weight_decay, clip_norm
        self.reference_length, self.rate_decay, self.decay_after = reference_length, rate_decay, decay_after
        self.alpha, self.beta = alpha, beta
        self.pretrained = pretrained
        self._lengths: list[int] = []
        if vocabulary_size is not None:
            self.make_parts()

    @property
    def words(self) -> list[str] | None:
        """The words of ``vocabulary``; deprecated."""
        warn_renamed("LanguageModelingTask.words", "vocabulary.words")
        return None if self.vocabulary is None else self.vocabulary.words

    @words.setter
    def words(self, words: list[str]) -> None:
        warn_renamed("LanguageModelingTask.words", "vocabulary.words")
        self.vocabulary = saved_vocabulary({"vocabulary": words})

    def make_model(self) -> None:
        """Make the network for ``vocabulary_size`` words, or for those of the vocabulary."""
        size = self.hparams["vocabulary_size"] if self.vocabulary is None else len(self.vocabulary)
        self.model = AWDLSTM(size, *self.sizes, **self.network)

    def configure_model(self) -> None:
        """Make the network for the data module's vocabulary, and check that it has as many words.

        Raises:
            ValueError: if the number of words is not known, or the network is of another vocabulary than the data.
        """
        super().configure_model()
        if self.vocabulary is not None and self.model.embedding.num_embeddings != len(self.vocabulary):
            raise ValueError(
                f"vocabulary_size must be the {len(self.vocabulary)} words of the data, or None, got "
                f"{self.model.embedding.num_embeddings}."
            )

    def on_fit_start(self) -> None:
        """Take the pretrained weights, unless a run is resumed.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            ValueError: if it can't be read, is of another model, or of another vocabulary than the data.
        """
        if self.pretrained is not None:
            weights = self.read("pretrained", self.pretrained, self.vocabulary)["state_dict"]
            check_shapes(f"pretrained={self.pretrained!r}", "settings", weights, self.state_dict())
            self.load_state_dict(weights)
            self.pretrained = None  # of a second fit the first one's weights are the start

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the network or check the vocabulary, and restore the states; nothing else is started from then."""
        super().on_load_checkpoint(checkpoint)
        self.pretrained = None

    def forward(self, tokens: Tensor, states: list[State] | None = None) -> AWDLSTMOutput:
        """Predict each next word, see `lightning_advdrop.nn.AWDLSTM`.

        Args:
            tokens: words' numbers, int64, ``(T, B)``.
            states: what an earlier call returned, for text that goes on; None for zeros.

        Raises:
            RuntimeError: if the number of words is not known yet.
            ValueError: if the tokens have another shape.
        """
        if not self.made:
            raise RuntimeError(
                "vocabulary_size must be known, got None: give it, or call configure_model with the data."
            )
        output: AWDLSTMOutput = self.model(tokens, states)
        return output

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy, plus the penalties of the trainer's regularizers and of the activations."""
        tokens, targets = batch
        states = self.states_before("train", batch_idx, tokens)
        of_words: list[Tensor] = []

        def supervised(output: AWDLSTMOutput) -> Tensor:
            of_words.append(token_loss(output.logits, targets))
            return of_words[-1] + self._activation_penalty(output)

        loss = regularized_loss(self, lambda: self(tokens, states), supervised, target=targets, complete=True)
        self.keep_states("train", loss.prediction.states)
        self._log_words("train", of_words[0], targets)
        total: Tensor = loss.total
        return total

    def evaluate(self, stage: str, batch: Batch, batch_idx: int) -> None:
        """Log the loss and the perplexity."""
        tokens, targets = batch
        self._log_words(stage, token_loss(self._go_on(stage, tokens, batch_idx).logits, targets), targets)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the most probable next ``word`` and the ``log_probability`` of the true one, ``(T, B)`` each.

        The latter is 0 where the target is no token.
        """
        tokens, targets = batch
        logits = self._go_on("predict", tokens, batch_idx).logits
        return {"word": logits.argmax(-1), "log_probability": -token_loss(logits, targets, reduction="none")}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Keep the number of steps, by which the rate is scaled."""
        self._lengths.append(len(batch[0]))

    def configure_optimizers(self) -> Any:
        """Make SGD, with a rate that falls after some epochs if ``rate_decay`` says so."""
        optimizer = torch.optim.SGD(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        if self.rate_decay == 1:
            return optimizer
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: self.rate_decay ** max(0, epoch + 1 - self.decay_after)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take a step whose rate is scaled by the mean length of its batches; the optimizer's own rate stays."""
        rates = [group["lr"] for group in optimizer.param_groups]
        lengths, self._lengths = self._lengths, []  # of all batches whose gradients have been accumulated
        factor = 1.0 if self.reference_length is None else sum(lengths) / len(lengths) / self.reference_length
        try:
            for group in optimizer.param_groups:
                group["lr"] *= factor
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        finally:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def _go_on(self, stage: str, tokens: Tensor, batch_idx: int) -> AWDLSTMOutput:
        output: AWDLSTMOutput = self(tokens, self.states_before(stage, batch_idx, tokens))
        self.keep_states(stage, output.states)
        return output

    def _activation_penalty(self, output: AWDLSTMOutput) -> Tensor | float:
        penalty: Tensor | float = 0.0
        if self.alpha:
            penalty = penalty + self.alpha * output.outputs.square().mean()
        if self.beta and len(output.raw_outputs) > 1:
            penalty = penalty + self.beta * output.raw_outputs.diff(dim=0).square().mean()
        return penalty


load_language_model = LanguageModelingTask.load
