"""The gradients of one masked layer: against finite differences, in parts, twice, and in single precision."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from lightning_advdrop.nn import LSTMWeights, lstm_kernel, masked_lstm_layer
from lightning_advdrop.nn.matmul import RepeatedProduct, _has_packed_linear

SIZES = [[2, 2, 2], [3, 3, 2, 1, 1], [1, 1], [3], [1]]
each_sizes = pytest.mark.parametrize("sizes", SIZES, ids=str)
each_block = pytest.mark.parametrize("block", [1, 4, 512])
NAMES = ("x", "h0", "c0", "mask", "weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Leaves(NamedTuple):
    """The arguments of a layer that may need a gradient."""

    x: Tensor
    h0: Tensor
    c0: Tensor
    mask: Tensor
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None


def leaves(
    sizes: Sequence[int],
    *,
    features: int = 2,
    units: int = 3,
    per_step: bool = False,
    biases: bool = True,
    needed: Sequence[str] = NAMES,
) -> Leaves:
    state, scale = (sizes[0], units), units**-0.5
    steps = (len(sizes),) if per_step else ()
    shapes = [(sum(sizes), features), state, state, (*steps, *state), (4 * units, features), (4 * units, units)]
    shapes += [(4 * units,)] * 2 if biases else []
    torch.manual_seed(0)
    made = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    made[4:] = [weight * scale for weight in made[4:]]
    return Leaves(*(tensor.requires_grad_(name in needed) for name, tensor in zip(NAMES, made, strict=False)))


def in_single_precision(given: Leaves) -> Leaves:
    return Leaves(*[t.detach().float().requires_grad_() for t in given if t is not None])


def outputs(sizes: Sequence[int], *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, h0, c0, mask, *weights = given
    hidden, (h_n, c_n) = masked_lstm_layer(x, sizes, (h0, c0), mask, LSTMWeights(*weights))
    return hidden, h_n, c_n


def loss(sizes: Sequence[int], given: Leaves) -> Tensor:
    used = [tensor for tensor in given if tensor is not None]
    return torch.stack([part.square().mean() + part.mean() for part in outputs(sizes, *used)]).sum()


@each_sizes
@each_block
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("biases", [True, False])
def test_gradients_are_those_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], block: int, per_step: bool, biases: bool
) -> None:
    monkeypatch.setattr(lstm_kernel, "_BLOCK_ROWS", block)
    given = [tensor for tensor in leaves(sizes, per_step=per_step, biases=biases) if tensor is not None]
    assert gradcheck(lambda *tensors: outputs(sizes, *tensors), given)


@each_sizes
@pytest.mark.parametrize("per_step", [False, True])
def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, sizes: list[int], per_step: bool) -> None:
    given = leaves(sizes, per_step=per_step)
    results = []
    for block in (512, 4, 1):
        monkeypatch.setattr(lstm_kernel, "_BLOCK_ROWS", block)
        found = loss(sizes, given)
        results.append((found, *torch.autograd.grad(found, [t for t in given if t is not None])))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-12, atol=1e-12)


@given(st.sets(st.sampled_from(NAMES), min_size=1), st.sampled_from(SIZES), st.booleans())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_a_gradient_does_not_depend_on_which_others_are_asked_for(
    needed: set[str], sizes: list[int], per_step: bool
) -> None:
    everything = leaves(sizes, per_step=per_step)
    expected = dict(zip(NAMES, torch.autograd.grad(loss(sizes, everything), everything), strict=True))  # type: ignore[arg-type]
    some = leaves(sizes, per_step=per_step, needed=sorted(needed))
    torch.autograd.backward(loss(sizes, some))
    for name in NAMES:
        grad = getattr(some, name).grad
        if name in needed:
            torch.testing.assert_close(grad, expected[name], rtol=1e-12, atol=1e-12)
        else:
            assert grad is None


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_loss_of_only_one_result_has_its_gradient(part: int) -> None:
    sizes = [3, 2, 1]
    given = [tensor for tensor in leaves(sizes) if tensor is not None]
    assert gradcheck(lambda *tensors: outputs(sizes, *tensors)[part], given)


@pytest.mark.parametrize("per_step", [False, True])
def test_views_and_expanded_tensors_have_the_gradient_of_copies(per_step: bool) -> None:
    sizes = [4, 4, 4]
    given = leaves(sizes, per_step=per_step)
    assert given.bias_ih is not None
    sparse = torch.randn(12, 4, dtype=torch.float64).requires_grad_()
    row = torch.randn(3, dtype=torch.float64).requires_grad_()

    def gradients(copy: bool) -> tuple[Tensor, ...]:
        views = sparse[:, ::2], row.expand(4, 3), row.expand(4, 3), row.expand_as(given.mask)
        x, h0, c0, mask = (view.contiguous() if copy else view for view in views)
        found = loss(sizes, given._replace(x=x, h0=h0, c0=c0, mask=mask))
        return torch.autograd.grad(found, (sparse, row))

    torch.testing.assert_close(gradients(False), gradients(True), rtol=1e-12, atol=1e-12)


@each_sizes
def test_backward_twice_gives_the_same_gradient(sizes: list[int]) -> None:
    given = [tensor for tensor in leaves(sizes) if tensor is not None]
    found = torch.stack([part.sin().sum() for part in outputs(sizes, *given)]).sum()
    first = torch.autograd.grad(found, given, retain_graph=True)
    second = torch.autograd.grad(found, given, retain_graph=True)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.autograd.backward(found)
    torch.testing.assert_close(tuple(tensor.grad for tensor in given), first, rtol=0, atol=0)


def test_the_two_biases_have_gradients_of_their_own_memory() -> None:
    given = leaves([2, 2])
    torch.autograd.backward(loss([2, 2], given))
    assert given.bias_ih is not None
    assert given.bias_hh is not None
    assert given.bias_ih.grad is not None
    assert given.bias_hh.grad is not None
    assert torch.equal(given.bias_ih.grad, given.bias_hh.grad)
    assert given.bias_ih.grad.data_ptr() != given.bias_hh.grad.data_ptr()


def test_second_derivatives_are_refused() -> None:
    given = [tensor for tensor in leaves([2, 2]) if tensor is not None]
    (grad,) = torch.autograd.grad(outputs([2, 2], *given)[0].square().sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(grad.square().sum())
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(grad.square().sum(), given[0])


def test_changing_the_output_before_backward_is_noticed() -> None:
    given = [tensor for tensor in leaves([2, 2]) if tensor is not None]
    hidden, h_n, _ = outputs([2, 2], *given)
    h_n.mul_(2)  # the final state is a copy of its own
    torch.autograd.grad(h_n.sum(), given, retain_graph=True)
    hidden.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(hidden.sum(), given)


@pytest.mark.parametrize("sizes", [[4] * 10, [5, 5, 4, 3, 3, 2, 2, 1, 1], [3] * 7], ids=str)
@pytest.mark.parametrize(("units", "block"), [(256, 512), (256, 12), (16, 512)])
@pytest.mark.parametrize("per_step", [False, True])
def test_single_precision_is_close_to_double(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], units: int, per_step: bool, block: int
) -> None:
    monkeypatch.setattr(lstm_kernel, "_BLOCK_ROWS", block)
    double = leaves(sizes, features=6, units=units, per_step=per_step)
    single = in_single_precision(double)
    expected, found = loss(sizes, double), loss(sizes, single)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    slopes = (torch.autograd.grad(value, list(t)) for value, t in ((expected, double), (found, single)))  # type: ignore[arg-type]
    for name, reference, slope in zip(NAMES, *slopes, strict=True):
        error = (slope.double() - reference).norm() / reference.norm()
        assert error < 2e-5, name


def test_the_large_single_precision_layers_do_use_the_packed_product(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Recorded(RepeatedProduct):
        def __init__(self, weight: Tensor, rows: int, products: int) -> None:
            super().__init__(weight, rows, products)
            made.append(self._packed is not None)

    monkeypatch.setattr(lstm_kernel, "RepeatedProduct", Recorded)
    given = in_single_precision(leaves([2] * 8, units=256))
    torch.autograd.backward(loss([2] * 8, given))
    assert made == [_has_packed_linear()] * 2  # forward and backward


@pytest.mark.gpu
@each_sizes
@pytest.mark.parametrize("per_step", [False, True])
def test_cuda_agrees_with_the_cpu(sizes: list[int], per_step: bool) -> None:
    cpu = [tensor for tensor in leaves(sizes, per_step=per_step) if tensor is not None]
    cuda = [tensor.detach().cuda().requires_grad_() for tensor in cpu]
    results = []
    for tensors in (cpu, cuda):
        parts = outputs(sizes, *tensors)
        grads = torch.autograd.grad([part.sin().sum() for part in parts], tensors)
        results.append([tensor.cpu() for tensor in (*parts, *grads)])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.gpu
def test_gradients_on_cuda_are_those_of_finite_differences() -> None:
    given = [tensor.detach().cuda().requires_grad_() for tensor in leaves([3, 2, 1]) if tensor is not None]
    assert gradcheck(lambda *tensors: outputs([3, 2, 1], *tensors), given)
