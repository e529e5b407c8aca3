"""Run a training step once more with other results of its forward passes, for their loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lightning_advdrop.callbacks.recording import ForwardRecorder, ForwardWatch, quietly
from lightning_advdrop.masking.module_state import ModuleState
from lightning_advdrop.masking.random_state import RandomState, isolated
from lightning_advdrop.regularizers import Passes


class StepAgain:
    """A step that can run again from where it started, without a trace: nothing is logged, no state is changed.

    Args:
        pl_module: the module that is trained.
        run: the step, before it runs for the first time.
    """

    def __init__(self, pl_module: LightningModule, run: Callable[..., Any]) -> None:
        self._run = quietly(pl_module, run)
        self._state = ModuleState(pl_module, run)
        self._random = RandomState.now()

    def check(self) -> None:
        """Look for what the first run did that can't be undone in another one.

        Raises:
            ValueError: as told by `ModuleState.check`.
        """
        self._state.check()

    def __call__(self, *args: Any, instead: AbstractContextManager[None] | None = None) -> Any:
        """Run the step.

        Args:
            args: its arguments.
            instead: the context in which it runs.
        """
        with isolated(), self._state.borrowed():
            self._random.restore()
            with instead or nullcontext():
                return self._run(*args)


def substituted(recorder: ForwardRecorder, results: Mapping[int, Any]) -> ForwardWatch:
    """Let calls of the module that counts return results that are known.

    Args:
        recorder: what recorded these calls.
        results: the results, by the number of the call.
    """
    number = itertools.count()

    def called(path: str, _: nn.Module, forward: Callable[[], Any]) -> Any:
        if path != recorder.counted:
            return forward()
        at = next(number)
        return results[at] if at in results else forward()

    return recorder.watch(called)


def losses_of_others(
    again: StepAgain, recorder: ForwardRecorder, calls: Mapping[int, Passes], loss_in: Callable[[Any], Tensor | None]
) -> dict[int, Callable[[Any], Tensor]]:
    """Return what computes the loss of a step in which one call had another result.

    The others have theirs under the masks of the base pass, computed anew.

    Args:
        again: the step.
        recorder: what recorded its calls.
        calls: the passes that count, by the number of the call.
        loss_in: finds the loss in what the step returns.
    """

    def of_call(number: int) -> Callable[[Any], Tensor]:
        def loss_of(result: Any) -> Tensor:
            others = {other: _as_before(passes) for other, passes in calls.items() if other != number}
            found = loss_in(again(instead=substituted(recorder, {**others, number: result}).watching()))
            if found is None:
                raise ValueError(
                    "training_step must return a loss again for another prediction, got None; decide by "
                    "the batch alone whether a step has one."
                )
            return found

        return loss_of

    return {number: of_call(number) for number in calls}


def _as_before(passes: Passes) -> Any:
    masks = {site: seen.applied for site, seen in passes.observed.items() if isinstance(seen.applied, Tensor)}
    return passes.rerun({site: mask.detach() for site, mask in masks.items()})
