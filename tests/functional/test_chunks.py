from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from lightning_advdrop.functional import bernoulli_kl, chunks, kl_divergence, mse_probs
from lightning_advdrop.functional.chunks import by_chunks

Divergence = Callable[[Tensor, Tensor], Tensor]
each_divergence = pytest.mark.parametrize("function", [kl_divergence, bernoulli_kl, mse_probs])
EXCLUDED = -float("inf")


def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_PER_THREAD", 2**40)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_PER_THREAD", 12)


def outputs(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    p, q = (3 * torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(2))
    return p.detach().requires_grad_(), q.detach().requires_grad_()


def test_rows_come_in_chunks_also_where_one_has_more_numbers_than_a_chunk() -> None:
    sizes: list[int] = []

    def count(p: Tensor, q: Tensor) -> Tensor:
        sizes.append(len(p))
        return (p - q).sum(-1)

    threads = torch.get_num_threads()
    p, q = torch.randn(5 * threads, 6), torch.randn(5 * threads, 6)
    torch.testing.assert_close(by_chunks(count, p, q), (p - q).sum(-1))
    assert sizes == [2 * threads, 2 * threads, threads]
    sizes.clear()
    p, q = torch.randn(3, 100 * threads), torch.randn(3, 100 * threads)
    torch.testing.assert_close(by_chunks(count, p, q), (p - q).sum(-1))
    assert sizes == [1, 1, 1]


@each_divergence
@pytest.mark.parametrize("shape", [(64, 7), (9, 5, 7), (70, 1), (3, 200)])
def test_values_and_gradients_are_those_of_the_whole(
    function: Divergence, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    p, q = outputs(*shape)
    p.data[0, ..., 0] = q.data[0, ..., 0] = EXCLUDED
    found = function(p, q)
    gradients = torch.autograd.grad(3 * found, (p, q))
    whole(monkeypatch)
    expected = function(p, q)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad(3 * expected, (p, q)), equal_nan=True)


def test_the_words_of_a_language_model_give_the_same_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_PER_THREAD", 5000)
    p, q = outputs(7, 3, 4000)
    found = kl_divergence(p, q)
    gradients = torch.autograd.grad(found, (p, q))
    whole(monkeypatch)
    expected = kl_divergence(p, q)
    assert torch.equal(found, expected)
    assert all(map(torch.equal, gradients, torch.autograd.grad(expected, (p, q))))


@each_divergence
def test_only_the_gradient_that_is_needed_is_computed(function: Divergence) -> None:
    p, q = outputs(40, 7)
    both = torch.autograd.grad(function(p, q), (p, q))
    (first,) = torch.autograd.grad(function(p, q.detach()), p)
    (second,) = torch.autograd.grad(function(p.detach(), q), q)
    torch.testing.assert_close((first, second), both)
    assert not function(p.detach(), q.detach()).requires_grad


@each_divergence
def test_gradients_and_their_gradients_are_right(function: Divergence) -> None:
    p, q = outputs(12, 5, dtype=torch.float64)
    assert gradcheck(function, (p, q))
    assert gradgradcheck(function, (p, q))


def test_an_output_whose_classes_are_not_the_last_in_memory() -> None:
    p, q = outputs(8, 7, 9)
    expected = torch.autograd.grad(kl_divergence(p.mT.contiguous(), q.mT.contiguous()), (p, q))
    torch.testing.assert_close(torch.autograd.grad(kl_divergence(p.mT, q.mT), (p, q)), expected)


@each_divergence
def test_one_pair_without_examples(function: Divergence) -> None:
    p, q = outputs(200)
    torch.testing.assert_close(function(p, q), function(p[None], q[None]))


def test_nothing_but_the_outputs_is_kept_for_the_backward_pass() -> None:
    p, q = outputs(40, 7)
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = kl_divergence(p, q)
    assert found.requires_grad
    assert sorted(kept) == [p.numel(), q.numel()]


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # by which torch differentiates forward
@each_divergence
def test_transforms_of_functions(function: Divergence, monkeypatch: pytest.MonkeyPatch) -> None:
    p, q = (each.detach() for each in outputs(3, 20, 7))
    (tangent,) = torch.randn(1, 20, 7)

    def computed() -> list[Tensor]:
        slope = torch.func.jvp(lambda each: function(each, q[0]), (p[0],), (tangent,))[1]
        return [torch.vmap(function)(p, q), torch.func.grad(function)(p, q), slope]

    found = computed()
    whole(monkeypatch)
    torch.testing.assert_close(found, computed())


def test_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    p, q = outputs(40, 7)
    with torch.autocast("cpu", torch.bfloat16):
        found = kl_divergence(p.bfloat16(), q.bfloat16())
        whole(monkeypatch)
        expected = kl_divergence(p.bfloat16(), q.bfloat16())
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, expected)
