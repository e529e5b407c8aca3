"""Pure functions on tensors: masks, divergences, schedules and the neural cache."""

from lightning_advdrop.functional.divergences import (
    Direction,
    DivergenceName,
    bernoulli_kl,
    check_divergence,
    divergence,
    kl_divergence,
    mse,
    mse_logits,
    mse_probs,
)
from lightning_advdrop.functional.labels import IGNORED_LABEL, cross_entropy_to_label
from lightning_advdrop.functional.masks import (
    Flips,
    adversarial_flips,
    drop_one,
    flip_budget,
    rescale_mask,
    sample_bernoulli,
    sample_one_drop,
)
from lightning_advdrop.functional.means import weighted_mean
from lightning_advdrop.functional.neural_cache import check_neural_cache, neural_cache
from lightning_advdrop.functional.schedules import gaussian_rampdown, sigmoid_rampup

__all__ = [
    "IGNORED_LABEL",
    "Direction",
    "DivergenceName",
    "Flips",
    "adversarial_flips",
    "bernoulli_kl",
    "check_divergence",
    "check_neural_cache",
    "cross_entropy_to_label",
    "divergence",
    "drop_one",
    "flip_budget",
    "gaussian_rampdown",
    "kl_divergence",
    "mse",
    "mse_logits",
    "mse_probs",
    "neural_cache",
    "rescale_mask",
    "sample_bernoulli",
    "sample_one_drop",
    "sigmoid_rampup",
    "weighted_mean",
]
