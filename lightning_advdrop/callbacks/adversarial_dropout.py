"""Adversarial dropout for any LightningModule."""

from __future__ import annotations

from dataclasses import fields

from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.callbacks.penalties import Nonfinite
from lightning_advdrop.functional import Direction, Flips
from lightning_advdrop.masking import SiteSpecs
from lightning_advdrop.regularizers import AdversarialDropout, DivergenceChoice, Rescaling, Search, Start
from lightning_advdrop.regularizers.predictions import Output, Target


class AdversarialDropoutCallback(RegularizerCallback):
    """Add to the loss the largest change in the prediction that dropping a few units can cause: adversarial dropout.

    In one line, for a model that was written without it::

        Trainer(callbacks=[AdversarialDropoutCallback(sites="recurrent", rate=0.03)]).fit(model, data)

    Logged are ``train/penalty`` (the term added to the loss), ``advdrop/weight``, ``advdrop/divergence`` (the penalty
    before its weight) and ``advdrop/flip_rate`` (the share of flipped units): means over each epoch, and the last three
    for single steps under names that end in ``_step``.

    Source: Park, Song, Ji, Lee & Moon, "Adversarial Dropout for Recurrent Neural Networks", AAAI 2019
    (arXiv 1904.09816).

    Args:
        sites: where masks act, see `lightning_advdrop.masking.find_sites`: a kind (``recurrent``, ``weight``,
            ``embedding``, ``input``, ``hidden``, ``output``, ``dropout``), the path of a module with a kind
            (``"encoder.lstm:recurrent"``), a list of these, or a mapping that gives each a rate of its own.
        rate: the budget: the largest share of a mask row's units that may flip, in [0, 1]. Unlike a drop probability it
            draws nothing: the search flips the units of largest gain, up to this many.
        weight: the factor of the divergence, at least 0.
        steps: the rounds of the search, at least 1.
        divergence: ``auto`` to choose by the module's own loss, else by the labels (see
            `lightning_advdrop.regularizers.decide`), ``kl``, ``bernoulli_kl`` (several labels at once), ``mse``
            (regression), ``mse_logits``, ``mse_probs``, ``ce`` or ``bernoulli_ce`` (several labels at once).
        direction: ``base_adv`` or ``adv_base``.
        start: the mask at which a gradient search is linearised, ``one_drop``, ``ones`` or ``sampled``.
        flips: ``both`` or ``drop``.
        detach_base: whether to stop the penalty's gradient at the base prediction.
        share_masks: whether all other noise of the network is the same in both passes; only then does a search in the
            base pass look at the network that its masks act on.
        rampup_epochs: the number of epochs over which the weight grows to its value, at least 0.
        module: path of the submodule whose output is compared. None finds the outermost one that contains the sites and
            is called.
        output: which part of its output is the prediction: an index, a key or a callable. None takes a tensor itself,
            the part named ``logits`` or ``prediction``, or the first of a tuple.
        log_every_n_steps: how often the metrics of single steps go to the loggers; None follows the trainer.
        keep_start: whether the random drop at the start of a gradient search stays, as the first flip of the budget.
        target: where a batch has the labels, for ``divergence="ce"`` and to choose one: an index, a key or a callable.
        call: which of several forward passes in one training step counts, from 0. None takes all that the loss depends
            on, and their mean.
        padding_mask: where a batch tells real examples or time steps from padding: an index, a key or a callable that
            leads to a tensor ``(B,)`` or ``(B, T)``, 1 where they are real; None where there is no padding.
        start_rate: the probability of dropping a unit in a sampled start, in [0, 1].
        per_step: whether recurrent sites have a mask for each time step.
        search: ``label`` flips what raises the step's own loss most, by the gradient that training computes anyway.
            ``gradient`` is the published search, which finds less on small trained networks and takes a forward and a
            backward more. ``top`` and ``fisher`` look at the prediction alone, see
            `lightning_advdrop.regularizers.AdversarialDropout`.
        draws: the labels that the Fisher search draws for each example, at least 1.
        reference_in_base: whether the reference mask acts in the base pass, too.
        batch_dim: for the kind ``dropout``, the dimension of an activation that holds the examples; None finds it.
        nonfinite: what happens where the penalty is NaN or infinite: ``raise``, or ``skip``, which leaves the penalty
            out of this step and logs how many steps of the epoch that were, as ``advdrop/skipped``.
        mask: the old name of ``padding_mask``, deprecated.
        class_dim: the dimension of the prediction that holds the classes; None takes that of the module's own loss,
            else the last.
        ignore_index: the class index of what has no label; None takes that of the module's own loss, else -100.
        both_losses: whether the supervised loss is the mean of that of the base pass and that under the adversarial
            mask, instead of the first alone. The second is what ``training_step`` computes of that pass.
        rescaling: what a mask is multiplied by: ``rows``, each row by ``units / kept``, or ``expected``, all by
            ``1 / (1 - start_rate)`` with a sampled start.

    Raises:
        ValueError: if an argument is not in its range or list, or `AdversarialDropout` refuses their combination.

    Example:
        >>> callback = AdversarialDropoutCallback(sites="recurrent", rate=0.03)
        >>> callback.regularizer.rate
        0.03
    """

    log_prefix = AdversarialDropout.log_prefix
    regularizer: AdversarialDropout

    def __init__(
        self,
        sites: SiteSpecs = "recurrent",
        rate: float = 0.05,
        weight: float = 1.0,
        steps: int = 1,
        divergence: DivergenceChoice = "auto",
        direction: Direction = "base_adv",
        start: Start = "one_drop",
        flips: Flips = "both",
        detach_base: bool = True,
        share_masks: bool = True,
        rampup_epochs: int = 0,
        module: str | None = None,
        output: Output = None,
        log_every_n_steps: int | None = None,
        keep_start: bool = False,
        target: Target = 1,
        call: int | None = None,
        padding_mask: Target | None = None,
        start_rate: float = 0.1,
        per_step: bool = False,
        search: Search = "label",
        draws: int = 1,
        reference_in_base: bool = False,
        batch_dim: int | None = None,
        nonfinite: Nonfinite = "raise",
        mask: Target | None = None,
        class_dim: int | None = None,
        ignore_index: int | None = None,
        both_losses: bool = False,
        rescaling: Rescaling = "rows",
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        own = {each.name: given.pop(each.name) for each in fields(AdversarialDropout)}
        super().__init__(AdversarialDropout(**own), **given)
