"""Regularizers that compare two passes over the same batch; torch only."""

from lightning_advdrop.regularizers.adversarial_dropout import AdversarialDropout, Rescaling, Start
from lightning_advdrop.regularizers.base import Regularizer
from lightning_advdrop.regularizers.base_scores import fisher_scores
from lightning_advdrop.regularizers.comparison import Comparison, DivergenceChoice
from lightning_advdrop.regularizers.deciding import decide
from lightning_advdrop.regularizers.expectation_linear_dropout import ExpectationLinearDropout
from lightning_advdrop.regularizers.flips import fisher_flips
from lightning_advdrop.regularizers.fraternal_dropout import FraternalDropout
from lightning_advdrop.regularizers.inference_gap import InferenceGap, inference_gap
from lightning_advdrop.regularizers.losses import LossWatch, SeenLoss
from lightning_advdrop.regularizers.mask_search import Search
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.penalty import Penalty
from lightning_advdrop.regularizers.perturbations import (
    AdversarialTraining,
    PerturbationRegularizer,
    RandomPerturbation,
    VirtualAdversarialTraining,
)
from lightning_advdrop.regularizers.pseudo_ensemble import PiModel, PseudoEnsemble
from lightning_advdrop.regularizers.r_drop import RDrop
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer
from lightning_advdrop.regularizers.variational_dropout import VariationalDropout

__all__ = [
    "AdversarialDropout",
    "AdversarialTraining",
    "Comparison",
    "DivergenceChoice",
    "ExpectationLinearDropout",
    "FraternalDropout",
    "InferenceGap",
    "LossWatch",
    "Passes",
    "Penalty",
    "PerturbationRegularizer",
    "PiModel",
    "PseudoEnsemble",
    "RDrop",
    "RandomMaskRegularizer",
    "RandomPerturbation",
    "Regularizer",
    "Rescaling",
    "Search",
    "SeenLoss",
    "Start",
    "VariationalDropout",
    "VirtualAdversarialTraining",
    "decide",
    "fisher_flips",
    "fisher_scores",
    "inference_gap",
]
