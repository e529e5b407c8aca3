"""The table of a callback's sites, and the warning about sites that never took part."""

import copy
import pickle
from typing import Any

import pytest
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback
from tests.helpers.messages import each_names, refused
from tests.helpers.plain_models import CLASSES, FEATURES, PlainModel, fitted_weights, seeded

EXPECTED = """\
| site              | layer     | mask              | rate         |
| ----------------- | --------- | ----------------- | ------------ |
| lstm.l1:recurrent | LSTM      | (B, 12)           | the callback |
| embed:embedding   | Embedding | (9, 1)            | the callback |
| lstm.l0:weight    | LSTM      | (48, 12)          | the callback |
| lstm:input        | LSTM      | (B, 1, 4)         | the callback |
| dropout:dropout   | Dropout   | as the activation | the callback |

Not covered:

| part | layer   | why                         |
| ---- | ------- | --------------------------- |
| off  | Dropout | with p=0.0 it draws no mask |

Dropout that is called as a function is found when the forward runs."""


class Model(PlainModel):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 2)
        self.off = nn.Dropout(0.0)


def test_the_table() -> None:
    sites = ["lstm.l1:recurrent", "embedding", "lstm.l0:weight", "input", "dropout"]
    assert AdversarialDropoutCallback(sites=sites).describe(Model()) == EXPECTED


def test_the_table_can_be_copied_and_pickled() -> None:
    table = AdversarialDropoutCallback(sites=["recurrent", "dropout"]).describe(Model())
    for again in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert again == table
        assert again._repr_html_() == table._repr_html_()


def test_rates_of_their_own_are_shown() -> None:
    table = AdversarialDropoutCallback(sites={"recurrent": 0.25}).describe(PlainModel())
    assert "| lstm.l0:recurrent | LSTM  | (B, 12) | 0.25 |" in table


def test_sites_that_can_not_be_found_are_refused() -> None:
    with refused("sites", "'recurrent'", "Linear"):
        AdversarialDropoutCallback().describe(nn.Linear(2, 3))


class WithAnUnusedLayer(PlainModel):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.GRU(FEATURES, CLASSES)


def test_sites_that_never_take_part_are_warned_about_once() -> None:
    with pytest.warns(UserWarning, match="sites: ") as caught:
        fitted_weights(seeded(WithAnUnusedLayer), AdversarialDropoutCallback())
    messages = [str(each.message) for each in caught if "sites: " in str(each.message)]
    assert each_names(messages, [("unused.l0:recurrent", "no forward pass", "other sites")])
    assert "lstm" not in messages[0]


class FunctionalOnly(PlainModel):
    def forward(self, x: Tensor) -> Any:
        output, _ = self.lstm(x)
        return self.head(nn.functional.dropout(output[:, -1], 0.3, self.training))

    def __init__(self) -> None:
        super().__init__()
        del self.dropout


def test_no_warning_for_a_module_that_stands_for_functional_dropout() -> None:
    fitted_weights(seeded(FunctionalOnly), AdversarialDropoutCallback(sites="dropout"))  # warnings are errors


class RateOnly(FunctionalOnly):
    """Has a module for its dropout, of which it uses the rate."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.part = nn.ModuleDict({"drop": nn.Dropout(0.3)})


def test_a_module_whose_rate_a_function_uses_has_taken_part_and_one_elsewhere_has_not() -> None:
    callback = AdversarialDropoutCallback(sites="dropout")
    with pytest.warns(UserWarning, match="sites: ") as caught:
        fitted_weights(seeded(RateOnly), callback)
    messages = [str(each.message) for each in caught if "sites: " in str(each.message)]
    assert each_names(messages, [("part.drop:dropout", "no forward pass")])
    assert messages[0].count(":dropout") == 1
