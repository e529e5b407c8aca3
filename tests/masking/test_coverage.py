"""What the sites of a kind leave out, and the reasons given."""

import pytest
import torch
from torch import nn

from lightning_advdrop.masking import find_sites, not_covered


def reasons(model: nn.Module, spec: str) -> dict[str, str]:
    return {part.path: part.reason for part in not_covered(model, find_sites(model, spec))}


def test_nothing_is_left_out_where_every_layer_has_a_site() -> None:
    assert reasons(nn.ModuleDict({"a": nn.LSTM(2, 3), "b": nn.GRUCell(3, 3)}), "recurrent") == {}


def test_recurrent_layers_elsewhere() -> None:
    model = nn.ModuleDict({"a": nn.LSTM(2, 3), "b": nn.GRU(3, 3), "c": nn.LSTMCell(3, 3)})
    assert reasons(model, "a:recurrent") == dict.fromkeys("bc", "none of its sites is named")


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning", "ignore:.*jit.*:FutureWarning")
def test_scripted_modules() -> None:
    model = nn.ModuleDict({"plain": nn.LSTM(2, 3)})
    model["scripted"] = torch.jit.script(nn.Linear(2, 3))
    (part,) = not_covered(model, find_sites(model))
    assert part == (
        "scripted",
        "Linear",
        "it is scripted, and what it calls can't be seen; use the module it was made from",
    )


def test_dropout_that_has_no_mask_of_its_own() -> None:
    model = nn.ModuleDict(
        {
            "drop": nn.Dropout(0.1),
            "other": nn.ModuleDict({"drop": nn.Dropout2d(0.1), "off": nn.Dropout(0.0), "alpha": nn.AlphaDropout(0.1)}),
            "lstm": nn.LSTM(2, 3, num_layers=2, dropout=0.1),
            "one_layer": nn.LSTM(2, 3),
        }
    )
    assert reasons(model, "drop:dropout") == {
        "other.drop": "another path is named",
        "other.off": "with p=0.0 it draws no mask",
        "other.alpha": "its noise is no mask that could be replaced",
        "lstm": "dropout between its layers is part of one function; name its sites of the kind 'hidden'",
    }
