"""Log the gap between dropout's training and inference phases during training."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from lightning_advdrop.callbacks.comparing import ComparingCallback
from lightning_advdrop.callbacks.compatibility import refuse_sharded
from lightning_advdrop.callbacks.recording import ForwardWatch, around, quietly
from lightning_advdrop.functional import Direction, DivergenceName
from lightning_advdrop.masking import (
    MaskSite,
    ModuleState,
    RecordedForward,
    SiteSpecs,
    find_sites,
    isolated,
)
from lightning_advdrop.regularizers import Passes, inference_gap
from lightning_advdrop.regularizers.fields import at_least_one, at_least_zero
from lightning_advdrop.regularizers.inference_gap import gap_search
from lightning_advdrop.regularizers.passes import uncompiled
from lightning_advdrop.regularizers.predictions import Output, Target


class InferenceGapMonitor(ComparingCallback):
    """Log how far random and adversarial masks of one budget move the prediction of the network without dropout.

    ``gap/random`` is the mean divergence over random masks, the gap between dropout's training phase and its inference
    phase. ``gap/adversarial`` is the value of adversarial dropout, which bounds that gap from above;
    `lightning_advdrop.regularizers.inference_gap` tells where it may not. Both are means over the first batches of each
    validation epoch, beside the other validation metrics. The monitor works with and without a regularizer in the
    trainer, for any LightningModule whose ``validation_step`` computes its prediction in the forward of a module. Of
    several validation loaders it takes the first.

    Nothing else changes: ``validation_step`` runs once, and buffers, attributes, metrics and global random generators
    stay as they are. The masks come from a generator of the callback's own, which starts from ``seed`` in each
    validation epoch, so that epochs are compared under the same random numbers.

    Source: Park, Song, Ji, Lee & Moon, "Adversarial Dropout for Recurrent Neural Networks", AAAI 2019
    (arXiv 1904.09816).

    Args:
        sites: where masks act, see `lightning_advdrop.masking.find_sites`.
        rate: the budget: the share of a mask row's units that a mask drops, in [0, 1]: exactly that many, at random or
            at worst, where a drop probability would give a random number.
        divergence: ``kl``, ``mse_logits``, ``mse_probs``, ``mse`` (regression) or ``bernoulli_kl`` (several labels).
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
        divergence: DivergenceName = "kl",
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
    ) -> None:
        super().__init__(sites, module, output, call, padding_mask, mask)
        gap_search(rate, divergence, direction, samples, steps)
        at_least_one("limit_batches", limit_batches)
        at_least_zero("seed", seed)
        self.rate = rate
        self.divergence: DivergenceName = divergence
        self.direction: Direction = direction
        self.samples = samples
        self.limit_batches = limit_batches
        self.steps = steps
        self.seed = seed
        self._sites: list[MaskSite] = []
        self._generator: torch.Generator | None = None
        self._found: list[tuple[float, float]] = []
        self._batch_size = 1
        self._watching = ExitStack()

    # Lightning's hooks.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse strategies that shard the weights."""
        refuse_sharded(self, trainer)  # manual optimization is no concern of validation

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

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Watch the forward passes of the step to come."""
        self._stop()
        if not self._is_measured(trainer, batch_idx, dataloader_idx):
            return
        number = itertools.count()

        def called(path: str, part: nn.Module, forward: functools.partial[Any]) -> Any:
            # What only the masked layer itself is called for is no prediction.
            if path in around(self._sites) and (self.call is None or self.call == next(number)):
                self._found.append(self._estimate(pl_module, part, forward, batch))
            return forward()

        # Compiled code does not show its calls, so these batches are validated uncompiled.
        self._watching.enter_context(uncompiled())
        self._watching.enter_context(ForwardWatch(pl_module, self._sites, self.module, called).watching())

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
        found = self._found
        self._stop()
        if not found:
            raise ValueError(self._nothing_called())
        random, adversarial = (sum(values) / len(found) for values in zip(*found, strict=True))
        pl_module.log_dict(
            {"gap/random": random, "gap/adversarial": adversarial},
            on_step=False,
            on_epoch=True,
            batch_size=self._batch_size,
            sync_dist=True,
            add_dataloader_idx=False,
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the module as it was."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module as it was, and keep nothing of it."""
        self._stop()
        self._sites = []
        self._generator = None  # a generator can't be sent to a process that is spawned

    def _is_measured(self, trainer: Trainer, batch_idx: int, dataloader_idx: int) -> bool:
        return not trainer.sanity_checking and batch_idx < self.limit_batches and dataloader_idx == 0

    def _stop(self) -> None:
        self._watching.close()
        self._found = []

    def _nothing_called(self) -> str:
        layers = ", ".join(sorted({site.layer for site in self._sites}))
        which = "" if self.call is None else f"for call={self.call} "
        return (
            f"module: validation_step must {which}compute its prediction by calling a module that contains the masked "
            f"layers ({layers}), one of {', '.join(map(repr, around(self._sites)))}, but none is called."
        )

    # Estimating.

    def _estimate(
        self, root: LightningModule, part: nn.Module, forward: functools.partial[Any], batch: Any
    ) -> tuple[float, float]:
        with torch.inference_mode(False), torch.no_grad():
            args, kwargs, batch = _without_inference((forward.args, forward.keywords, batch))
            copied = functools.partial(forward.func, *args, **kwargs)
            with isolated(), ModuleState(root, copied, batch).borrowed():
                return self._gap(root, part, copied, batch)

    def _gap(self, root: nn.Module, part: nn.Module, forward: Callable[[], Any], batch: Any) -> tuple[float, float]:
        recorded = RecordedForward(part, self._sites, share_noise=True)
        again = quietly(root, forward)
        with recorded.first_run(forward):
            result = again()
        passes = Passes(recorded, again, result, generator=self._generator, output=self.output)
        passes = self.with_padding(passes, batch)
        passes.check_sites()
        self._batch_size = len(passes.base)
        if not passes.base.isfinite().all():  # a run that diverges must not end because it is watched
            return math.nan, math.nan
        found = inference_gap(passes, self.rate, self.divergence, self.direction, self.samples, self.steps)
        return found.random.item(), found.adversarial.item()


def _without_inference(value: Any) -> Any:
    """Replace tensors made in inference mode, which no graph can use, by copies."""
    return apply_to_collection(value, Tensor, lambda tensor: tensor.clone() if tensor.is_inference() else tensor)
