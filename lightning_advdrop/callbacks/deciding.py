"""Deciding in the first step how a regularizer compares predictions, and going on like that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor

from lightning_advdrop._lightning import trainer_callbacks
from lightning_advdrop.callbacks.batches import SteppedBatch
from lightning_advdrop.callbacks.comparing import ComparingCallback
from lightning_advdrop.callbacks.copied_targets import warn_of_copying, warn_of_other_labels
from lightning_advdrop.callbacks.ignored_steps import IgnoringCallback
from lightning_advdrop.callbacks.mask_generator import OwnGenerator
from lightning_advdrop.masking import MaskSite
from lightning_advdrop.regularizers import Comparison, Passes, Regularizer
from lightning_advdrop.regularizers.deciding import of_two_predictions
from lightning_advdrop.regularizers.predictions import Target, find_target, select_target

# That of callbacks whose user named none.
_DEFAULT_TARGET = 1


class DecidingCallback(IgnoringCallback, OwnGenerator):
    """A callback of a regularizer, which decides once how predictions are compared, and resumes with that."""

    regularizer: Regularizer
    sites: list[MaskSite]
    target: Target
    ignore_index: int | None
    #: The class of the module whose output is compared.
    compared_class: str
    #: What that module got in the first step.
    input: Tensor | None

    @property
    def undecided(self) -> bool:
        """Tell whether it is not known yet how predictions are compared."""
        return self.comparison is None and self.regularizer.compares and self.regularizer.divergence is not None

    @property
    def watches_losses(self) -> bool:
        """Tell whether the losses of a step are to be seen: they tell what is compared, and which steps are ignored."""
        return self.undecided or self.needs_losses

    def labelled(self, call: Passes, batch: SteppedBatch | None) -> Passes:
        """Give passes the labels, the weights of padding, and how they are compared.

        Args:
            call: the passes.
            batch: the batch, in which labels and padding are found; None where the passes have them.

        Raises:
            ValueError: if something is not where it should be, or ``divergence="auto"`` can't tell what is compared.
        """
        first = self.undecided
        call = replace(call, generator=self._generator, class_dim=self.class_dim, ignore_index=self.ignore_index)
        if batch is not None and self.regularizer.needs_target:
            call = replace(call, target=batch.read(lambda each: select_target(each, self.target)))
        elif batch is not None and self._looks_at_labels:
            call = replace(call, target=batch.read(lambda each: find_target(each, self.target)))
        self._decide(call)
        if batch is not None and self.regularizer.needs_target:
            self._look_at_target(call, first=first)
        call = self.with_ignored(call, needs_target=self.regularizer.needs_target)
        call = replace(call, losses=(), comparison=self.comparison)
        return call if batch is None else self.with_padding(call, batch)

    @property
    def _looks_at_labels(self) -> bool:
        return self.undecided or self.ignores

    def _look_at_target(self, call: Passes, *, first: bool) -> None:
        """Warn of labels of the batch that the regularizer's loss should not get.

        The loss of the module shows its labels in the first step only: to watch it in each would cost every step.
        """
        target, given, self.input = call.target, self.input, None
        if target is None or warn_of_copying(target, given, self.target):
            return
        found = self.comparison
        if first and found is not None and found.kind == "classes" and self.target == _DEFAULT_TARGET:
            warn_of_other_labels(target, found.read(call.base.detach()), call.losses, self.target)

    def _decide(self, call: Passes) -> None:
        """Decide in the first step how predictions are compared, and say it; not by a prediction that is NaN."""
        asked = self.regularizer.divergence
        if self.undecided and asked is not None and not call.base.isnan().any():
            self.comparison = call.compared(asked, to_labels=self.regularizer.to_labels)
        if not self.undecided:
            self.tell(self.sites, self.compared_class, call if self.regularizer.compares else None)

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state, and how predictions are compared; the schedule follows the trainer's epoch."""
        decided = {} if self.comparison is None else {"comparison": self.comparison.state_dict(), "asked": self._asked}
        return super().state_dict() | decided

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the generator, and compare as before."""
        super().load_state_dict(state_dict)
        if "comparison" in state_dict and state_dict.get("asked") == self._asked:
            self.comparison = Comparison(**state_dict["comparison"])

    @property
    def _asked(self) -> list[Any]:
        """Return what the decision follows beside the model."""
        return [self.regularizer.divergence, self.class_dim, self.ignore_index]


def comparison_beside(callback: ComparingCallback, trainer: Trainer) -> Comparison | None:
    """Return how the trainer's regularizer compares two predictions that has a callback's sites and output.

    Args:
        callback: the callback.
        trainer: the trainer.

    Returns:
        None where there is no such regularizer, it has not decided yet, or the callback names ``class_dim`` itself.
    """

    def looks_at(each: ComparingCallback) -> tuple[object, ...]:
        return each.site_specs, each.module, each.output

    for each in trainer_callbacks(trainer) if callback.class_dim is None else []:
        if isinstance(each, DecidingCallback) and each.comparison is not None and looks_at(each) == looks_at(callback):
            return of_two_predictions(each.comparison)
    return None
