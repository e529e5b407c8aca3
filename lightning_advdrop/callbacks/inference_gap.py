"""Log the gap between dropout's training and inference phases during training."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from lightning_advdrop.callbacks.around_sites import around, nothing_validated
from lightning_advdrop.callbacks.batches import SteppedBatch, without_inference
from lightning_advdrop.callbacks.compatibility import refuse_sharded
from lightning_advdrop.callbacks.counted_calls import outermost
from lightning_advdrop.callbacks.deciding import comparison_beside
from lightning_advdrop.callbacks.gap_pictures import GapPictures
from lightning_advdrop.callbacks.ignored_steps import IgnoringCallback
from lightning_advdrop.callbacks.own_metrics import log_own, unwatch_log, watch_log
from lightning_advdrop.callbacks.recording import ForwardWatch, quietly, unwatched
from lightning_advdrop.callbacks.replacing import replaced
from lightning_advdrop.functional import Direction
from lightning_advdrop.masking import MaskSite, ModuleState, RecordedForward, SiteSpecs, find_sites, isolated
from lightning_advdrop.regularizers import DivergenceChoice, LossWatch, Passes, decide, inference_gap
from lightning_advdrop.regularizers.fields import at_least_one, at_least_zero
from lightning_advdrop.regularizers.inference_gap import gap_search
from lightning_advdrop.regularizers.losses import SeenLoss
from lightning_advdrop.regularizers.passes import uncompiled
from lightning_advdrop.regularizers.predictions import Output, Target, find_target, select_prediction

_Forward = functools.partial[Any]
_Gap = tuple[float, ...]
_Losses = Sequence[SeenLoss]
_Estimate = Callable[[_Losses], _Gap]
_NAMES = ("mean_prediction", "random", "random_max", "adversarial")  # the attributes of `InferenceGap` that are logged


class InferenceGapMonitor(GapPictures, IgnoringCallback):
    """Log how far random and adversarial masks of one budget move the prediction of the network without dropout.

    Logged are means over the first batches of each validation epoch: ``gap/random``, the mean divergence over random
    masks, which is the gap between dropout's training phase and its inference phase; ``gap/mean_prediction``, the
    divergence of the mean prediction under them, which is at most as large (the mean of probabilities for classes and
    labels, and of values for numbers); ``gap/random_max``, each example's largest divergence under them; and
    ``gap/adversarial``, that under the masks which adversarial dropout finds. The last two estimate the largest of all
    masks, which bounds the gap, from below; see `lightning_advdrop.regularizers.inference_gap`.

    The monitor works with and without a regularizer in the trainer, for any LightningModule whose ``validation_step``
    computes its prediction in the forward of a module. Of several validation loaders it takes the first. A second
    monitor in the trainer, such as one with another ``rate``, logs as ``gap_2/...``, a third as ``gap_3/...``.

    Nothing else changes: ``validation_step`` runs once, and buffers, attributes, metrics and global random generators
    stay as they are. The masks come from a generator of the callback's own, which starts from ``seed`` in each
    validation epoch, so that epochs are compared under the same random numbers.

    Source: Park, Song, Ji, Lee & Moon, "Adversarial Dropout for Recurrent Neural Networks", AAAI 2019
    (arXiv 1904.09816).

    Args:
        sites: where masks act, see `lightning_advdrop.masking.find_sites`.
        rate: the budget: the share of a mask row's units that a mask drops, in [0, 1]: exactly that many.
        divergence: ``auto``, ``kl``, ``mse_logits``, ``mse_probs``, ``mse`` (regression) or ``bernoulli_kl`` (several
            labels). ``auto`` takes that of the regularizer callback in the trainer, else chooses by the loss that
            ``validation_step`` calls, or by the labels, see `lightning_advdrop.regularizers.decide`.
        direction: ``base_adv`` for ``D(base, masked)``, or ``adv_base`` for ``D(masked, base)``.
        samples: the number of random masks for each batch, at least 1.
        limit_batches: the number of batches of each validation epoch, from the first, at least 1.
        steps: the rounds of the adversarial search, at least 1.
        module: path of the submodule whose output is compared. None finds the outermost one that contains the sites and
            is called.
        output: which part of its output is the prediction: an index, a key or a callable.
        call: which of several forward passes in one validation step counts, from 0; None takes the mean over all.
        padding_mask: where a batch tells real examples or time steps from padding: an index, a key or a callable that
            leads to a tensor ``(B,)`` or ``(B, T)``, 1 where they are real; None where there is no padding.
        seed: the seed of the random masks, at least 0.
        mask: the old name of ``padding_mask``, deprecated.
        target: where a batch has the labels, to choose a divergence: an index, a key or a callable.
        class_dim: the dimension of the prediction that holds the classes. None takes that of the module's own loss,
            else the last.
        plot_every_n_epochs: how often a picture of the gap over the epochs goes to Weights & Biases and TensorBoard,
            besides at the end; 0 for the end only.

    Raises:
        ValueError: if an argument is not in its range or list.

    Example:
        >>> monitor = InferenceGapMonitor(sites="recurrent", rate=0.03, limit_batches=2)
        >>> monitor.samples
        8
    """

    def __init__(
        self,
        sites: SiteSpecs = "recurrent",
        rate: float = 0.03,
        divergence: DivergenceChoice = "auto",
        direction: Direction = "base_adv",
        samples: int = 8,
        limit_batches: int = 1,
        steps: int = 1,
        module: str | None = None,
        output: Output = None,
        call: int | None = None,
        padding_mask: Target | None = None,
        seed: int = 0,
        mask: Target | None = None,
        target: Target = 1,
        class_dim: int | None = None,
        plot_every_n_epochs: int = 10,
    ) -> None:
        super().__init__(sites, module, output, call, padding_mask, mask, class_dim)
        gap_search(rate, divergence, direction, samples, steps)
        at_least_one("limit_batches", limit_batches)
        at_least_zero("seed", seed)
        self.rate = rate
        self.divergence: DivergenceChoice = divergence
        self.direction: Direction = direction
        self.samples = samples
        self.limit_batches = limit_batches
        self.steps = steps
        self.seed = seed
        self.target = target
        self.draw_gap(plot_every_n_epochs)
        self._sites: list[MaskSite] = []
        self._generator: torch.Generator | None = None
        # Of the step: how often each module was called, what was found for calls, and what waits for the step's end.
        self._calls: Counter[str] = Counter()
        self._found: list[tuple[str, _Gap]] = []
        self._waiting: list[tuple[str, Any, _Estimate]] = []
        self._counted: str | None = None
        self._batch_size = 1
        self._watching = ExitStack()

    # Lightning's hooks.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse strategies that shard the weights."""
        super().setup(trainer, pl_module, stage)
        refuse_sharded(self, trainer)  # manual optimization is no concern of validation
        self.forget_comparison()
        self._counted = None
        watch_log(pl_module, self)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a network without sites before anything is trained, and warn if nothing will be validated."""
        find_sites(pl_module, self.site_specs)
        if not trainer.enable_validation:
            rank_zero_warn(
                f"{type(self).__name__} looks at validation batches, and this trainer has none: give it a validation "
                "loader, the module a validation_step, and limit_val_batches above 0."
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the sites, and start the generator afresh."""
        self._sites = find_sites(pl_module, self.site_specs)
        self._generator = torch.Generator().manual_seed(self.seed + trainer.global_rank)
        if self.comparison is None and self.divergence == "auto":
            self.comparison = comparison_beside(self, trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Watch the forward passes of the step to come."""
        self._stop()
        if not self._is_measured(trainer, batch_idx, dataloader_idx):
            return
        stepped = SteppedBatch(batch)

        def called(path: str, part: nn.Module, forward: _Forward) -> Any:
            # What only the masked layer itself is called for is no prediction.
            inside = self._counted is not None and len(path) > len(self._counted)
            if inside or path not in around(self._sites):
                return forward()
            self._calls[path] += 1
            if self.call is not None and self.call != self._calls[path] - 1:
                return forward()
            if self._waits:
                estimate, result = self._estimate(pl_module, part, forward, stepped, copies=True), forward()
                self._waiting.append((path, result, estimate))
                return result
            self._found.append((path, self._estimate(pl_module, part, forward, stepped)(())))
            return forward()

        # Compiled code does not show its calls, so these batches are validated uncompiled.
        self._watching.enter_context(uncompiled())
        self._watching.enter_context(ForwardWatch(pl_module, self._sites, self.module, called).watching())
        if self._waits:
            step = self._deciding(pl_module.validation_step, stepped)
            self._watching.enter_context(replaced([(pl_module, "validation_step", step)]))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the estimates of the step."""
        if not self._is_measured(trainer, batch_idx, dataloader_idx):
            return
        self._counted = outermost(self._calls) if self._calls else None
        found = [estimate for path, estimate in self._found if path == self._counted]
        self._stop()
        if not found:
            raise ValueError(nothing_validated(self._sites, self.call))
        names = [self.gap_name(trainer, name) for name in _NAMES]
        means = {name: sum(of) / len(found) for name, of in zip(names, zip(*found, strict=True), strict=True)}
        how = {"on_step": False, "on_epoch": True, "sync_dist": True, "add_dataloader_idx": False}
        log_own(pl_module, means, batch_size=self._batch_size, **how)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the module as it was."""
        self._stop()
        unwatch_log(pl_module, self)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module as it was, and keep nothing of it."""
        self._stop()
        self._sites = []
        self._generator = None  # a generator can't be sent to a process that is spawned
        unwatch_log(pl_module, self)

    @property
    def _waits(self) -> bool:
        """Tell whether estimates are made at the end of the step, when the losses that it called are known."""
        return self.comparison is None or self._counted is None or self.needs_losses

    def _is_measured(self, trainer: Trainer, batch_idx: int, dataloader_idx: int) -> bool:
        return not trainer.sanity_checking and batch_idx < self.limit_batches and dataloader_idx == 0

    def _stop(self) -> None:
        self._watching.close()
        self._calls, self._found, self._waiting = Counter(), [], []

    # Deciding.

    def _deciding(self, step: Callable[..., Any], batch: SteppedBatch) -> Callable[..., Any]:
        """Wrap a validation step so that the losses it calls decide, and make the estimates that waited for its end."""

        @functools.wraps(step)
        def deciding(*args: Any, **kwargs: Any) -> Any:
            with LossWatch() as losses:
                result = step(*args, **kwargs)
            for path, output, estimate in self._waiting:
                if path == outermost(self._calls):
                    prediction = select_prediction(output, self.output)
                    if self.comparison is None and not prediction.isnan().any():
                        target = batch.read(lambda each: find_target(each, self.target))
                        known = {"losses": losses.seen, "class_dim": self.class_dim, "result": output}
                        self.comparison = decide(self.divergence, prediction, target, **known)
                    self._found.append((path, estimate(losses.seen)))
            return result

        return deciding

    # Estimating.

    def _estimate(
        self, root: nn.Module, part: nn.Module, forward: _Forward, batch: SteppedBatch, *, copies: bool = False
    ) -> _Estimate:
        """Return what estimates the gap of a forward, from the present state and, with ``copies``, arguments."""
        with torch.inference_mode(False), torch.no_grad():
            args, kwargs = without_inference((forward.args, forward.keywords), every=copies)
            copied = functools.partial(forward.func, *args, **kwargs)
            state = ModuleState(root, copied, batch)

        def estimate(losses: _Losses) -> _Gap:
            with torch.inference_mode(False), torch.no_grad(), isolated(), state.borrowed(), unwatched(root):
                return self._gap(root, part, copied, batch, losses)

        return estimate

    def _gap(
        self, root: nn.Module, part: nn.Module, forward: Callable[[], Any], batch: SteppedBatch, losses: _Losses
    ) -> _Gap:
        recorded = RecordedForward(part, self._sites, share_noise=True)
        again = quietly(root, forward)
        with recorded.first_run(forward):
            result = again()
        target = without_inference(batch.read(lambda each: find_target(each, self.target)))
        passes = Passes(recorded, again, result, target, generator=self._generator, output=self.output)
        passes = replace(passes, comparison=self.comparison)
        passes.check_sites()
        self._batch_size = len(passes.base)
        # A run that diverges must not end because it is watched. Logits may exclude classes by minus infinity.
        if passes.base.isnan().any() or passes.base.isposinf().any():
            return (math.nan,) * len(_NAMES)
        self.tell(self._sites, type(part).__name__, passes)
        passes = self.with_padding(self.with_ignored(replace(passes, losses=losses)), batch)
        passes = replace(passes, sample_weight=without_inference(passes.sample_weight))
        found = inference_gap(passes, self.rate, self.divergence, self.direction, self.samples, self.steps)
        return tuple(getattr(found, name).item() for name in _NAMES)
