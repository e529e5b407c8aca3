"""Regularizers as Lightning callbacks."""

from lightning_advdrop.callbacks.adversarial_dropout import AdversarialDropoutCallback
from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.callbacks.denormals import flush_denormals
from lightning_advdrop.callbacks.training_step import regularized_loss

__all__ = ["AdversarialDropoutCallback", "RegularizerCallback", "flush_denormals", "regularized_loss"]
