"""Which of the modules that a step calls has the prediction: around all sites, or around the functional dropout."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback, RDropCallback
from lightning_advdrop.callbacks.around_sites import branches, candidates, possibly_around
from lightning_advdrop.masking import find_sites
from tests.helpers.messages import refused
from tests.helpers.plain_models import CLASSES, FEATURES, fitted_weights, loader, quiet_trainer, seeded


class Dropping(nn.Module):
    """Functional dropout between two layers, and a recurrent layer before if asked for."""

    def __init__(self, recurrent: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, 5, batch_first=True) if recurrent else None
        self.first, self.second = nn.Linear(5 if recurrent else FEATURES, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x if self.lstm is None else self.lstm(x)[0]).mean(1)
        logits: Tensor = self.second(F.dropout(hidden, 0.5, self.training))
        return logits


class Calling(L.LightningModule):
    """Calls its network, and its criterion as a module, which is a child, too."""

    recurrent = False

    def __init__(self) -> None:
        super().__init__()
        self.c, self.network = nn.CrossEntropyLoss(), Dropping(self.recurrent)

    def predicted(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.predicted(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return self.c(self.predicted(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class CallingWithMemory(Calling):
    recurrent = True


def fit(model: L.LightningModule, **arguments: Any) -> AdversarialDropoutCallback:
    callback = AdversarialDropoutCallback(rate=0.2, **arguments)
    quiet_trainer(callbacks=[callback], max_epochs=1).fit(model, loader())
    return callback


# Functional dropout.


@pytest.mark.parametrize("method", [AdversarialDropoutCallback, RDropCallback])
def test_a_child_with_functional_dropout_that_is_called_counts(method: Any) -> None:
    each = [fitted_weights(seeded(Calling), method(sites=sites)) for sites in ("dropout", "network:dropout")]
    assert all(torch.equal(each[0][name], each[1][name]) for name in each[0])
    plain = fitted_weights(seeded(Calling))
    assert any(not torch.equal(each[0][name], plain[name]) for name in plain)


def test_which_one_counts_is_remembered() -> None:
    assert fit(seeded(Calling), sites="dropout").counted == "network"
    assert fit(seeded(Calling), sites="dropout", module="network").counted == "network"


@pytest.mark.parametrize("sites", [["recurrent", "dropout"], ["dropout", "recurrent"]])
def test_beside_other_sites_that_a_child_contains_it_counts(sites: list[str]) -> None:
    assert fit(seeded(CallingWithMemory), sites=sites).counted == "network"


class CallingItself(Calling):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return self.c(self(batch[0]), batch[1])


def test_a_module_that_is_called_as_a_whole_counts() -> None:
    assert fit(seeded(CallingItself), sites="dropout").counted == ""


class Twice(Calling):
    """Calls the network first, and is called as a whole then."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return self.c(self.network(batch[0]), batch[1]) + self.c(self(batch[0]), batch[1])


def test_the_outermost_one_counts() -> None:
    assert fit(seeded(Twice), sites="dropout").counted == ""


class AtFirstAsAWhole(Calling):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return self.c(self.network(batch[0]) if batch_idx else self(batch[0]), batch[1])


def test_a_later_step_that_calls_a_part_is_refused() -> None:
    with refused("module", "functional dropout", "none is called", "the LightningModule"):
        fit(seeded(AtFirstAsAWhole), sites="dropout")


class Siamese(Calling):
    def __init__(self) -> None:
        super().__init__()
        self.other = Dropping()

    def predicted(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x) + self.other(x)
        return logits


def test_two_children_with_functional_dropout_are_refused_by_name() -> None:
    with refused("sites", "'network'", "'other'", "sites='network:dropout'"):
        fit(seeded(Siamese), sites="dropout")
    assert fit(seeded(Siamese), sites="other:dropout").counted == "other"


class Inline(Calling):
    def predicted(self, x: Tensor) -> Tensor:
        hidden = F.dropout(self.network.first(x).mean(1), 0.5)
        logits: Tensor = self.network.second(hidden)
        return logits


def test_functional_dropout_in_the_step_itself_is_refused_with_a_remedy() -> None:
    with refused("module", "functional dropout", "none is called", "sites='encoder:dropout'", "the LightningModule"):
        fit(seeded(Inline), sites="dropout")


# Several modules with sites.


class MeanTeacher(Calling):
    recurrent = True

    def __init__(self) -> None:
        super().__init__()
        self.average = copy.deepcopy(self.network).requires_grad_(False)

    def predicted(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            slow = self.average(x)
        logits: Tensor = self.network(x) + 0.1 * slow
        return logits


def test_modules_that_contain_some_sites_are_suggested_the_trained_one_first() -> None:
    with refused("average.lstm, network.lstm", "'network' and 'average' are", "sites='network:recurrent'"):
        fit(seeded(MeanTeacher))
    assert fit(seeded(MeanTeacher), sites="network:recurrent").counted == "network"


def test_sites_of_several_kinds_are_suggested_together() -> None:
    with refused("'network' and 'average'", "sites=['network:recurrent', 'network:input']"):
        fit(seeded(MeanTeacher), sites=["recurrent", "input"])


class OneOfTwo(MeanTeacher):
    def predicted(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def test_a_single_one_is_suggested() -> None:
    with refused("only 'network' is called", "sites='network:recurrent'"):
        fit(seeded(OneOfTwo))


class Drops(Calling):
    """Dropout modules, none of which is called inside another module."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Dropout(0.2), nn.Dropout(0.3)

    def predicted(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network.second(self.late(self.network.first(self.early(x)).mean(1)))
        return logits


def test_dropout_modules_are_named() -> None:
    with refused("module", "(early, late)", "none is called", "the LightningModule"):
        fit(seeded(Drops), sites="dropout")


# Paths.


def test_functional_dropout_is_no_reason_to_look_further_out() -> None:
    model = nn.ModuleDict({"inner": Dropping(recurrent=True), "outer": nn.Linear(2, 2)})
    assert candidates(find_sites(model, ["dropout", "recurrent"])) == ["", "inner", "inner.lstm"]
    assert candidates(find_sites(model, ["outer:dropout", "recurrent"])) == [""]
    assert candidates(find_sites(model, ["inner:dropout", "dropout"])) == ["", "inner"]
    assert candidates(find_sites(model, ["inner:dropout", "outer:dropout"])) == [""]


def test_what_may_contain_functional_dropout() -> None:
    model = nn.ModuleDict({"inner": Dropping(recurrent=True), "outer": nn.Linear(2, 2)})
    assert possibly_around(find_sites(model, "dropout")) == ["inner", "outer"]
    assert possibly_around(find_sites(model, ["dropout", "inner:dropout"])) == [
        "inner.lstm",
        "inner.first",
        "inner.second",
    ]
    assert not possibly_around(find_sites(model, ["inner:dropout", "outer:dropout"]))
    assert not possibly_around(find_sites(model, ["dropout", "recurrent"]))


def test_branches_are_below_what_all_sites_have_in_common() -> None:
    def pair() -> nn.ModuleDict:
        return nn.ModuleDict({name: Dropping(recurrent=True) for name in ("one", "two")})

    assert list(branches(find_sites(nn.ModuleDict({"pair": pair()})))) == ["pair.one", "pair.two"]
    assert not branches(find_sites(nn.ModuleList([nn.LSTM(2, 2), nn.LSTM(2, 2)])))
    assert not branches(find_sites(pair(), "one:recurrent"))
