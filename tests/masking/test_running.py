"""Knowing which module runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from lightning_advdrop.masking import RecordedForward, find_sites
from lightning_advdrop.masking import apply as apply_masks
from lightning_advdrop.masking.running import RunningModules


def assert_no_hooks() -> None:
    assert len(_global_forward_hooks) == len(_global_forward_pre_hooks) == 0


class Noting(nn.Module):
    """Notes the names of the modules that run when it does, then calls the next one."""

    def __init__(self, name: str, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.name, self.inner = name, inner
        self.running: Any = None
        self.seen: list[list[str]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append([getattr(part, "name", "") for part in self.running.stack])
        return x if self.inner is None else self.inner(x)


class Failing(Noting):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError(self.name)


class Catching(Noting):
    """Goes on where the module inside fails."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            super().forward(x)
        except KeyError:
            self.seen.append([getattr(part, "name", "") for part in self.running.stack])
        return x


def test_nested_calls() -> None:
    leaf = Noting("leaf")
    model = Noting("outer", Noting("inner", leaf))
    with RunningModules(model) as running:
        for part in (model, model.inner, leaf):
            part.running = running  # type: ignore[union-attr]
        model(torch.ones(1))
        leaf(torch.ones(1))
        assert running.stack == [model]
    assert leaf.seen == [["outer", "outer", "inner", "leaf"], ["outer", "leaf"]]
    assert_no_hooks()


def test_exceptions_that_the_model_catches() -> None:
    deep = Noting("deep", Failing("failing"))
    model = Catching("catching", Noting("between", deep))
    with RunningModules(nn.Module()) as running:
        for part in model.modules():
            part.running = running  # type: ignore[assignment]
        model(torch.ones(1))
        assert len(running.stack) == 1
    assert model.seen == [["", "catching"], ["", "catching"]]
    assert_no_hooks()


def test_an_exception_in_a_hook_of_the_module_itself() -> None:
    def fail(*_: Any) -> None:
        raise KeyError

    model = nn.Sequential(nn.Identity())
    model[0].register_forward_pre_hook(fail)
    with RunningModules(model) as running:
        with pytest.raises(KeyError):
            model(torch.ones(1))
        assert running.stack == [model]
    assert_no_hooks()


def test_outputs_are_handed_on_as_they_are() -> None:
    model = nn.Identity()
    value = object()
    with RunningModules(model):
        assert model(value) is value


def test_two_at_once() -> None:
    inner, model = nn.Identity(), nn.Sequential()
    with RunningModules(model) as first, RunningModules(inner) as second:
        inner(1)
        assert (first.stack, second.stack) == ([model], [inner])
    assert_no_hooks()


@pytest.mark.parametrize("fails", [False, True])
def test_no_hooks_are_left_by_contexts_and_runs(fails: bool) -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.GRU(3, 4))
    sites = find_sites(model, ["dropout", "recurrent"])
    x = torch.ones(5, 2, 2 if fails else 3)

    def run() -> None:
        recorded = RecordedForward(model, sites, share_noise=True)
        with recorded.first_run():
            model(x)
        assert_no_hooks()
        recorded.run(lambda: model(x), {})

    def apply() -> None:
        with apply_masks(model, {sites[-1]: torch.ones(2, 4)}):
            model(x)

    for call in (run, apply):
        if fails:
            with pytest.raises(RuntimeError, match=r"input\.size"):
                call()
        else:
            call()
        assert_no_hooks()


def test_dropout_after_a_caught_exception_belongs_to_the_module_that_caught_it() -> None:
    class Fallback(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.broken = nn.Linear(7, 7)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return torch.relu(self.broken(x))
            except RuntimeError:
                return nn.functional.dropout(x, 0.5)

    model = nn.ModuleDict({"fallback": Fallback()})
    recorded = RecordedForward(model, find_sites(model, "fallback:dropout"), share_noise=True)
    with recorded.first_run():
        model["fallback"](torch.ones(2, 3))
    assert [site.name for site in recorded.observed] == ["fallback:dropout"]
