"""The reference of each regularizer, by its class."""

from __future__ import annotations

from collections.abc import Callable

from lightning_advdrop.regularizers import (
    AdversarialDropout,
    AdversarialTraining,
    ExpectationLinearDropout,
    FraternalDropout,
    PiModel,
    PseudoEnsemble,
    RandomPerturbation,
    RDrop,
    Regularizer,
    VariationalDropout,
    VirtualAdversarialTraining,
)
from tests.helpers import reference_family as family
from tests.helpers.reference_search import adversarial_dropout

REFERENCES: dict[type[Regularizer], Callable[[family.Problem], family.Expected]] = {
    AdversarialDropout: adversarial_dropout,
    AdversarialTraining: family.adversarial_training,
    ExpectationLinearDropout: family.expectation_linear_dropout,
    FraternalDropout: family.fraternal_dropout,
    PiModel: family.pseudo_ensemble,
    PseudoEnsemble: family.pseudo_ensemble,
    RDrop: family.r_drop,
    RandomPerturbation: family.random_perturbation,
    VariationalDropout: family.variational_dropout,
    VirtualAdversarialTraining: family.virtual_adversarial_training,
}
