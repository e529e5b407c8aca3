"""The Lightning side of a regularizer: sites, weight, schedule, logging, state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from lightning_advdrop.callbacks.compatibility import check_trainable
from lightning_advdrop.callbacks.denormals import flush_denormals
from lightning_advdrop.callbacks.description import describe_sites
from lightning_advdrop.callbacks.mask_generator import go_on
from lightning_advdrop.callbacks.predictions import Output, Target, select_target, select_weight
from lightning_advdrop.callbacks.recording import ForwardRecorder
from lightning_advdrop.callbacks.wrapping import unwrap_training_step, wrap_training_step
from lightning_advdrop.functional import sigmoid_rampup
from lightning_advdrop.masking import MaskSite, RecordedForward, SiteSpecs, check_sites, find_sites
from lightning_advdrop.regularizers import Passes, Penalty, Regularizer


class RegularizerCallback(Callback):
    """Adds a regularizer's penalty to the loss of any LightningModule under automatic optimization.

    A module with a true attribute ``delegates_regularization`` asks for its penalty itself (see
    `lightning_advdrop.callbacks.regularized_loss`). Of any other, ``training_step`` is wrapped while it is fitted, and
    nothing of that is left afterwards.

    The random numbers come from a generator of the callback's own, and the passes that it makes leave the global
    generators, buffers and attributes alone. With a weight of 0 no pass is made and training is the plain one.

    Args:
        regularizer: what computes the penalty.
        sites: where masks may act, see `lightning_advdrop.masking.find_sites`.
        weight: what the penalty is multiplied by, at least 0.
        rampup_epochs: epochs over which the weight grows to its value, see
            `lightning_advdrop.functional.sigmoid_rampup`; 0 for none.
        module: path of the submodule whose output is compared; None finds the outermost one that contains the sites and
            is called, the LightningModule itself being ``""``.
        output: which part of its output is the prediction: an index, a key or a callable; by default a tensor itself,
            the part named ``logits`` or ``prediction``, or the first of a tuple.
        target: where the labels are in a batch (an index, a key or a callable); only looked at by regularizers that
            need labels.
        log_every_n_steps: how often the metrics of single steps go to the loggers, at least 1. Their means over each
            epoch are logged too.
        call: which of several forward passes in one training step counts, from 0; None takes the mean over all of them.
        mask: where a batch tells what is real (an index, a key or a callable): a tensor ``(B,)``, or ``(B, T)`` for
            predictions with a time dimension, that is 1 there and 0 at padding; None where there is no padding.

    Raises:
        ValueError: if the weight, ``rampup_epochs`` or ``call`` is negative, ``log_every_n_steps`` is below 1, or a
            kind of site is unknown.
    """

    #: Before the slash in the names of the metrics; ``_2`` follows where a callback before it has the same one.
    log_prefix = "advdrop"

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
        log_every_n_steps: int = 50,
        call: int | None = None,
        mask: Target | None = None,
    ) -> None:
        check_sites(sites)
        if weight < 0:
            raise ValueError(f"weight must be at least 0, got {weight}.")
        if rampup_epochs < 0:
            raise ValueError(f"rampup_epochs must be at least 0, got {rampup_epochs}.")
        if log_every_n_steps < 1:
            raise ValueError(f"log_every_n_steps must be at least 1, got {log_every_n_steps}.")
        if call is not None and call < 0:
            raise ValueError(f"call must be at least 0, or None for all calls, got {call}.")
        self.regularizer = regularizer
        self.site_names = sites
        self.weight = weight
        self.rampup_epochs = rampup_epochs
        self.module = module
        self.output = output
        self.target = target
        self.log_every_n_steps = log_every_n_steps
        self.call = call
        self.mask = mask
        self.sites: list[MaskSite] = []
        self._missing: set[MaskSite] = set()
        #: Called with each penalty that is computed, one for each forward pass of a training step.
        self.listeners: list[Callable[[Penalty], None]] = []
        self._generator = torch.Generator()
        self._rank = 0

    def describe(self, module: nn.Module) -> str:
        """A table of the sites in a module and of what they don't cover, see `describe_sites`.

        Args:
            module: what is to be trained; it needs no trainer.

        Raises:
            ValueError: see `lightning_advdrop.masking.find_sites`.
        """
        return describe_sites(module, find_sites(module, self.site_names))

    # What a training step asks for.

    def current_weight(self, trainer: Trainer) -> float:
        """The weight in the trainer's current epoch; 0 if the regularizer can't find anything."""
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
            record=self.recorded_forward,
            output=self.output,
            module=self.module,
            call=self.call,
        )

    def term(self, pl_module: LightningModule, calls: Sequence[Passes], batch: Any = None) -> Tensor | None:
        """Compute and log this callback's term of the loss: the weighted mean penalty over the passes of a step.

        Args:
            pl_module: the module that is trained.
            calls: the forward passes; none where the weight is 0.
            batch: the batch, in which labels and padding are found; None where the passes have them.

        Returns:
            A scalar with a graph, or None where there are no passes.

        Raises:
            ValueError: if a prediction has no gradient, or the batch no labels or padding mask where they should be.
            FloatingPointError: if a prediction holds NaN or infinity where that can't be compared.
        """
        weight = self.current_weight(pl_module.trainer)
        if not calls:
            self.log_penalty(pl_module, weight, None, 1)
            return None
        found = self.penalty([self._labelled(call, batch) for call in calls])
        self.log_penalty(pl_module, weight, found, len(calls[0].base))
        return found.weighted(weight)

    def penalty(self, calls: Sequence[Passes]) -> Penalty:
        """Compute the mean penalty over the forward passes of one training step, before its weight.

        Args:
            calls: the passes, at least one.

        Raises:
            ValueError: if a prediction has no gradient.
            FloatingPointError: if it holds NaN or infinity where that can't be compared.
        """
        for call in calls:
            self._missing -= _served(self._missing, call.recorded.observed)
        penalties = [self.regularizer.evaluate(call) for call in calls]
        for listener in self.listeners:
            for penalty in penalties:
                listener(penalty)
        value = torch.stack([penalty.value for penalty in penalties]).mean()
        names = penalties[0].metrics
        metrics = {n: torch.stack([torch.as_tensor(p.metrics[n]) for p in penalties]).mean() for n in names}
        losses = [penalty.supervised for penalty in penalties if penalty.supervised is not None]
        return Penalty(value, metrics, torch.stack(losses).mean() if losses else None)

    def _labelled(self, call: Passes, batch: Any) -> Passes:
        more: dict[str, Any] = {"generator": self._generator}
        if batch is not None and self.regularizer.needs_target:
            more["target"] = select_target(batch, self.target)
        if batch is not None and self.mask is not None:
            more["sample_weight"] = select_weight(batch, self.mask, call.base)
        return replace(call, **more)

    def log_penalty(self, pl_module: LightningModule, weight: float, penalty: Penalty | None, batch_size: int) -> None:
        """Logs the weight, the divergence and the regularizer's own metrics: means over the epoch, and some steps.

        Args:
            pl_module: the module that is trained.
            weight: the weight of this step.
            penalty: what was found, None if nothing was looked for.
            batch_size: the number of examples.
        """
        values: dict[str, Tensor | float] = {"weight": weight}
        if penalty is not None:
            values |= {"divergence": penalty.value.detach(), **penalty.metrics}
        named = {f"{self._numbered_prefix(pl_module.trainer)}/{name}": value for name, value in values.items()}
        pl_module.log_dict(named, on_step=False, on_epoch=True, batch_size=batch_size, sync_dist=True)
        loop = pl_module.trainer.fit_loop.epoch_loop
        step = loop._batches_that_stepped  # the step axis of all of Lightning's logs
        # Of batches whose gradients are accumulated, the last one stands for the step, as in Lightning's own logs.
        if step % self.log_every_n_steps == 0 and not loop._should_accumulate():
            numbers = {name: float(value) for name, value in named.items()}
            for logger in pl_module.trainer.loggers:
                logger.log_metrics(numbers, step=step)

    def _numbered_prefix(self, trainer: Trainer) -> str:
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        alike = [c for c in callbacks if isinstance(c, RegularizerCallback) and c.log_prefix == self.log_prefix]
        number = alike.index(self) + 1
        return self.log_prefix if number == 1 else f"{self.log_prefix}_{number}"

    # Lightning's hooks.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what can't work, and seeds the generator from torch's seed, differently for each process."""
        if stage != "fit":
            return
        check_trainable(self, trainer, pl_module)
        flush_denormals(trainer.strategy.root_device)
        self._rank = trainer.global_rank
        self._generator.manual_seed(torch.initial_seed() % 2**63 + self._rank)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the sites."""
        self.sites = find_sites(pl_module, self.site_names)
        # A module that stands for functional dropout within it need not drop anything itself.
        self._missing = {site for site in self.sites if site.kind != "dropout" or site.drop_rate}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wraps ``training_step``, unless the module delegates."""
        if not getattr(pl_module, "delegates_regularization", False):
            wrap_training_step(pl_module, self)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warns of sites that never took part, in the first epoch in which penalties were computed."""
        if self._missing and self.current_weight(trainer) > 0:
            names = ", ".join(sorted(site.name for site in self._missing))
            self._missing = set()
            rank_zero_warn(
                f"sites: {names} took part in no forward pass of this epoch, so no mask acted there; name other sites."
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the module as it was."""
        unwrap_training_step(pl_module, self)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves the module as it was, also where Lightning stopped the fit in a way of its own."""
        unwrap_training_step(pl_module, self)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the module as it was."""
        unwrap_training_step(pl_module, self)

    def __getstate__(self) -> dict[str, Any]:
        # As bytes, since torch can't send a generator to a process that it spawns.
        return {**vars(self), "_generator": self._generator.get_state().numpy().tobytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._generator = torch.Generator()
        self._generator.set_state(torch.frombuffer(bytearray(state["_generator"]), dtype=torch.uint8))

    @property
    def state_key(self) -> str:
        """Tells several callbacks of one class apart: by their sites, by ``module`` and by ``call``.

        Of callbacks that are alike in all of them, Lightning refuses to train with more than one.
        """
        settings = {"module": self.module, "call": self.call}
        told = {name: value for name, value in settings.items() if value is not None}
        return self._generate_state_key(sites=self.site_names, **told)

    def state_dict(self) -> dict[str, Any]:
        """The state of the random generator; the schedule follows the trainer's epoch."""
        return {"generator": self._generator.get_state()}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the other processes' generators, since a checkpoint is written by one of them."""
        if trainer.world_size > 1:
            own = self._generator.get_state().to(trainer.strategy.root_device)
            checkpoint["callbacks"][self.state_key]["generators"] = trainer.strategy.all_gather(own).cpu()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        states = state_dict.get("generators", state_dict["generator"].unsqueeze(0))
        go_on(self._generator, states, self._rank)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Mapping[str, Any]) -> None:
        """Warns when a checkpoint was written without this callback."""
        if trainer.state.fn == "fit" and self.state_key not in checkpoint.get("callbacks", {}):
            rank_zero_warn(
                f"The checkpoint holds no state of {self.state_key}; its random generator starts afresh, so the run "
                "will not be the same as one that was never interrupted."
            )


def _served(sites: Collection[MaskSite], observed: Collection[MaskSite]) -> set[MaskSite]:
    """Those of some sites that took part in a pass.

    A module of dropout whose rate is all that is used, by the module around it that calls dropout as a function, has
    taken part if that function has.
    """
    dropping = {site.layer for site in observed if site.kind == "dropout"}
    return {
        site
        for site in sites
        if site in observed or (site.kind == "dropout" and site.layer.rpartition(".")[0] in dropping)
    }
