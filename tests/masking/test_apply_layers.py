"""Every kind of site of recurrent layers, against the naive references."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import MaskSite, find_sites
from lightning_advdrop.masking import apply as apply_masks
from tests.helpers.lstm_cases import LAYOUTS, Case, Layout
from tests.helpers.models_recurrent import random_mask
from tests.helpers.reference_recurrent import reference_layers

PLAIN = Case(
    kind="lstm",
    features=3,
    units=4,
    projection=0,
    layers=2,
    bidirectional=True,
    batch_first=False,
    bias=True,
    layout="padded",
    lengths=(5, 5, 5),
    with_state=True,
    seed=0,
)
CASES = {
    "lstm": PLAIN,
    "projected": replace(PLAIN, projection=2),
    "gru": replace(PLAIN, kind="gru"),
    "tanh": replace(PLAIN, kind="tanh", with_state=False),
    "relu": replace(PLAIN, kind="relu", layers=3, bidirectional=False),
    "batch_first": replace(PLAIN, kind="gru", batch_first=True),
    "without_bias": replace(PLAIN, bias=False, bidirectional=False),
}
LENGTHS: dict[Layout, tuple[int, ...]] = {
    "padded": (5, 5, 5),
    "sorted": (5, 4, 1),
    "unsorted": (2, 5, 3),
    "unbatched": (4,),
}
KINDS = ("recurrent", "weight", "input", "hidden", "output")
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def masks_for(case: Case, layer: nn.Module, kinds: Any) -> dict[MaskSite, Tensor]:
    return {site: random_mask(*site.shape(len(case.lengths))) for site in find_sites(layer, kinds)}


def expected(case: Case, layer: Any, masks: dict[MaskSite, Tensor]) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """The naive reference on a copy whose weights are multiplied; outputs are multiplied at the end."""
    copy = case.build(masked=False)
    named = {site.name: mask for site, mask in masks.items()}
    for site in find_sites(copy, "weight"):
        if site.name in named:
            assert isinstance(site.anchor, nn.Parameter)
            site.anchor.data.mul_(named[site.name])
    recurrent = [named.get(site.name) for site in find_sites(copy)]
    inputs = [named.get(f"l{index}:hidden" if index else ":input") for index in range(case.layers)]
    sequences = [row[:length] for row, length in zip(case.sequences(), case.lengths, strict=True)]
    outputs, final = reference_layers(
        case.kind, copy, sequences, case.states() or case.zero_states(), recurrent, inputs
    )
    output_mask = named.get(":output")
    if output_mask is not None:
        outputs = [output * output_mask[b] for b, output in enumerate(outputs)]
    return outputs, final


def found(case: Case, layer: Any, masks: dict[MaskSite, Tensor]) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    with apply_masks(layer, masks):
        output, final = layer(case.arrange(case.sequences()), case.given_states(case.states()))
    final = (final,) if isinstance(final, Tensor) else final
    final = tuple(state.unsqueeze(1) for state in final) if case.layout == "unbatched" else final
    return case.unpad(output), final


def assert_as_the_reference(case: Case, kinds: Any) -> None:
    layer = case.build(masked=False)
    masks = masks_for(case, layer, kinds)
    torch.testing.assert_close(found(case, layer, masks), expected(case, layer, masks), rtol=1e-10, atol=1e-10)


@each_case
def test_each_kind(case: Case) -> None:
    for kind in KINDS:
        assert_as_the_reference(case, kind)


@pytest.mark.parametrize("layout", LAYOUTS)
@each_case
def test_all_kinds_at_once_in_every_layout(case: Case, layout: Layout) -> None:
    assert_as_the_reference(replace(case, layout=layout, lengths=LENGTHS[layout]), list(KINDS))


@each_case
def test_a_mask_for_each_step(case: Case) -> None:
    layer = case.build(masked=False)
    masks = {site: random_mask(5, *site.shape(3)) for site in find_sites(layer)}
    torch.testing.assert_close(found(case, layer, masks), expected(case, layer, masks), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@each_case
def test_gradients_of_masks_and_parameters(case: Case, kind: str) -> None:
    layer = case.build(masked=False)
    masks = {site: mask.requires_grad_() for site, mask in masks_for(case, layer, kind).items()}
    outputs, _ = found(case, layer, masks)
    analytic = torch.autograd.grad(torch.cat(outputs).square().sum(), list(masks.values()))
    for (site, mask), gradient in zip(masks.items(), analytic, strict=True):
        place = tuple(int(torch.randint(size, ())) for size in mask.shape)
        values = []
        for step in (1e-6, -1e-6):
            moved = mask.detach().clone()
            moved[place] += step
            values.append(torch.cat(found(case, layer, {**masks, site: moved})[0]).square().sum().item())
        assert gradient[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("kind", ["recurrent", "hidden", "output"])
def test_dropout_between_layers_is_replayed(kind: str) -> None:
    layer = nn.GRU(3, 4, 3, dropout=0.5, bidirectional=True)
    x = torch.randn(6, 2, 3)
    masks = {site: site.sample(2, 0.5) for site in find_sites(layer, kind)}
    outputs = []
    for _ in range(2):
        with apply_masks(layer, masks):
            outputs.append(layer(x)[0])
    assert torch.equal(*outputs)
    layer.eval()
    with apply_masks(layer, masks):
        assert not torch.allclose(layer(x)[0], outputs[0])
