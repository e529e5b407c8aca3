"""Torch modules: recurrent layers that can be masked, and the kernels they run on."""

from lightning_advdrop.nn.lstm import MaskedLSTM
from lightning_advdrop.nn.lstm_kernel import LSTMWeights, masked_lstm_layer

__all__ = ["LSTMWeights", "MaskedLSTM", "masked_lstm_layer"]
