"""Searches find the same masks in predictions that are time first, ``(T, B, C)``, as in those that are batch first."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.functional import flip_budget
from lightning_advdrop.masking import RecordedForward, find_sites
from lightning_advdrop.regularizers import (
    AdversarialDropout,
    InferenceGap,
    Passes,
    base_scores,
    inference_gap,
    mask_search,
)

BATCH, STEPS, FEATURES, UNITS, CLASSES = 4, 6, 3, 20, 5
RATE = 0.2


class Tags(nn.Module):
    """A class, or one number, for each step; ``layered`` computes it by a layer that tells steps from examples."""

    def __init__(self, batch_first: bool, *, layered: bool = True, classes: int = CLASSES) -> None:
        super().__init__()
        self.batch_first, self.layered, self.classes = batch_first, layered, classes
        self.lstm, self.head = nn.LSTM(FEATURES, UNITS, batch_first=batch_first), nn.Linear(UNITS, classes)
        self.first, self.drop, self.cell = nn.Linear(FEATURES, UNITS), nn.Dropout(0.3), nn.LSTMCell(FEATURES, UNITS)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, FEATURES) or (T, B, FEATURES)
        found: Tensor = self.head(self.lstm(x)[0] if self.layered else self.stepped(x))
        return found if self.classes > 1 else found.squeeze(-1)

    def stepped(self, x: Tensor) -> Tensor:
        time = int(self.batch_first)
        if not self.training:
            state, found = None, []
            for step in x.unbind(time):
                state = self.cell(step, state)
                found.append(state[0])
            return torch.stack(found, time)
        summed: Tensor = self.drop(self.first(x).tanh()).cumsum(time)
        return summed.tanh()


def data(steps: int, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    x, y = 3 * torch.randn(BATCH, steps, FEATURES).double(), torch.randint(CLASSES, (BATCH, steps))
    return x, y if classes > 1 else torch.randn(BATCH, steps).double()


def network(batch_first: bool, **arguments: Any) -> Tags:
    torch.manual_seed(1)
    net = Tags(batch_first, **arguments).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4)
    return net


def passes_of(method: AdversarialDropout, net: Tags, x: Tensor, y: Tensor, sites: Any) -> Passes:
    x, y = (x, y) if net.batch_first else (x.transpose(0, 1).contiguous(), y.T.contiguous())
    generator = torch.Generator().manual_seed(0)
    return method.first_pass(lambda: net(x), net, sites, target=y, generator=generator)


def found_rows(net: Tags, x: Tensor, y: Tensor, sites: Any = "recurrent", **settings: Any) -> tuple[Tensor, Tensor]:
    """The flips of each example, ``(B, units)``, and the penalty."""
    method = AdversarialDropout(RATE, **settings)
    passes = passes_of(method, net, x, y, sites)
    found = method.evaluate(passes)
    ((site, mask),) = found.masks.items()
    return site.as_rows((mask != passes.observed[site].reference()).double()), found.value


def both_ways(x: Tensor, y: Tensor, sites: Any = "recurrent", **settings: Any) -> tuple[Tensor, Tensor]:
    """The flips of a batch-first and a time-first network of the same weights; their penalties are equal."""
    known = {name: settings.pop(name) for name in ("layered", "classes") if name in settings}
    found = [found_rows(network(first, **known), x, y, sites, **settings) for first in (True, False)]
    torch.testing.assert_close(found[0][1], found[1][1])
    return found[0][0], found[1][0]


def some_unlabelled(y: Tensor) -> Tensor:
    labels = y.clone()
    labels[BATCH // 2 :] = -100
    return labels


@pytest.mark.parametrize("unlabelled", [False, True])
@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("search", ["top", "label", "gradient"])
@pytest.mark.parametrize("steps", [STEPS, BATCH, 2 * BATCH])
def test_the_same_flips(search: Any, rounds: int, steps: int, unlabelled: bool) -> None:
    x, y = data(steps)
    labels = some_unlabelled(y) if unlabelled else y
    first, second = both_ways(x, labels, search=search, steps=rounds)
    assert torch.equal(first, second)
    assert (first.sum(1) == flip_budget(RATE, UNITS)).all()


@pytest.mark.parametrize("steps", [STEPS, BATCH])
def test_examples_without_a_label_take_what_their_prediction_leans_on(steps: int) -> None:
    """Also where steps without any label are beside them, which are in another dimension."""
    x, y = data(steps)
    labels = some_unlabelled(y)
    labels[:, -1] = -100
    for first in (True, False):
        net = network(first)
        of_label, of_top = (found_rows(net, x, labels, search=search)[0] for search in ("label", "top"))
        same = (of_label == of_top).all(1)
        assert same[BATCH // 2 :].all()
        assert not same.all()


@pytest.mark.parametrize("steps", [STEPS, BATCH])
def test_steps_without_a_label_are_no_examples(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """The gradients of what a prediction leans on are computed only where an example has no label."""
    asked: list[int] = []
    leaning = base_scores.leaning_gradients

    def counted(*args: Any) -> Any:
        asked.append(1)
        return leaning(*args)

    monkeypatch.setattr(mask_search, "leaning_gradients", counted)
    x, y = data(steps)
    labels = y.clone()
    labels[:, -1] = -100
    for first in (True, False):
        found_rows(network(first), x, labels)
        assert not asked
    found_rows(network(True), x, some_unlabelled(y))
    assert asked


@pytest.mark.parametrize("steps", [STEPS, BATCH])
def test_dropout_of_a_network_without_a_layer_that_tells(steps: int) -> None:
    x, y = data(steps)
    for first in (True, False):
        flips, _ = found_rows(network(first, layered=False), x, some_unlabelled(y), "dropout")
        assert flips.shape == (BATCH, steps * UNITS)
        assert (flips.sum(1) > 0).all()


@pytest.mark.parametrize("steps", [STEPS, BATCH])
def test_numbers_for_each_step(steps: int) -> None:
    """A prediction ``(T, B)`` has no dimension of classes."""
    x, y = data(steps, classes=1)
    first, second = both_ways(x, y, classes=1, divergence="mse", search="top", steps=2)
    assert torch.equal(first, second)


def runs_of(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> int:
    counted: list[int] = []
    before = RecordedForward.run

    def counting(*args: Any, **more: Any) -> Any:
        counted.append(1)
        return before(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(RecordedForward, "run", counting)
        run()
    return len(counted)


@pytest.mark.parametrize("first", [True, False])
def test_one_more_pass_only_where_lengths_do_not_tell_and_only_once(
    monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    net, method = network(first), AdversarialDropout(RATE, search="top", steps=2)
    usual = 3  # the gradient at the first masks, the prediction under others, and that under the better ones
    for steps, more in ((STEPS, 0), (BATCH, 1), (BATCH, 0), (STEPS, 0)):
        passes = passes_of(method, net, *data(steps), "recurrent")
        assert runs_of(monkeypatch, functools.partial(method.evaluate, passes)) == usual + more


def gap_of(net: Tags, x: Tensor, y: Tensor, sites: str = "recurrent") -> InferenceGap:
    net.eval()
    x, y = (x, y) if net.batch_first else (x.transpose(0, 1).contiguous(), y.T.contiguous())
    recorded = RecordedForward(net, find_sites(net, sites), share_noise=True)
    with recorded.first_run():
        base = net(x)
    generator = torch.Generator().manual_seed(2)
    return inference_gap(Passes(recorded, lambda: net(x), base, y, generator=generator), RATE, "kl", samples=4)


@pytest.mark.parametrize("layered", [True, False])
@pytest.mark.parametrize("steps", [STEPS, BATCH])
def test_the_worst_random_mask_of_each_example(steps: int, layered: bool) -> None:
    sites = "lstm:recurrent" if layered else "cell:recurrent"
    gaps = [gap_of(network(first, layered=layered), *data(steps), sites) for first in (True, False)]
    torch.testing.assert_close(gaps[0].random_max, gaps[1].random_max)
    assert gaps[0].random_max > gaps[0].samples.max()


def test_as_many_classes_as_examples_are_no_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """In predictions ``(B, C, T)``, whose classes are in dimension 1, and ``(B, C)``."""
    net = network(True, classes=BATCH)
    x, y = data(STEPS)
    y = y % BATCH
    for forward, labels in ((lambda: net(x).transpose(1, 2), y), (lambda: net(x)[:, -1], y[:, -1])):
        method = AdversarialDropout(RATE, search="top", steps=2)
        passes = method.first_pass(forward, net, "lstm:recurrent", target=labels)
        assert runs_of(monkeypatch, functools.partial(method.evaluate, passes)) == 3
