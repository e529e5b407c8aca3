"""Adversarial dropout for any LightningModule."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.callbacks.predictions import Output, Target
from lightning_advdrop.functional import Direction, DivergenceName, Flips
from lightning_advdrop.regularizers import AdversarialDropout, Start


class AdversarialDropoutCallback(RegularizerCallback):
    """Adversarial dropout: adds the largest change of the prediction that a few dropped units can cause to the loss.

    In one line, for a model that was written without it::

        Trainer(callbacks=[AdversarialDropoutCallback(sites="recurrent", rate=0.03)]).fit(model, data)

    Logged are ``train/penalty`` (what was added to the loss), ``advdrop/weight``, ``advdrop/divergence`` (the penalty
    before its weight) and ``advdrop/flip_rate`` (the share of units that were flipped).

    Source: Park, Song, Ji, Lee & Moon, "Adversarial Dropout for Recurrent Neural Networks", AAAI 2019
    (arXiv 1904.09816).

    Args:
        sites: where masks act, see `lightning_advdrop.masking.find_sites`: ``recurrent``, ``weight``, the path of a
            module with a kind (``"encoder.lstm:recurrent"``), or a list of these.
        rate: the budget: the share of a mask row's units that may flip, in [0, 1].
        weight: what the divergence is multiplied by, at least 0.
        steps: the rounds of the search, at least 1.
        divergence: ``kl``, ``mse_logits``, ``mse_probs`` or ``ce``.
        direction: ``base_adv`` or ``adv_base``.
        start: the mask at which the search is linearised, ``one_drop`` or ``ones``.
        flips: ``both`` or ``drop``.
        detach_base: whether no gradient flows into the base prediction.
        share_masks: whether the other noise of the network is the same in both passes.
        rampup_epochs: epochs over which the weight grows to its value.
        module: path of the submodule whose output is compared; found by itself where there is one answer.
        output: which part of its output is the prediction: an index, a key or a callable.
        log_every_n_steps: how often the metrics of single steps go to the loggers.
        keep_start: whether the random drop at the start stays as the first flip of the budget.
        target: where the labels are in a batch, for ``divergence="ce"``: an index, a key or a callable.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> callback = AdversarialDropoutCallback(sites="recurrent", rate=0.03)
        >>> callback.regularizer.rate
        0.03
    """

    regularizer: AdversarialDropout

    def __init__(
        self,
        sites: str | Sequence[str] = "recurrent",
        rate: float = 0.05,
        weight: float = 1.0,
        steps: int = 1,
        divergence: DivergenceName = "kl",
        direction: Direction = "base_adv",
        start: Start = "one_drop",
        flips: Flips = "both",
        detach_base: bool = True,
        share_masks: bool = False,
        rampup_epochs: int = 0,
        module: str | None = None,
        output: Output = None,
        log_every_n_steps: int = 50,
        keep_start: bool = False,
        target: Target = 1,
    ) -> None:
        regularizer = AdversarialDropout(
            rate, steps, divergence, direction, start, flips, detach_base, share_masks, keep_start
        )
        super().__init__(
            regularizer,
            sites,
            weight=weight,
            rampup_epochs=rampup_epochs,
            module=module,
            output=output,
            target=target,
            log_every_n_steps=log_every_n_steps,
        )
