"""Predicting each next word of a long text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_advdrop.callbacks import regularized_loss
from lightning_advdrop.nn import AWDLSTM, AWDLSTMOutput
from lightning_advdrop.tasks.carried import CarriedStates, State, all_columns, own_columns
from lightning_advdrop.tasks.clipping import PublishedClipping
from lightning_advdrop.tasks.perplexity import IGNORED, TokenPerplexity, token_loss
from lightning_advdrop.tasks.rates import scaled_rate
from lightning_advdrop.tasks.settings import check_settings
from lightning_advdrop.tasks.weights import WORDS, check_kind, load_weights

Batch = tuple[Tensor, Tensor]

# What a checkpoint holds beside Lightning's own and the words: the hidden states with which training goes on.
_STATES = "carried_states"


class LanguageModelingTask(PublishedClipping):
    """Language modelling with an AWD-LSTM: PTB, WikiText-2 or any text.

    Batches are pairs of tokens and the tokens that follow them, ``(T, B)`` each, and go on where the one before ended:
    hidden states are carried from batch to batch, in training those of the base pass, without a gradient. They start
    from zeros in each epoch and each pass over an evaluation split, and are part of a checkpoint.

    Logs ``train/loss`` (cross-entropy), ``train/perplexity``, ``val/loss``, ``val/perplexity``, ``test/loss`` and
    ``test/perplexity`` once an epoch, over all tokens alike, and ``train/loss_step`` every ``log_every_n_steps`` of the
    trainer. ``training_step`` hands itself to every regularizer callback of the trainer. The defaults are the published
    settings of Merity et al. (2018) as used by Park et al. (2019), section "Language modelling": SGD, whose rate is
    scaled by the length of each batch, and gradients clipped by norm.

    Args:
        vocabulary_size: the number of words; None takes it from the ``vocabulary`` of the trainer's data module.
        embedding_size: see `lightning_advdrop.nn.AWDLSTM`.
        hidden_size: see there.
        num_layers: see there.
        word_dropout: see there.
        input_dropout: see there.
        hidden_dropout: see there.
        output_dropout: see there.
        weight_dropout: see there.
        tie_weights: see there.
        learning_rate: of SGD for a batch of ``reference_length`` steps, above 0.
        reference_length: the rate is scaled by a batch's steps divided by this, at least 1; None for a rate that does
            not depend on the length.
        weight_decay: of SGD, at least 0.
        clip_norm: the largest norm of the gradient, above 0; None leaves clipping to the trainer, whose own setting
            always goes first.
        rate_decay: what the rate is multiplied by in each epoch after ``decay_after``, in (0, 1].
        decay_after: the epochs with the full rate, at least 0.
        alpha: activation regularisation: the factor of the mean square of the last layer's outputs after dropout.
        beta: temporal activation regularisation: the factor of the mean square of the last layer's changes from step to
            step.
        pretrained: a checkpoint of an earlier run whose weights a fit starts from, for fine-tuning.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> task = LanguageModelingTask(vocabulary_size=9, embedding_size=4, hidden_size=6)
        >>> task(torch.zeros(5, 2, dtype=torch.int64)).logits.shape
        torch.Size([5, 2, 9])
    """

    #: Regularizers don't wrap ``training_step``: it asks them itself.
    delegates_regularization = True

    def __init__(
        self,
        vocabulary_size: int | None = None,
        embedding_size: int = 400,
        hidden_size: int = 1150,
        num_layers: int = 3,
        word_dropout: float = 0.1,
        input_dropout: float = 0.4,
        hidden_dropout: float = 0.3,
        output_dropout: float = 0.4,
        weight_dropout: float = 0.5,
        tie_weights: bool = True,
        learning_rate: float = 30.0,
        reference_length: int | None = 70,
        weight_decay: float = 1.2e-6,
        clip_norm: float | None = 0.25,
        rate_decay: float = 1.0,
        decay_after: int = 0,
        alpha: float = 0.0,
        beta: float = 0.0,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_settings(self.hparams)
        self.learning_rate, self.weight_decay, self.clip_norm = learning_rate, weight_decay, clip_norm
        self.reference_length, self.rate_decay, self.decay_after = reference_length, rate_decay, decay_after
        self.alpha, self.beta = alpha, beta
        self.pretrained = pretrained
        self.words: list[str] | None = None
        self.train_perplexity, self.val_perplexity, self.test_perplexity = (TokenPerplexity() for _ in range(3))
        self.carried = CarriedStates()
        self._length = 1
        self.model: AWDLSTM | None = None
        if vocabulary_size is not None:
            self._make_model(vocabulary_size)

    def configure_model(self) -> None:
        """Makes the model for the data module's vocabulary. Without a trainer, a checkpoint may tell the vocabulary.

        Raises:
            ValueError: if the number of words is not known, or the model is of another vocabulary than the data.
        """
        vocabulary = self._data_vocabulary()
        if self.model is None and vocabulary is None and self._trainer is not None:
            raise ValueError(
                "vocabulary_size must be given where the trainer has no data module with a vocabulary, got None."
            )
        if vocabulary is not None:
            if self.words is not None:
                vocabulary.check_same(self.words, "The model")
            self.words = list(vocabulary.words)
            if self.model is None:
                self._make_model(len(self.words))
            self._check_size(len(self.words))

    def on_fit_start(self) -> None:
        """Takes the pretrained weights, unless a run is resumed.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            ValueError: if it can't be read, is of another model, or of another vocabulary than the data.
        """
        if self.pretrained is not None:
            load_weights(self, "pretrained", self.pretrained, self._data_vocabulary())
            self.pretrained = None  # of a second fit the first one's weights are the start

    def forward(self, tokens: Tensor, states: list[State] | None = None) -> AWDLSTMOutput:
        """Predicts each next word, see `lightning_advdrop.nn.AWDLSTM`.

        Args:
            tokens: words' numbers, int64, ``(T, B)``.
            states: what an earlier call returned, for text that goes on; None for zeros.

        Raises:
            RuntimeError: if the number of words is not known yet.
            ValueError: if the tokens have another shape.
        """
        if self.model is None:
            raise RuntimeError("The model is made when its number of words is known; call configure_model before.")
        output: AWDLSTMOutput = self.model(tokens, states)
        return output

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The cross-entropy, plus the penalties of the trainer's regularizers and of the activations."""
        tokens, targets = batch
        states = self.carried.before("train", batch_idx, tokens)
        loss = regularized_loss(
            self, lambda: self(tokens, states), lambda output: token_loss(output.logits, targets), target=targets
        )
        self.carried.keep("train", loss.prediction.states)
        self._log("train", targets, loss.supervised)
        total: Tensor = loss.total + self._activation_penalty(loss.prediction)
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs loss and perplexity."""
        self._evaluate("val", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs loss and perplexity."""
        self._evaluate("test", batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The most probable next ``word`` and the ``log_probability`` of the true one, ``(T, B)`` each.

        The latter is 0 where the target is no token.
        """
        tokens, targets = batch
        logits = self._go_on("predict", tokens, batch_idx).logits
        return {"word": logits.argmax(-1), "log_probability": -token_loss(logits, targets, reduction="none")}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Keeps the number of steps, by which the rate is scaled."""
        self._length = len(batch[0])

    def configure_optimizers(self) -> Any:
        """SGD, with a rate that falls after some epochs if ``rate_decay`` says so."""
        optimizer = torch.optim.SGD(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        if self.rate_decay == 1:
            return optimizer
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: self.rate_decay ** max(0, epoch + 1 - self.decay_after)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """A step whose rate is scaled by the batch's length; the optimizer's own rate stays what it was."""
        factor = 1.0 if self.reference_length is None else self._length / self.reference_length
        with scaled_rate(optimizer, factor):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def clip_as_published(self, optimizer: Optimizer) -> None:
        """Clips the norm of all gradients."""
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, self.clip_norm, "norm")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the vocabulary's words, a list of str, and the hidden states that training goes on with."""
        checkpoint[WORDS] = self.words
        states = self.carried.get("train")
        checkpoint[_STATES] = None if states is None else all_columns(states, self._trainer)

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes the hidden states, and makes the model if it is not there yet.

        Raises:
            ValueError: if the checkpoint is one of another task, or of another vocabulary than the data.
        """
        check_kind(checkpoint, "ckpt_path")
        words = checkpoint.get(WORDS)
        vocabulary = self._data_vocabulary()
        if words is not None and vocabulary is not None:
            vocabulary.check_same(words, "The checkpoint")
        self.words = self.words if words is None else list(words)
        if self.model is None:
            self._make_model(len(checkpoint["state_dict"]["model.embedding.weight"]))
        self.pretrained = None
        states = checkpoint.get(_STATES)
        if states is not None:
            self.carried.keep("train", own_columns(states, self._trainer))

    # Helpers.

    def _make_model(self, vocabulary_size: int) -> None:
        names = ("embedding_size", "hidden_size", "num_layers", "tie_weights")
        dropouts = (name for name in self.hparams if name.endswith("_dropout"))
        self.model = AWDLSTM(vocabulary_size, **{name: self.hparams[name] for name in (*names, *dropouts)})

    def _check_size(self, words: int) -> None:
        assert self.model is not None
        if self.model.embedding.num_embeddings != words:
            raise ValueError(
                f"vocabulary_size must be the {words} words of the data, or None, "
                f"got {self.model.embedding.num_embeddings}."
            )

    def _data_vocabulary(self) -> Any:
        return getattr(getattr(self._trainer, "datamodule", None), "vocabulary", None)

    def _go_on(self, stage: str, tokens: Tensor, batch_idx: int) -> AWDLSTMOutput:
        output: AWDLSTMOutput = self(tokens, self.carried.before(stage, batch_idx, tokens))
        self.carried.keep(stage, output.states)
        return output

    def _evaluate(self, stage: str, batch: Batch, batch_idx: int) -> None:
        tokens, targets = batch
        self._log(stage, targets, token_loss(self._go_on(stage, tokens, batch_idx).logits, targets))

    def _activation_penalty(self, output: AWDLSTMOutput) -> Tensor | float:
        penalty: Tensor | float = 0.0
        if self.alpha:
            penalty = penalty + self.alpha * output.outputs.square().mean()
        if self.beta and len(output.raw_outputs) > 1:
            penalty = penalty + self.beta * output.raw_outputs.diff(dim=0).square().mean()
        return penalty

    def _log(self, stage: str, targets: Tensor, loss: Tensor) -> None:
        count = int((targets != IGNORED).sum())
        perplexity: TokenPerplexity = getattr(self, f"{stage}_perplexity")
        perplexity.update(loss.detach(), count)
        self.log(f"{stage}/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        self.log(f"{stage}/perplexity", perplexity, on_step=False, on_epoch=True, prog_bar=stage == "val")
        if stage == "train":
            # An epoch of the full configurations takes long: its mean alone would say nothing until it ends.
            self.log("train/loss_step", loss.detach(), on_step=True, on_epoch=False, batch_size=count)
