"""Torch modules: recurrent layers under masks, their kernels, AWD-LSTM, and models of documents."""

from lightning_advdrop.nn.awd_lstm import AWDLSTM, AWDLSTMOutput
from lightning_advdrop.nn.call import MASKED_LAYERS, RECURRENT_FUNCTIONS, RecurrentCall, RecurrentConfig, masked_call
from lightning_advdrop.nn.cells import CELL_FUNCTIONS, masked_cell
from lightning_advdrop.nn.document_models import (
    DocumentClassifier,
    DocumentEncoder,
    DocumentLanguageModel,
    LanguageModelOutput,
    LSTMStates,
    reversed_documents,
)
from lightning_advdrop.nn.embedding import LockedDropout, NormalizedEmbedding
from lightning_advdrop.nn.gru_kernel import masked_gru_layer
from lightning_advdrop.nn.layer import LayerWeights
from lightning_advdrop.nn.lstm_kernel import masked_lstm_layer
from lightning_advdrop.nn.modules import MaskedGRU, MaskedLSTM, MaskedRNN
from lightning_advdrop.nn.own_dropout import (
    Place,
    draw_noise,
    dropped_weight,
    locked_dropout,
    masked_weight,
    own_noise,
    word_dropout,
)
from lightning_advdrop.nn.recurrent_masks import RecurrentMasks
from lightning_advdrop.nn.rnn_kernel import masked_rnn_relu_layer, masked_rnn_tanh_layer

__all__ = [
    "AWDLSTM",
    "CELL_FUNCTIONS",
    "MASKED_LAYERS",
    "RECURRENT_FUNCTIONS",
    "AWDLSTMOutput",
    "DocumentClassifier",
    "DocumentEncoder",
    "DocumentLanguageModel",
    "LSTMStates",
    "LanguageModelOutput",
    "LayerWeights",
    "LockedDropout",
    "MaskedGRU",
    "MaskedLSTM",
    "MaskedRNN",
    "NormalizedEmbedding",
    "Place",
    "RecurrentCall",
    "RecurrentConfig",
    "RecurrentMasks",
    "draw_noise",
    "dropped_weight",
    "locked_dropout",
    "masked_call",
    "masked_cell",
    "masked_gru_layer",
    "masked_lstm_layer",
    "masked_rnn_relu_layer",
    "masked_rnn_tanh_layer",
    "masked_weight",
    "own_noise",
    "reversed_documents",
    "word_dropout",
]
