"""The masked layers against the stock layer and a naive reference, over layers, directions and layouts."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.helpers.lstm_cases import KINDS, LAYOUTS, Case, Layout, Run, assert_same, cases, loss_of, run
from tests.helpers.reference_recurrent import reference_layers

thorough = settings(deadline=None, derandomize=True, max_examples=120)
each_kind = pytest.mark.parametrize("kind", KINDS)
Masks = list[Tensor | None]


def plain(layout: Layout = "padded", lengths: tuple[int, ...] = (4, 4, 4), **changes: Any) -> Case:
    given: dict[str, Any] = {
        "kind": "lstm",
        "features": 3,
        "units": 4,
        "projection": 0,
        "layers": 2,
        "bidirectional": True,
        "batch_first": True,
        "bias": True,
    }
    given |= {"layout": layout, "lengths": lengths, "with_state": True, "seed": 0}
    return Case(**given | changes)


def ones(case: Case, per_step: bool = False) -> list[Tensor]:
    steps = (max(case.lengths),) if per_step else ()
    return list(torch.ones(case.masks, *steps, len(case.lengths), case.width, dtype=torch.float64))


@st.composite
def masks(draw: st.DrawFn, case: Case) -> Masks:
    """Binary or real-valued, per sequence or per step, or none, for each layer and direction."""
    torch.manual_seed(case.seed + 3)
    found: Masks = []
    for _ in range(case.masks):
        shape: tuple[int, ...] = (len(case.lengths), case.width)
        kind = draw(st.sampled_from(["binary", "real", "binary per step", "real per step", "none"]))
        if "step" in kind:
            shape = (max(case.lengths), *shape)
        mask = torch.randn(shape, dtype=torch.float64) if "real" in kind else torch.randint(2, shape).double()
        found.append(None if kind == "none" else mask.requires_grad_())
    return found


@st.composite
def masked_cases(draw: st.DrawFn) -> tuple[Case, Masks]:
    case = draw(cases())
    return case, draw(masks(case))


def reference_run(case: Case, layer: nn.RNNBase, found: Masks) -> Run:
    x, hx = case.sequences(), case.states()
    sequences = [row[:length] for row, length in zip(x, case.lengths, strict=True)]
    outputs, final = reference_layers(case.kind, layer, sequences, hx or case.zero_states(), found)
    leaves = (x, *(hx or ()), *layer.parameters(), *(mask for mask in found if mask is not None))
    # Masks of steps after the end of all sequences, and of sequences of one step without a state, may go unused.
    return Run(outputs, final, torch.autograd.grad(loss_of(outputs, final), leaves, materialize_grads=True))


@given(cases(), st.booleans())
@thorough
def test_masks_of_ones_give_the_stock_layer(case: Case, per_step: bool) -> None:
    assert_same(run(case, case.build(masked=True), ones(case, per_step)), run(case, case.build(masked=False)))


@given(masked_cases())
@thorough
def test_any_masks_give_the_naive_reference(drawn: tuple[Case, Masks]) -> None:
    case, found = drawn
    layer = case.build(masked=True)
    leaves = tuple(mask for mask in found if mask is not None)
    assert_same(run(case, layer, found, leaves), reference_run(case, layer, found))


@given(cases())
@settings(thorough, max_examples=30)
def test_without_a_mask_it_is_the_stock_layer_bit_by_bit(case: Case) -> None:
    torch.testing.assert_close(run(case, case.build(masked=True)), run(case, case.build(masked=False)), rtol=0, atol=0)


@given(cases())
@settings(thorough, max_examples=30)
def test_stock_checkpoints_load_and_fit_back(case: Case) -> None:
    stock, ours = case.build(masked=False), case.build(masked=True)
    assert list(ours.state_dict()) == list(stock.state_dict())
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    changed = {name: value.clone() for name, value in ours.state_dict().items()}
    ours.load_state_dict(stock.state_dict())
    assert_same(run(case, ours, ones(case)), run(case, stock))
    stock.load_state_dict(changed)
    ours.load_state_dict(changed)
    assert_same(run(case, ours, ones(case)), run(case, stock))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mask_of_one_layer_may_stand_alone(layout: Layout) -> None:
    lengths = {"padded": (3, 3), "sorted": (3, 2), "unsorted": (1, 3), "unbatched": (3,)}[layout]
    case = plain(layout, lengths, layers=1, bidirectional=False)
    layer = case.build(masked=True)
    mask = torch.randn(len(lengths), 4, dtype=torch.float64)
    expected = reference_run(case, layer, [mask.requires_grad_()])
    shapes = [mask, [mask], mask.expand(3, *mask.shape), *([mask[0]] if layout == "unbatched" else [])]
    for form in shapes:
        assert_same(run(case, layer, form, (mask,)), expected)


@pytest.mark.parametrize("per_step", [True, False])
def test_masks_of_several_layers_may_be_stacked(per_step: bool) -> None:
    case = plain(layers=2)
    layer, parts = case.build(masked=True), [torch.randn_like(mask) for mask in ones(case, per_step)]
    for form in (torch.stack(parts), tuple(parts)):
        torch.testing.assert_close(run(case, layer, form), run(case, layer, parts), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32, torch.bfloat16])
def test_masks_of_another_type_are_taken(dtype: torch.dtype) -> None:
    case = plain()
    mask = torch.randint(2, (case.masks, 3, case.units))
    layer = case.build(masked=True)
    torch.testing.assert_close(run(case, layer, mask.to(dtype)), run(case, layer, mask.double()), rtol=0, atol=0)


@each_kind
def test_the_mask_acts_on_the_recurrent_input_and_not_on_the_output(kind: str) -> None:
    case = plain(layers=1, bidirectional=False, with_state=False, kind=kind)
    layer, x = case.build(masked=True), case.sequences()
    output, final = layer(x, recurrent_mask=torch.zeros(3, 4))
    first, _ = layer(x)
    if kind != "relu":
        assert output.ne(0).all()
    assert torch.equal(final[0] if kind != "lstm" else final[0][0], output[:, -1])
    torch.testing.assert_close(output[:, 0], first[:, 0])
    assert not torch.allclose(output[:, 1], first[:, 1])


@each_kind
def test_weights_swapped_for_a_call_are_those_of_the_masked_call(kind: str) -> None:
    case = plain(kind=kind)
    layer, x, masks = case.build(masked=True), case.sequences(), ones(case)
    swapped = {name: parameter.detach() * 2 for name, parameter in layer.named_parameters()}
    found, _ = torch.func.functional_call(layer, swapped, (x,), {"recurrent_mask": masks})
    torch.testing.assert_close(found, torch.func.functional_call(layer, swapped, (x,))[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer(x, recurrent_mask=masks)[0], layer(x)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("layout", "dropout", "train"),
    [("padded", 0.3, True), ("sorted", 0.3, True), ("unsorted", 1.0, True), ("padded", 0.3, False)],
)
@each_kind
def test_dropout_between_layers_is_that_of_the_stock_layer(
    kind: str, layout: Layout, dropout: float, train: bool
) -> None:
    lengths = {"padded": (4, 4), "sorted": (4, 2), "unsorted": (2, 4)}[layout]
    case = plain(layout, lengths, layers=3, kind=kind)
    ours, stock = (case.build(masked=m, dropout=dropout).train(train) for m in (True, False))
    first, first_state = run(case, ours, ones(case)), torch.get_rng_state()
    second, second_state = run(case, stock), torch.get_rng_state()
    assert_same(first, second)
    assert torch.equal(first_state, second_state)


def test_dropout_between_layers_is_random_in_training_only() -> None:
    case = plain(layers=2)
    layer, x = case.build(masked=True, dropout=0.5), case.sequences()
    runs = [layer(x, recurrent_mask=ones(case))[0] for _ in range(2)]
    assert not torch.equal(*runs)
    layer.eval()
    runs = [layer(x, recurrent_mask=ones(case))[0] for _ in range(2)]
    assert torch.equal(*runs)
    assert_same(run(case, layer, ones(case)), run(case, case.build(masked=True), ones(case)))


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@each_kind
def test_cuda_gives_the_stock_layer_and_the_naive_reference(kind: str, layout: Layout) -> None:
    lengths = {"padded": (3, 3), "sorted": (3, 2), "unsorted": (1, 3), "unbatched": (3,)}[layout]
    case = plain(layout, lengths, kind=kind)
    layer, x, hx = case.build(masked=True), case.sequences(), case.states()
    mask = torch.randn(case.masks, len(lengths), case.units, dtype=torch.float64, requires_grad=True)
    expected = reference_run(case, layer, list(mask.unbind(0)))
    assert hx is not None
    layer = layer.cuda()
    given = case.given_states(tuple(state.cuda() for state in hx))
    output, final = layer(case.arrange(x.cuda()), given, recurrent_mask=mask.cuda())
    outputs = case.unpad(output)
    loss = loss_of(outputs, final if kind == "lstm" else (final,))
    grads = torch.autograd.grad(loss, (x, *hx, *layer.parameters()))
    torch.testing.assert_close([part.cpu() for part in outputs], expected.outputs, rtol=1e-9, atol=1e-9)
    inputs_and_parameters = expected.grads[: len(grads)]
    torch.testing.assert_close([grad.cpu() for grad in grads], list(inputs_and_parameters), rtol=1e-9, atol=1e-9)
