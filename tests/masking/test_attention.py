"""Dropout of attention weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop.masking import apply as apply_masks
from lightning_advdrop.masking import find_sites
from tests.helpers.recording import by_name, halves, plain, record, references

BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 4, 5, 6, 3
FULLY_MASKED = torch.tensor([[True] * KEYS] * 2 + [[False] * KEYS] + [[True, False] * 3] * 2)


def float_mask(allowed: Tensor) -> Tensor:
    return torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, -torch.inf)


MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "scaled": {"scale": 0.3},
    "negative": {"scale": -0.3},
    "causal": {"is_causal": True},
    "bool": {"attn_mask": torch.ones(QUERIES, KEYS, dtype=torch.bool).tril(1)},
    "float": {"attn_mask": torch.linspace(-2, 2, QUERIES * KEYS, dtype=torch.float64).view(QUERIES, KEYS)},
    "bool_fully_masked": {"attn_mask": FULLY_MASKED},
    "float_fully_masked": {"attn_mask": float_mask(FULLY_MASKED)},
    "of_each_example": {"attn_mask": (torch.arange(BATCH * KEYS) % 5 > 0).view(BATCH, 1, 1, KEYS)},
    "grouped": {"enable_gqa": True},
    "grouped_causal": {"enable_gqa": True, "is_causal": True},
}


def inputs(**kwargs: Any) -> list[Tensor]:
    heads = 2 if kwargs.get("enable_gqa") else HEADS
    shapes = ((BATCH, HEADS, QUERIES, WIDTH), (BATCH, heads, KEYS, WIDTH), (BATCH, heads, KEYS, WIDTH))
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


plainly: Any = F.scaled_dot_product_attention


class Attention(nn.Module):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.kwargs = kwargs

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=0.5, **self.kwargs)


each_mask = pytest.mark.parametrize("kwargs", MASKS.values(), ids=MASKS)


@each_mask
def test_attention_taken_apart_is_torchs(kwargs: dict[str, Any]) -> None:
    model, given = Attention(**kwargs), inputs(**kwargs)
    (site,) = find_sites(model, "dropout")
    with apply_masks(model, {site: torch.ones(BATCH, HEADS, QUERIES, KEYS, dtype=torch.float64)}):
        output = model(*given)
    expected = plainly(*given, **kwargs)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    found, wanted = (torch.autograd.grad(y.square().sum(), given) for y in (output, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@each_mask
def test_its_noise_is_that_of_plain_training(kwargs: dict[str, Any]) -> None:
    model, given = Attention(**kwargs), inputs(**kwargs)
    recorded, base = record(model, lambda: model(*given), "dropout")
    torch.testing.assert_close(base, plain(lambda: model(*given)), rtol=1e-10, atol=1e-10)
    seen = by_name(recorded)[":dropout"]
    assert seen.shape == seen.activation == (BATCH, HEADS, QUERIES, KEYS)
    assert torch.equal(recorded.run(lambda: model(*given), references(recorded)), base)
    without = recorded.run(lambda: model(*given), {}, dropout=False)
    torch.testing.assert_close(without, plainly(*given, **kwargs), rtol=1e-10, atol=1e-10)


def test_a_mask_multiplies_the_attention_weights() -> None:
    model, (query, key, value) = Attention(), inputs()
    recorded, _ = record(model, lambda: model(query, key, value), "dropout")
    (site,) = recorded.observed
    mask = torch.rand(BATCH, HEADS, QUERIES, KEYS, dtype=torch.float64)
    weights = (query @ key.mT / WIDTH**0.5).softmax(-1)
    found = recorded.run(lambda: model(query, key, value), {site: mask})
    torch.testing.assert_close(found, (weights * mask) @ value, rtol=1e-10, atol=1e-10)


PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("padding", [None, PADDING])
def test_multi_head_attention(need_weights: bool, padding: Tensor | None) -> None:
    layer, x = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True).double(), torch.randn(2, 5, 8).double()
    model = nn.ModuleDict({"attention": layer})

    def forward() -> Tensor:
        output: Tensor = layer(x, x, x, key_padding_mask=padding, need_weights=need_weights)[0]
        return output

    recorded, base = record(model, forward, "dropout")
    torch.testing.assert_close(base, plain(forward), rtol=1e-10, atol=1e-10)
    seen = by_name(recorded)["attention:dropout"]
    assert seen.shape == ((4, 5, 5) if need_weights else (2, 2, 5, 5))
    assert seen.site.drop_rate == 0.3
    assert torch.equal(recorded.run(forward, references(recorded)), base)
    assert not torch.allclose(recorded.run(forward, halves(recorded)), base)
    without = recorded.run(forward, {}, dropout=False)
    model.eval()
    torch.testing.assert_close(without, forward(), rtol=1e-10, atol=1e-10)


def test_attention_elsewhere_is_one_call() -> None:
    layer, x = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True), torch.randn(2, 5, 8)
    model = nn.ModuleDict({"attention": layer, "d": nn.Dropout(0.5)})

    def forward() -> Tensor:
        output: Tensor = model["d"](layer(x, x, x, need_weights=False)[0])
        return output

    recorded, base = record(model, forward, "d:dropout")
    assert torch.equal(base, plain(forward))
    assert list(by_name(recorded)) == ["d:dropout"]
    assert torch.equal(recorded.run(forward, references(recorded)), base)


DECODER = ["self_attn", "dropout1", "multihead_attn", "dropout2", "dropout", "dropout3"]


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize(
    ("layer", "order"),
    [
        (nn.TransformerEncoderLayer, ["self_attn", "dropout1", "dropout", "dropout2"]),
        (nn.TransformerDecoderLayer, DECODER),
    ],
)
def test_transformer_layers(layer: Any, order: list[str], norm_first: bool) -> None:
    model = layer(8, 2, 16, dropout=0.2, batch_first=True, norm_first=norm_first).double()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    given = (x, x.flip(1)) if layer is nn.TransformerDecoderLayer else (x,)
    causal = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    mask = {"tgt_mask" if len(given) == 2 else "src_mask": causal}
    recorded, base = record(model, lambda: model(*given, **mask), "dropout")
    torch.testing.assert_close(base, plain(lambda: model(*given, **mask)), rtol=1e-10, atol=1e-10)
    assert list(by_name(recorded)) == [f"{name}:dropout" for name in order]
    for _ in range(2):
        assert torch.equal(recorded.run(lambda: model(*given, **mask), references(recorded)), base)
    without = recorded.run(lambda: model(*given, **mask), {}, dropout=False)
    torch.testing.assert_close(without, model.eval()(*given, **mask), rtol=1e-10, atol=1e-10)
