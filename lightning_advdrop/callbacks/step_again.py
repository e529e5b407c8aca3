"""Run a training step once more under masks, for its loss."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_advdrop.callbacks.batches import copied
from lightning_advdrop.callbacks.recording import ForwardRecorder, quietly
from lightning_advdrop.masking import Masks
from lightning_advdrop.masking.module_state import ModuleState
from lightning_advdrop.masking.random_state import RandomState, isolated
from lightning_advdrop.regularizers import Passes

# Runs a forward of a step, from the pass that recorded it and the forward.
Runs = Callable[[Passes, Callable[[], Any]], Any]


class StepAgain:
    """A step that can run again from where it started, without a trace: nothing is logged, no state is changed.

    Args:
        pl_module: the module that is trained.
        run: the step, before it runs for the first time; what it returns has the loss.
        loss_in: finds the loss.
    """

    def __init__(
        self, pl_module: LightningModule, run: Callable[[], Any], loss_in: Callable[[Any], Tensor | None]
    ) -> None:
        self._run, self._loss_in = quietly(pl_module, run), loss_in
        self._state = ModuleState(pl_module, run, kind="training_step")
        self._random = RandomState.now()

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that it takes as they are when it runs again."""
        return self._state.tensors

    def check(self) -> None:
        """Look for what the first run did that can't be undone in another one.

        Raises:
            ValueError: as told by `ModuleState.check`.
        """
        self._state.check()

    def under(
        self, passes: Passes, watching: Callable[[Runs], AbstractContextManager[None]], masks: Masks
    ) -> tuple[Any, Tensor]:
        """Run the step with one of its forward passes under masks, the others under those of the base pass.

        Args:
            passes: the pass that recorded this forward.
            watching: makes the context in which something else happens at each forward that was recorded.
            masks: the masks of this one.

        Returns:
            The result of that forward, and the loss of the step.

        Raises:
            ValueError: if the step has none.
        """
        results: list[Any] = []
        with isolated(), self._state.borrowed() as stand_ins:

            def runs(of: Passes, forward: Callable[[], Any]) -> Any:
                result = of.recorded.run_here(forward, masks if of is passes else _masks_of(of), stand_ins)
                if of is passes:
                    results.append(copied(result))
                return result

            self._random.restore()
            with watching(runs), _without_batches():
                loss = self._loss_in(self._run())
        if loss is None or not results:
            raise ValueError(
                "training_step must compute a loss by the same forward passes when it runs again under a mask, got "
                "another course; decide by the batch alone what a step does."
            )
        return results[0], loss

    def of_calls(self, recorder: ForwardRecorder, calls: Mapping[int, Passes]) -> dict[int, Passes]:
        """Let passes compute the loss of the step in which they were recorded under other masks.

        Args:
            recorder: what recorded them.
            calls: the passes that count, by the number of the call.
        """
        found: dict[int, Passes] = {}

        def watching(runs: Runs) -> AbstractContextManager[None]:
            number = itertools.count()

            def called(path: str, _: nn.Module, forward: Callable[[], Any]) -> Any:
                at = next(number) if path == recorder.counted else -1
                return runs(calls[at], forward) if at in calls else forward()

            return recorder.watch(called).watching()

        for number, passes in calls.items():
            found[number] = replace(passes, step_under=functools.partial(self.under, passes, watching))
        return found


@functools.cache
def _iterators() -> Any:
    """Return the base class of data loaders' iterators, with and without workers."""
    data: Any = [0]
    # With a generator of its own: an iterator draws a seed.
    return type(iter(DataLoader(data, generator=torch.Generator()))).__mro__[-2]


@contextmanager
def _without_batches() -> Iterator[None]:
    """Refuse to take a batch from a data loader, which has gone on since the first run."""

    def refuse(_: Any) -> Any:
        raise ValueError(
            "training_step must not take batches from a data loader itself where it runs again under a mask, for "
            "both_losses=True; let the Trainer hand them over, which it also does with several loaders."
        )

    iterators = _iterators()
    before = iterators.__next__
    iterators.__next__ = refuse
    try:
        yield
    finally:
        iterators.__next__ = before


def _masks_of(passes: Passes) -> Masks:
    """Return the masks of the base pass."""
    masks = {site: seen.applied for site, seen in passes.observed.items() if isinstance(seen.applied, Tensor)}
    return {site: mask.detach() for site, mask in masks.items()}
