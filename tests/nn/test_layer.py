"""The gradients of one masked layer of each kind: against finite differences, in parts, twice, in single precision."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.overrides import TorchFunctionMode

from lightning_advdrop import _torch
from lightning_advdrop.nn import (
    MASKED_LAYERS,
    layer,
    matmul,
    packed,
)
from lightning_advdrop.nn.matmul import RepeatedProduct, WeightGradient
from tests.helpers.masked_layers import KINDS, NAMES, WEIGHTS, Kind, Leaves, in_single_precision, leaves, outputs
from tests.helpers.messages import refused

SIZES = [[2, 2, 2], [3, 3, 2, 1, 1], [1, 1], [3], [1]]
some_sizes = pytest.mark.parametrize("sizes", SIZES[:2], ids=str)
each_sizes = st.lists(st.integers(1, 3), min_size=1, max_size=5).map(lambda sizes: sorted(sizes, reverse=True))
examples = settings(deadline=None, derandomize=True, max_examples=24)


each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def loss(kind: Kind, sizes: Sequence[int], given: Leaves) -> Tensor:
    return torch.stack([part.square().mean() + part.mean() for part in outputs(kind, sizes, given)]).sum()


def check(kind: Kind, sizes: Sequence[int], given: Leaves, part: slice = slice(None)) -> bool:
    """Whether the gradients of some results are those of finite differences."""
    return gradcheck(
        lambda *tensors: outputs(kind, sizes, dict(zip(given, tensors, strict=True)))[part], tuple(given.values())
    )


@each_kind
@given(each_sizes, st.sampled_from([1, 4, 512]), st.booleans(), st.booleans())
@examples
def test_gradients_are_those_of_finite_differences(
    kind: Kind, sizes: list[int], block: int, per_step: bool, biases: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "_MIN_BLOCK_ROWS", block)
        patch.setattr(packed, "_BLOCK_ELEMENTS", 0)
        assert check(kind, sizes, leaves(kind, sizes, per_step=per_step, biases=biases))


@each_kind
@given(each_sizes, st.booleans())
@examples
def test_blocks_do_not_change_the_result(kind: Kind, sizes: list[int], per_step: bool) -> None:
    given = leaves(kind, sizes, per_step=per_step)
    results = []
    for block in (512, 4, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packed, "_MIN_BLOCK_ROWS", block)
            patch.setattr(packed, "_BLOCK_ELEMENTS", 0)
            found = loss(kind, sizes, given)
            results.append((found, *torch.autograd.grad(found, list(given.values()))))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-12, atol=1e-12)


@given(st.sampled_from(list(KINDS)), st.sets(st.sampled_from(NAMES), min_size=1), st.sampled_from(SIZES), st.booleans())
@settings(deadline=None, derandomize=True, max_examples=120)
def test_a_gradient_does_not_depend_on_which_others_are_asked_for(
    name: str, needed: set[str], sizes: list[int], per_step: bool
) -> None:
    kind = KINDS[name]
    everything = leaves(kind, sizes, per_step=per_step)
    needed &= set(everything)
    if not needed:
        return
    grads = torch.autograd.grad(loss(kind, sizes, everything), list(everything.values()))
    expected = dict(zip(everything, grads, strict=True))
    some = leaves(kind, sizes, per_step=per_step, needed=sorted(needed))
    torch.autograd.backward(loss(kind, sizes, some))
    for name, tensor in some.items():
        if name in needed:
            torch.testing.assert_close(tensor.grad, expected[name], rtol=1e-12, atol=1e-12)
        else:
            assert tensor.grad is None


@each_kind
def test_only_the_gradients_that_are_asked_for_are_computed(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    added = []
    monkeypatch.setattr(layer, "_plus", lambda *_: pytest.fail("a bias gradient was computed"))
    monkeypatch.setattr(WeightGradient, "add", lambda self, *_: added.append(self._needed))
    given = leaves(kind, [2, 1], needed=["mask"])
    torch.autograd.backward(loss(kind, [2, 1], given))
    assert given["mask"].grad is not None
    for tensor in given.values():  # could have one, and is not asked for it
        tensor.requires_grad_()
    torch.autograd.grad(loss(kind, [2, 1], given), given["mask"])
    assert not any(added)


@each_kind
def test_a_loss_of_only_one_result_has_its_gradient(kind: Kind) -> None:
    for part in range(3 if kind.cell else 2):
        assert check(kind, [3, 2, 1], leaves(kind, [3, 2, 1]), slice(part, part + 1))


@each_kind
@pytest.mark.parametrize("per_step", [False, True])
def test_views_and_expanded_tensors_have_the_gradient_of_copies(kind: Kind, per_step: bool) -> None:
    sizes = [4, 4, 4]
    given = leaves(kind, sizes, per_step=per_step)
    sparse = torch.randn(12, 4, dtype=torch.float64).requires_grad_()
    row = torch.randn(given["h0"].shape[1], dtype=torch.float64).requires_grad_()

    def gradients(copy: bool) -> tuple[Tensor, ...]:
        views = {"x": sparse[:, ::2], "h0": row.expand(4, -1), "mask": row.expand_as(given["mask"])}
        made = {name: view.contiguous() if copy else view for name, view in views.items()}
        return torch.autograd.grad(loss(kind, sizes, given | made), (sparse, row))

    torch.testing.assert_close(gradients(False), gradients(True), rtol=1e-12, atol=1e-12)


@each_kind
@some_sizes
def test_backward_twice_gives_the_same_gradient(kind: Kind, sizes: list[int]) -> None:
    given = leaves(kind, sizes)
    tensors = list(given.values())
    found = torch.stack([part.sin().sum() for part in outputs(kind, sizes, given)]).sum()
    first = torch.autograd.grad(found, tensors, retain_graph=True)
    second = torch.autograd.grad(found, tensors, retain_graph=True)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.autograd.backward(found)
    torch.testing.assert_close(tuple(tensor.grad for tensor in tensors), first, rtol=0, atol=0)


@each_kind
def test_the_two_biases_have_gradients_of_their_own_memory(kind: Kind) -> None:
    given = leaves(kind, [2, 2])
    torch.autograd.backward(loss(kind, [2, 2], given))
    first, second = given["bias_ih"].grad, given["bias_hh"].grad
    assert first is not None
    assert second is not None
    assert first.data_ptr() != second.data_ptr()


@each_kind
def test_second_derivatives_are_refused(kind: Kind) -> None:
    given = leaves(kind, [2, 2])
    (grad,) = torch.autograd.grad(outputs(kind, [2, 2], given)[0].square().sum(), given["x"], create_graph=True)
    with refused("sites", "once", "create_graph=True", error=RuntimeError):
        torch.autograd.backward(grad.square().sum())


@each_kind
def test_changing_the_output_before_backward_is_noticed(kind: Kind) -> None:
    given = leaves(kind, [2, 2])
    hidden, h_n, *_ = outputs(kind, [2, 2], given)
    h_n.mul_(2)  # the final state is a copy of its own
    torch.autograd.grad(h_n.sum(), list(given.values()), retain_graph=True)
    hidden.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(hidden.sum(), given["x"])


def test_a_function_mode_sees_each_masked_layer() -> None:
    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **kwargs or {})

    calls = [(kind, leaves(kind, [2, 1])) for kind in KINDS.values()]
    with Watch():
        for kind, given in calls:
            outputs(kind, [2, 1], given)
    assert [function for function in seen if function in MASKED_LAYERS] == [kind.function for kind, _ in calls]


@each_kind
@pytest.mark.parametrize("sizes", [[5, 5, 4, 3, 3, 2, 2, 1, 1], [3] * 9], ids=str)
@pytest.mark.parametrize(("units", "per_step", "block"), [(320, False, 512), (320, True, 12), (16, True, 512)])
def test_single_precision_is_close_to_double(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, sizes: list[int], units: int, per_step: bool, block: int
) -> None:
    monkeypatch.setattr(packed, "_MIN_BLOCK_ROWS", block)
    monkeypatch.setattr(packed, "_BLOCK_ELEMENTS", 0)
    monkeypatch.setattr(matmul, "_MIN_ELEMENTS_TO_PACK", 2**16)  # so that those of 320 units are packed
    double = leaves(kind, sizes, features=6, units=units, per_step=per_step)
    double = {name: t.detach() * 0.3 if name in WEIGHTS else t.detach() for name, t in double.items()}
    double = {name: tensor.requires_grad_() for name, tensor in double.items()}
    single = in_single_precision(double)
    expected, found = loss(kind, sizes, double), loss(kind, sizes, single)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    slopes = (torch.autograd.grad(value, list(t.values())) for value, t in ((expected, double), (found, single)))
    for name, reference, slope in zip(double, *slopes, strict=True):
        error = (slope.double() - reference).norm() / reference.norm()
        assert error < 2e-5, name


@each_kind
def test_the_large_single_precision_layers_do_use_the_packed_product(
    monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    made = []

    class Recorded(RepeatedProduct):
        def __init__(self, weight: Tensor, rows: int, products: int) -> None:
            super().__init__(weight, rows, products)
            made.append(self._packed is not None)

    monkeypatch.setattr(layer, "RepeatedProduct", Recorded)
    monkeypatch.setattr(matmul, "_MIN_ELEMENTS_TO_PACK", 2**18)
    given = in_single_precision(leaves(kind, [2] * 8, units=520))
    torch.autograd.backward(loss(kind, [2] * 8, given))
    assert made == [_torch.has_packed_product()] * 2  # forward and backward


@pytest.mark.gpu
@each_kind
@some_sizes
@pytest.mark.parametrize("per_step", [False, True])
def test_cuda_agrees_with_the_cpu(kind: Kind, sizes: list[int], per_step: bool) -> None:
    cpu = leaves(kind, sizes, per_step=per_step)
    cuda = {name: tensor.detach().cuda().requires_grad_() for name, tensor in cpu.items()}
    results = []
    for tensors in (cpu, cuda):
        parts = outputs(kind, sizes, tensors)
        grads = torch.autograd.grad([part.sin().sum() for part in parts], list(tensors.values()))
        results.append([tensor.cpu() for tensor in (*parts, *grads)])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.gpu
@each_kind
def test_gradients_on_cuda_are_those_of_finite_differences(kind: Kind) -> None:
    given = leaves(kind, [3, 2, 1])
    assert check(kind, [3, 2, 1], {name: tensor.detach().cuda().requires_grad_() for name, tensor in given.items()})
