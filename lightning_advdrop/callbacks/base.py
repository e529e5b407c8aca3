"""The callback that adds a regularizer to Lightning: sites, weight, schedule, logging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from lightning_advdrop.callbacks.batches import SteppedBatch
from lightning_advdrop.callbacks.compatibility import check_both_losses, check_trainable, warn_of_finders
from lightning_advdrop.callbacks.deciding import DecidingCallback
from lightning_advdrop.callbacks.denormals import flush_denormals
from lightning_advdrop.callbacks.description import SiteTable, describe_sites
from lightning_advdrop.callbacks.other_noise import warn_of_other_noise
from lightning_advdrop.callbacks.own_metrics import watch_log
from lightning_advdrop.callbacks.penalties import Nonfinite, NonfinitePenalties, mean_penalty
from lightning_advdrop.callbacks.penalty_metrics import PenaltyMetrics
from lightning_advdrop.callbacks.recording import ForwardRecorder, took_part
from lightning_advdrop.callbacks.settings import send_settings
from lightning_advdrop.callbacks.state_keys import KeyedBySettings
from lightning_advdrop.callbacks.training_step import WrapsTrainingStep
from lightning_advdrop.functional import sigmoid_rampup
from lightning_advdrop.masking import MaskSite, RecordedForward, SiteSpecs, find_sites
from lightning_advdrop.regularizers import Passes, Penalty, Regularizer
from lightning_advdrop.regularizers.fields import at_least_one, at_least_zero, one_of
from lightning_advdrop.regularizers.predictions import Output, Target


class RegularizerCallback(KeyedBySettings, DecidingCallback, PenaltyMetrics, NonfinitePenalties, WrapsTrainingStep):
    """Add a regularizer's penalty to the loss of any LightningModule under automatic optimization.

    A module with a true attribute ``delegates_regularization`` asks for its penalty itself, by
    `lightning_advdrop.callbacks.regularized_loss`. The ``training_step`` of any other is wrapped during the fit, and
    nothing of that is left afterwards.

    The callback draws random numbers from its own generator. Its passes leave the global generators, buffers and
    attributes unchanged. With a weight of 0 there is no further pass, and training is the plain one.

    Logged are ``train/penalty`` (the sum of all callbacks' terms) and, under ``log_prefix``, ``weight``, ``divergence``
    (the penalty before its weight) and the regularizer's own metrics: means over each epoch, and values of single steps
    under the same names with ``_step`` at the end.

    Args:
        regularizer: the method, which computes the penalty.
        sites: where masks act, see `lightning_advdrop.masking.find_sites`: a kind (``recurrent``, ``weight``,
            ``embedding``, ``input``, ``hidden``, ``output``, ``dropout``), the path of a module with a kind
            (``"encoder.lstm:recurrent"``), a list of these, or a mapping that gives each a rate of its own.
        weight: the factor of the penalty, at least 0.
        rampup_epochs: the number of epochs over which the weight grows to its value, at least 0, see
            `lightning_advdrop.functional.sigmoid_rampup`; 0 for none.
        module: path of the submodule whose output is compared. None finds the outermost one that contains the sites and
            is called; ``""`` is the LightningModule itself.
        output: which part of its output is the prediction: an index, a key or a callable. None takes a tensor itself,
            the part named ``logits`` or ``prediction``, or the first of a tuple.
        target: where a batch has the labels, for regularizers that need them, and to choose a divergence where the
            module calls no known loss: an index, a key or a callable.
        log_every_n_steps: how often the metrics of single steps go to the loggers, at least 1; None follows the
            trainer. Their means over each epoch are logged too.
        call: which of several forward passes in one training step counts, from 0. None takes all that the loss depends
            on, and their mean.
        padding_mask: where a batch tells real examples or time steps from padding (an index, a key or a callable): a
            tensor ``(B,)``, or ``(B, T)`` for predictions with a time dimension, 1 where they are real and 0 at
            padding; None where there is no padding.
        nonfinite: what happens where the penalty is NaN or infinite: ``raise``, or ``skip``, which leaves the penalty
            out of this step and logs how many steps of the epoch that were, as ``skipped``.
        mask: the old name of ``padding_mask``, deprecated.
        class_dim: the dimension of the prediction that holds the classes. None takes that of the module's own loss
            (``(B, C, T)`` for torch's cross_entropy), else the last.
        ignore_index: the class index of what has no label. None takes that of the module's own loss, else -100. Time
            steps with another index than -100 count as padding.

    Raises:
        ValueError: if the weight, ``rampup_epochs`` or ``call`` is negative, ``log_every_n_steps`` is below 1, a kind
            of site or ``nonfinite`` is unknown, or ``padding_mask`` is given under both names.
    """

    def __init__(
        self,
        regularizer: Regularizer,
        sites: SiteSpecs = "recurrent",
        *,
        weight: float = 1.0,
        rampup_epochs: int = 0,
        module: str | None = None,
        output: Output = None,
        target: Target = 1,
        log_every_n_steps: int | None = None,
        call: int | None = None,
        padding_mask: Target | None = None,
        nonfinite: Nonfinite = "raise",
        mask: Target | None = None,
        class_dim: int | None = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(sites, module, output, call, padding_mask, mask, class_dim)
        if not isinstance(regularizer, Regularizer):
            raise TypeError(f"regularizer must be a Regularizer, such as AdversarialDropout(), got {regularizer!r}.")
        at_least_zero("weight", weight)
        at_least_zero("rampup_epochs", rampup_epochs)
        if log_every_n_steps is not None:
            at_least_one("log_every_n_steps", log_every_n_steps)
        one_of(Nonfinite)("nonfinite", nonfinite)
        self.nonfinite: Nonfinite = nonfinite
        self.regularizer = regularizer
        if not hasattr(type(self), "log_prefix"):
            self.log_prefix = regularizer.log_prefix
        self.weight = weight
        self.rampup_epochs = rampup_epochs
        self.target = target
        self.log_every_n_steps = log_every_n_steps
        self.ignore_index = ignore_index
        self.sites = []
        self._missing: set[MaskSite] = set()
        self._trained = False  # whether a batch of this epoch has been
        self._looked_at_noise = False
        #: Called with each penalty that is computed, one for each forward pass of a training step.
        self.listeners: list[Callable[[Penalty], None]] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.regularizer!r}, sites={self.site_specs!r}, weight={self.weight})"

    @property
    def method_name(self) -> str | None:
        """The name of the method; None where that of the class tells it."""
        return type(self.regularizer).__name__ if type(self) is RegularizerCallback else None

    def describe(self, module: nn.Module) -> SiteTable:
        """Return a table of the sites in a module and of what they don't cover, see `describe_sites`.

        Args:
            module: what is to be trained; it needs no trainer.

        Raises:
            ValueError: if the module has no such site.
        """
        return describe_sites(module, find_sites(module, self.site_specs))

    # What a training step asks for.

    def current_weight(self, trainer: Trainer) -> float:
        """Return the weight in the trainer's current epoch; 0 if the penalty is always 0."""
        if not self.regularizer.active(self.sites):
            return 0.0
        return self.weight * sigmoid_rampup(trainer.current_epoch, self.rampup_epochs)

    def recorded_forward(self, module: nn.Module) -> RecordedForward:
        """Make the recorder of a forward of a module, to be run once in this step and then again under masks."""
        return self.regularizer.record(module, self.sites, self._generator)

    def recorder(self, pl_module: LightningModule) -> ForwardRecorder:
        """Make what records the forward passes of a training step."""
        return ForwardRecorder(
            pl_module,
            self.sites,
            self.module,
            record=self.recorded_forward,
            output=self.output,
            call=self.call,
            counted=self.counted,
        )

    @property
    def both_losses(self) -> bool:
        """Whether the regularizer asks for the loss of other passes."""
        return self.regularizer.both_losses

    @property
    def halves_loss(self) -> bool:
        """Whether it makes the supervised loss the mean of two passes'."""
        return self.regularizer.both_losses and self.regularizer.halves_loss

    @property
    def keeps_base_graph(self) -> bool:
        """Whether the penalty has a gradient to the base pass."""
        return self.regularizer.keeps_base_graph

    def prepare(
        self, pl_module: LightningModule, calls: Sequence[Passes], batch: SteppedBatch | None = None
    ) -> tuple[list[Passes], list[Tensor]]:
        """Take from the forward passes of a step what needs their graph.

        Args:
            pl_module: the module that is trained.
            calls: the forward passes.
            batch: the batch, in which labels and padding are found; None where the passes have them.

        Returns:
            The passes with labels and padding, and what gradients of the loss are wanted at.

        Raises:
            ValueError: if a prediction has no gradient, or the batch no labels or padding mask where they should be.
        """
        labelled = [self.labelled(call, batch) for call in calls]
        wanted: list[Tensor] = []
        with suppress(FloatingPointError):  # `term` finds it again
            for call in labelled:
                wanted += self.regularizer.prepare(call)
        return labelled, wanted

    def term(self, pl_module: LightningModule, calls: Sequence[Passes]) -> Tensor | None:
        """Compute and log this callback's term of the loss: the weighted mean penalty over the passes of a step.

        Args:
            pl_module: the module that is trained.
            calls: what `prepare` returned; none where the weight is 0.

        Returns:
            A scalar with a graph, or None where there are no passes.

        Raises:
            ValueError: if a prediction has no gradient.
            FloatingPointError: if a prediction or the penalty is NaN or infinite, with ``nonfinite="raise"``.
        """
        weight = self.current_weight(pl_module.trainer)
        if not calls:
            self.log_penalty(pl_module, weight, None, 1)
            return None
        found = self.finite(pl_module.trainer, lambda: self.penalty(calls))
        skipped = self.skipped if self.nonfinite == "skip" else None
        self.log_penalty(pl_module, weight, found, len(calls[0].base), skipped)
        return None if found is None else found.weighted(weight)

    def penalty(self, calls: Sequence[Passes]) -> Penalty:
        """Compute the mean penalty over the forward passes of one training step, before its weight.

        Args:
            calls: the passes, at least one.

        Raises:
            ValueError: if a prediction has no gradient.
            FloatingPointError: if it or the penalty is NaN or infinite.
        """
        for call in calls:
            self._missing -= took_part(self._missing, call.recorded.observed)
        penalties = [self.regularizer.evaluate(call) for call in calls]
        if not self._looked_at_noise:
            self._looked_at_noise = True
            warn_of_other_noise(self.regularizer, calls[0])
        found = mean_penalty(penalties)
        for listener in self.listeners:
            for penalty in penalties:
                listener(penalty)
        return found

    # Lightning's hooks.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what can't work, and seed the generator."""
        if stage != "fit":
            return
        check_trainable(self, trainer, pl_module)
        check_both_losses(self, pl_module)
        warn_of_finders(trainer)
        flush_denormals(trainer.strategy.root_device)
        self.seed_generator(trainer)
        self.forget_comparison()
        self.counted, self._warned, self.told_graph, self._looked_at_noise = None, False, frozenset(), False
        watch_log(pl_module, self)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the sites, and log the settings."""
        self.sites = find_sites(pl_module, self.site_specs)
        # A module that stands for functional dropout within it need not drop anything itself.
        self._missing = {site for site in self.sites if not site.stands_in}
        send_settings(trainer, self, RegularizerCallback)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the metrics of a step, where that is not left to the trainer."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._trained = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of sites that never took part, in the first epoch in which penalties were computed.

        A run that is resumed behind the last batch of an epoch has one without batches.
        """
        trained, self._trained = self._trained, False
        if trained and self._missing and self.current_weight(trainer) > 0:
            names = ", ".join(sorted(site.name for site in self._missing))
            self._missing = set()
            rank_zero_warn(
                f"sites: {names} took part in no forward pass of this epoch, so no mask acted there; name other sites."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state, the module whose output is compared, and the number of steps that were skipped."""
        return super().state_dict() | {"counted": self.counted, "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; earlier releases kept less."""
        super().load_state_dict(state_dict)
        self.counted = state_dict.get("counted")
        self.skipped = state_dict.get("skipped", 0)
