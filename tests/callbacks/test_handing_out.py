"""Gradients that are known early are handed out as a backward pass would compute them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from lightning_advdrop.callbacks import early_backward as module
from lightning_advdrop.callbacks.early_backward import EarlyBackward
from tests.helpers.early import METHODS, Classifier, hooked, same_weights
from tests.helpers.messages import refused


def leaf(*values: float) -> Tensor:
    return torch.tensor(values, requires_grad=True)


def known(*handed: tuple[Tensor, Tensor], scale: Tensor | None = None) -> EarlyBackward:
    """A loss of 2 with known gradients."""
    return EarlyBackward(torch.tensor(2.0, requires_grad=True), {}, list(handed), scale)


def grad_of(tensor: Tensor) -> list[float]:
    assert tensor.grad is not None
    values: list[float] = tensor.grad.tolist()
    return values


def test_they_are_added_to_those_of_the_other_terms() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0)
    early = known((x, torch.tensor([10.0, 20.0])), (y, torch.tensor([5.0])))
    total = early.completed(early.loss + x.square().sum())
    assert total.item() == 7
    total.backward()  # type: ignore[no-untyped-call]
    assert (grad_of(x), grad_of(y)) == ([12.0, 24.0], [5.0])


def test_their_share_is_the_derivative_of_the_total() -> None:
    x = leaf(1.0)
    early = known((x, torch.tensor([1.0])))
    early.completed(early.loss.square() + (x.sum() - early.loss) / 2).backward()  # type: ignore[no-untyped-call]
    assert grad_of(x) == [2 * 2 - 0.5 + 0.5]


def test_the_loss_alone_hands_them_out_too() -> None:
    x = leaf(1.0)
    early = known((x, torch.tensor([4.0])))
    both = early.completed(early.loss) + early.completed(early.loss + x.sum())
    both.backward()  # type: ignore[no-untyped-call]
    assert grad_of(x) == [9.0]


def test_they_are_scaled_as_the_loss_is_and_back() -> None:
    x = leaf(1.0)
    scale = torch.tensor(1024.0) / 3
    early = known((x, scale * torch.tensor([4.0])), scale=scale)
    (early.completed(early.loss) * scale).backward()  # type: ignore[no-untyped-call]
    assert grad_of(x) == (scale * torch.tensor([4.0])).tolist()


def test_gradients_are_accumulated() -> None:
    x = leaf(1.0)
    x.grad = torch.tensor([100.0])
    early = known((x, torch.tensor([4.0])))
    early.completed(early.loss + x.sum()).backward()  # type: ignore[no-untyped-call]
    assert grad_of(x) == [105.0]


def test_a_kept_graph_hands_them_out_again() -> None:
    x = leaf(1.0)
    early = known((x, torch.tensor([4.0])))
    total = early.completed(early.loss + x.square().sum())
    (first,) = torch.autograd.grad(total, x, retain_graph=True)
    assert first.tolist() == [6.0]
    total.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    assert grad_of(x) == [6.0]
    total.backward()  # type: ignore[no-untyped-call]
    assert grad_of(x) == [12.0]
    with refused("second time", "retain_graph=True", error=RuntimeError):
        total.backward()  # type: ignore[no-untyped-call]


def test_none_is_no_reason_to_refuse() -> None:
    x = leaf(1.0)
    early = known()
    early.completed(early.loss + x.sum()).backward()  # type: ignore[no-untyped-call]
    assert grad_of(x) == [1.0]


@pytest.mark.parametrize("kept", [False, True])
def test_leaves_that_share_a_gradient_get_one_each(kept: bool) -> None:
    x, y, z = leaf(1.0, 2.0), leaf(1.0, 2.0), leaf(1.0, 2.0)
    same, expanded = torch.tensor([3.0, 4.0]), torch.tensor([7.0]).expand(2)
    early = known((x, same), (y, same), (z, expanded))
    total = early.completed(early.loss + x.sum())
    total.backward(retain_graph=kept)  # type: ignore[no-untyped-call]
    assert (grad_of(x), grad_of(y), grad_of(z)) == ([4.0, 5.0], [3.0, 4.0], [7.0, 7.0])
    assert z.grad is not None
    z.grad.mul_(torch.tensor([1.0, 2.0]))
    assert (same.tolist(), expanded.tolist(), grad_of(z)) == ([3.0, 4.0], [7.0, 7.0], [7.0, 14.0])


class Alive(torch.autograd.Function):
    """Tells in its backward pass which tensors are alive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, watched: list[Any], told: list[bool]) -> Tensor:
        ctx.watched, ctx.told = watched, told
        return x.sum()

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> Any:
        gc.collect()
        ctx.told += [each() is not None for each in ctx.watched]
        return incoming.expand(2), None, None


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("kept", [False, True])
def test_they_are_freed_before_other_passes_are_propagated_back(
    kept: bool, tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not tells:  # as in a release of torch that doesn't say
        monkeypatch.setattr(module, "keeps_graph", lambda: True)
    x, told = leaf(1.0, 2.0), list[bool]()
    gradients = [torch.tensor([3.0, 4.0])]
    early = known((x, gradients[0]))
    watched = [weakref.ref(gradients.pop())]
    other: Tensor = Alive.apply(x, watched, told)  # type: ignore[no-untyped-call]
    total = early.completed(early.loss + other)
    del early
    total.backward(retain_graph=kept)  # type: ignore[no-untyped-call]
    assert told == [kept or not tells]
    assert grad_of(x) == [4.0, 5.0]


# In a fit.


class AsksFirst(L.Callback):
    """Asks for gradients before the loss is propagated back."""

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        found = torch.autograd.grad(loss, list(pl_module.lstm.parameters()), retain_graph=True)
        hooked(loss, lambda gradient: gradient * (1 + found[0].norm()))


class Twice(L.Callback):
    """Propagates the loss back twice."""

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        loss.backward(retain_graph=True)


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("method", ["label", "both losses"])
@pytest.mark.parametrize("callback", [AsksFirst, Twice])
@pytest.mark.filterwarnings("ignore:search=.* reads its scores in the base pass")
def test_a_graph_that_a_callback_keeps_trains_as_with_one_backward_pass(
    callback: Any, method: str, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_weights(monkeypatch, Classifier, METHODS[method], callbacks=[callback()], accumulate_grad_batches=batches)
