"""AWD-LSTM: its parameters, its dropout, and text that goes on."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from lightning_advdrop.nn import AWDLSTM
from tests.helpers.messages import refused
from tests.helpers.reference_awd_lstm import ReferenceAWDLSTM

RATES = {"word": 0.2, "input": 0.3, "hidden": 0.25, "output": 0.4, "weight": 0.5}


def awd_lstm(**arguments: Any) -> AWDLSTM:
    torch.manual_seed(0)
    rates = {f"{name}_dropout": rate for name, rate in RATES.items()}
    model = AWDLSTM(**{"vocabulary_size": 11, "embedding_size": 4, "hidden_size": 6, **rates, **arguments})
    return model.double()


def words(steps: int = 7, batch: int = 3) -> torch.Tensor:
    return torch.randint(11, (steps, batch), generator=torch.Generator().manual_seed(1))


def test_parameters_are_those_of_plain_modules() -> None:
    plain = nn.ModuleDict(
        {
            "embedding": nn.Embedding(11, 4),
            "rnns": nn.ModuleList([nn.LSTM(4, 6), nn.LSTM(6, 6), nn.LSTM(6, 4)]),
            "decoder": nn.Linear(4, 11),
        }
    )
    model = awd_lstm().float()
    model(words()).logits.sum().backward()
    assert list(model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(model.state_dict())
    assert model.decoder.weight is model.embedding.weight
    assert all(
        isinstance(parameter, nn.Parameter) for layer in model.rnns for parameter in vars(layer)["_flat_weights"]
    )
    copy.deepcopy(model)
    pickle.loads(pickle.dumps(model))


def test_untied_weights() -> None:
    model = awd_lstm(tie_weights=False)
    assert model.decoder.weight.shape == (11, 6)
    assert sum(parameter.numel() for parameter in model.parameters()) > sum(p.numel() for p in awd_lstm().parameters())
    assert model(words()).outputs.shape == (7, 3, 6)


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = AWDLSTM(10_000)
    assert sum(parameter.numel() for parameter in model.parameters()) == 24_221_600


def test_initial_weights() -> None:
    model = awd_lstm(vocabulary_size=500, tie_weights=False)
    for weight in (model.embedding.weight, model.decoder.weight):
        assert 0.09 < float(weight.detach().abs().max()) <= 0.1
    assert not model.decoder.bias.any()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_the_reference_does(training: bool, tied: bool) -> None:
    model, tokens = awd_lstm(tie_weights=tied).train(training), words()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    states = model.eval()(tokens).states
    model.train(training)
    torch.manual_seed(3)
    output = model(tokens, states)
    torch.manual_seed(3)
    expected = ReferenceAWDLSTM(parameters, RATES if training else {}, {})(tokens, states)
    torch.testing.assert_close(output.logits, expected, rtol=0, atol=1e-12)
    leaves = list(model.parameters())
    found = torch.autograd.grad(output.logits.square().sum(), leaves, retain_graph=True)
    for one, other in zip(found, torch.autograd.grad(expected.square().sum(), leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_text_that_goes_on_is_read_like_one_text() -> None:
    model, tokens = awd_lstm().eval(), words(steps=12)
    whole = model(tokens)
    first = model(tokens[:5])
    second = model(tokens[5:], first.states)
    torch.testing.assert_close(torch.cat([first.logits, second.logits]), whole.logits, rtol=0, atol=1e-12)
    for one, other in zip(second.states, whole.states, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_outputs_before_and_after_dropout() -> None:
    model = awd_lstm()
    output = model(words())
    kept = output.outputs != 0
    torch.testing.assert_close(output.outputs, torch.where(kept, output.raw_outputs / 0.6, 0))
    assert torch.equal(kept[0], kept[-1])
    assert not kept.all()
    evaluated = model.eval()(words())
    assert evaluated.outputs is evaluated.raw_outputs


@pytest.mark.parametrize(
    ("argument", "allowed", "value"),
    [
        ("vocabulary_size", 1, 0),
        ("num_layers", 1, 0),
        ("word_dropout", "[0, 1)", 1.0),
        ("weight_dropout", "[0, 1)", -0.1),
    ],
)
def test_arguments_that_are_refused(argument: str, allowed: object, value: Any) -> None:
    with refused(argument, allowed, value):
        awd_lstm(**{argument: value})


def test_inputs_that_are_refused() -> None:
    model = awd_lstm()
    with refused("tokens", "(steps, batch)", (7,)):
        model(words()[:, 0])
    with refused("states", 3, 1):
        model(words(), model(words()).states[:1])
