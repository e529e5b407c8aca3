import pytest
import torch
from torch import Tensor

from lightning_advdrop import _torch
from lightning_advdrop.nn.matmul import RepeatedProduct, WeightGradient

WIDTH, LARGE = 256, (8192, 256)  # 2 ** 21 elements, the least that is packed
needs_packing = pytest.mark.skipif(not _torch.has_packed_product(), reason="this torch has no packed linear product")


def assert_close(found: Tensor, expected: Tensor) -> None:
    double = expected.dtype is torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12 if double else 1e-5, atol=1e-12 if double else 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 5), (40, 10), LARGE, (256, 1024), (1030, 300)])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_those_of_the_weight(shape: tuple[int, int], dtype: torch.dtype, transposed: bool) -> None:
    weight = torch.randn(shape[::-1], dtype=dtype).t() if transposed else torch.randn(shape, dtype=dtype)
    product = RepeatedProduct(weight, rows=4, products=100)
    for rows in (4, 1, 3, 9):
        x = torch.randn(rows, shape[1], dtype=dtype)
        expected = x @ weight.t()
        assert_close(product(x), expected)
        assert_close(product(torch.randn_like(x).copy_(x).t().contiguous().t()), expected)  # columns first in memory


@pytest.mark.parametrize("shape", [(6, 5), LARGE])
def test_adding_happens_in_place_and_touches_nothing_else(shape: tuple[int, int]) -> None:
    weight, x = torch.randn(shape), torch.randn(3, shape[1])
    kept = weight.clone(), x.clone()
    base = torch.randn(9, shape[0])
    before, out = base.clone(), base[3:6]
    product = RepeatedProduct(weight, rows=3, products=10)
    assert product.add_to(out, x) is out
    assert_close(base[3:6], before[3:6] + x @ weight.t())
    assert torch.equal(base[:3], before[:3])
    assert torch.equal(base[6:], before[6:])
    assert torch.equal(weight, kept[0])
    assert torch.equal(x, kept[1])


@pytest.mark.parametrize("shape", [(6, 5), (1024, 256), LARGE])
def test_a_product_goes_into_given_rows_where_that_helps(shape: tuple[int, int]) -> None:
    weight, x, out = torch.randn(shape), torch.randn(3, shape[1]), torch.full((3, shape[0]), torch.nan)
    product = RepeatedProduct(weight, rows=3, products=10)
    found = product(x, out=out)
    assert_close(found, x @ weight.t())
    assert (found is out) is (product._packed is None)


@pytest.mark.parametrize(("products", "copied"), [(7, False), (8, True)])
def test_weights_are_transposed_once_for_many_products(products: int, copied: bool) -> None:
    weight = torch.randn(6, 5)
    transposed = RepeatedProduct(weight, rows=3, products=products)._transposed
    assert torch.equal(transposed, weight.t())
    assert transposed.is_contiguous() is copied
    back = RepeatedProduct(weight.t(), rows=3, products=products)._transposed
    assert back.data_ptr() == weight.data_ptr()  # the products of the backward pass need no copy


def test_a_weights_gradient_is_that_of_all_blocks() -> None:
    gradient, expected = WeightGradient(True), torch.zeros(4, 3, dtype=torch.float64)
    for rows in (5, 2):
        grads, inputs = (torch.randn(rows, width, dtype=torch.float64) for width in (4, 3))
        gradient.add(grads, lambda inputs=inputs: inputs)  # type: ignore[misc]
        expected += grads.t() @ inputs
    assert gradient.value is not None
    assert gradient.value.is_contiguous()
    assert_close(gradient.value, expected)


@needs_packing
def test_large_weights_of_many_products_are_packed() -> None:
    assert RepeatedProduct(torch.ones(LARGE), rows=2, products=8)._packed is not None
    assert RepeatedProduct(torch.ones(LARGE).t(), rows=2, products=8)._packed is not None


@pytest.mark.parametrize(
    ("shape", "dtype", "products"),
    [(LARGE, torch.float32, 7), ((8191, WIDTH), torch.float32, 8), (LARGE, torch.float64, 8)],
)
def test_others_are_not_packed(shape: tuple[int, int], dtype: torch.dtype, products: int) -> None:
    assert RepeatedProduct(torch.ones(shape, dtype=dtype), rows=2, products=products)._packed is None


def test_without_packing_the_products_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = torch.randn(LARGE), torch.randn(5, WIDTH)
    packed = RepeatedProduct(weight, rows=5, products=20)
    monkeypatch.setattr(_torch, "has_packed_product", lambda: False)
    unpacked = RepeatedProduct(weight, rows=5, products=20)
    assert unpacked._packed is None
    assert_close(packed(x), unpacked(x))


@pytest.mark.gpu
def test_products_on_cuda() -> None:
    weight, x = torch.randn(LARGE, dtype=torch.float64).cuda(), torch.randn(5, WIDTH, dtype=torch.float64).cuda()
    assert_close(RepeatedProduct(weight, rows=5, products=20)(x), x @ weight.t())
