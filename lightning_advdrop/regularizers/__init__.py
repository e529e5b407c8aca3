"""Regularizers that compare two passes over the same batch; torch only."""

from lightning_advdrop.regularizers.adversarial_dropout import AdversarialDropout, Start
from lightning_advdrop.regularizers.base import Passes, Penalty, Regularizer

__all__ = ["AdversarialDropout", "Passes", "Penalty", "Regularizer", "Start"]
