"""The masked LSTM against the stock layer and a naive reference, over layers, directions and layouts."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_advdrop.nn import MaskedLSTM
from tests.helpers.lstm_cases import LAYOUTS, Case, Layout, Run, assert_same, cases, loss_of, run
from tests.helpers.reference_lstm import reference_lstm

thorough = settings(deadline=None, derandomize=True, max_examples=80)
Masks = list[Tensor | None]


def plain(layout: Layout = "padded", lengths: tuple[int, ...] = (4, 4, 4), **changes: Any) -> Case:
    given: dict[str, Any] = {
        "features": 3,
        "units": 4,
        "layers": 2,
        "bidirectional": True,
        "batch_first": True,
        "bias": True,
    }
    given |= {"layout": layout, "lengths": lengths, "with_state": True, "seed": 0}
    return Case(**given | changes)


def ones(case: Case, per_step: bool = False) -> list[Tensor]:
    steps = (max(case.lengths),) if per_step else ()
    return list(torch.ones(case.masks, *steps, len(case.lengths), case.units, dtype=torch.float64))


@st.composite
def masks(draw: st.DrawFn, case: Case) -> Masks:
    """Binary or real-valued, per sequence or per step, or none, for each layer and direction."""
    torch.manual_seed(case.seed + 3)
    found: Masks = []
    for _ in range(case.masks):
        shape: tuple[int, ...] = (len(case.lengths), case.units)
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


def reference_run(case: Case, lstm: nn.LSTM, found: Masks) -> Run:
    x, hx = case.sequences(), case.states()
    sequences = [row[:length] for row, length in zip(x, case.lengths, strict=True)]
    outputs, final = reference_lstm(lstm, sequences, hx, found)
    leaves = (x, *(hx or ()), *lstm.parameters(), *(mask for mask in found if mask is not None))
    # Masks of steps after the end of all sequences, and of sequences of one step without a state, may go unused.
    return Run(outputs, final, torch.autograd.grad(loss_of(outputs, final), leaves, materialize_grads=True))


@given(cases(), st.booleans())
@thorough
def test_masks_of_ones_give_the_stock_layer(case: Case, per_step: bool) -> None:
    assert_same(run(case, case.build(MaskedLSTM), ones(case, per_step)), run(case, case.build(nn.LSTM)))


@given(masked_cases())
@thorough
def test_any_masks_give_the_naive_reference(drawn: tuple[Case, Masks]) -> None:
    case, found = drawn
    lstm = case.build(MaskedLSTM)
    leaves = tuple(mask for mask in found if mask is not None)
    assert_same(run(case, lstm, found, leaves), reference_run(case, lstm, found))


@given(cases())
@settings(thorough, max_examples=30)
def test_without_a_mask_it_is_the_stock_layer_bit_by_bit(case: Case) -> None:
    torch.testing.assert_close(run(case, case.build(MaskedLSTM)), run(case, case.build(nn.LSTM)), rtol=0, atol=0)


@given(cases())
@settings(thorough, max_examples=30)
def test_stock_checkpoints_load_and_fit_back(case: Case) -> None:
    stock, ours = case.build(nn.LSTM), case.build(MaskedLSTM)
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
    lstm = case.build(MaskedLSTM)
    mask = torch.randn(len(lengths), 4, dtype=torch.float64)
    expected = reference_run(case, lstm, [mask.requires_grad_()])
    shapes = [mask, [mask], mask.expand(3, *mask.shape), *([mask[0]] if layout == "unbatched" else [])]
    for form in shapes:
        assert_same(run(case, lstm, form, (mask,)), expected)


@pytest.mark.parametrize("per_step", [True, False])
def test_masks_of_several_layers_may_be_stacked(per_step: bool) -> None:
    case = plain(layers=2)
    lstm, parts = case.build(MaskedLSTM), [torch.randn_like(mask) for mask in ones(case, per_step)]
    for form in (torch.stack(parts), tuple(parts)):
        torch.testing.assert_close(run(case, lstm, form), run(case, lstm, parts), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32, torch.bfloat16])
def test_masks_of_another_type_are_taken(dtype: torch.dtype) -> None:
    case = plain()
    mask = torch.randint(2, (case.masks, 3, case.units))
    lstm = case.build(MaskedLSTM)
    torch.testing.assert_close(run(case, lstm, mask.to(dtype)), run(case, lstm, mask.double()), rtol=0, atol=0)


def test_the_mask_acts_on_the_recurrent_input_and_not_on_the_output() -> None:
    case = plain(layers=1, bidirectional=False, with_state=False)
    lstm = case.build(MaskedLSTM)
    x = case.sequences()
    output, (h_n, _) = lstm(x, recurrent_mask=torch.zeros(3, 4))
    first, _ = lstm(x)
    assert output.ne(0).all()
    assert torch.equal(h_n[0], output[:, -1])
    torch.testing.assert_close(output[:, 0], first[:, 0])
    assert not torch.allclose(output[:, 1], first[:, 1])


@pytest.mark.parametrize("layout", ["padded", "sorted", "unsorted"])
@pytest.mark.parametrize("dropout", [0.3, 1.0])
@pytest.mark.parametrize("train", [True, False])
def test_dropout_between_layers_is_that_of_the_stock_layer(layout: Layout, dropout: float, train: bool) -> None:
    lengths = {"padded": (4, 4), "sorted": (4, 2), "unsorted": (2, 4)}[layout]
    case = plain(layout, lengths, layers=3)
    ours, stock = (case.build(kind, dropout=dropout).train(train) for kind in (MaskedLSTM, nn.LSTM))
    first, first_state = run(case, ours, ones(case)), torch.get_rng_state()
    second, second_state = run(case, stock), torch.get_rng_state()
    assert_same(first, second)
    assert torch.equal(first_state, second_state)


def test_dropout_between_layers_is_random_in_training_only() -> None:
    case = plain(layers=2)
    lstm, x = case.build(MaskedLSTM, dropout=0.5), case.sequences()
    runs = [lstm(x, recurrent_mask=ones(case))[0] for _ in range(2)]
    assert not torch.equal(*runs)
    lstm.eval()
    runs = [lstm(x, recurrent_mask=ones(case))[0] for _ in range(2)]
    assert torch.equal(*runs)
    assert_same(run(case, lstm, ones(case)), run(case, case.build(MaskedLSTM), ones(case)))


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cuda_gives_the_stock_layer_and_the_naive_reference(layout: Layout) -> None:
    lengths = {"padded": (3, 3), "sorted": (3, 2), "unsorted": (1, 3), "unbatched": (3,)}[layout]
    case = plain(layout, lengths)
    lstm, x, hx = case.build(MaskedLSTM), case.sequences(), case.states()
    mask = torch.randn(case.masks, len(lengths), case.units, dtype=torch.float64, requires_grad=True)
    expected = reference_run(case, lstm, list(mask.unbind(0)))
    assert hx is not None
    given = [state[:, 0] if layout == "unbatched" else state for state in hx]
    lstm = lstm.cuda()
    output, final = lstm(case.arrange(x.cuda()), tuple(s.cuda() for s in given), recurrent_mask=mask.cuda())
    outputs = case.unpad(output)
    loss = loss_of(outputs, final)
    grads = torch.autograd.grad(loss, (x, *hx, *lstm.parameters()))
    torch.testing.assert_close([part.cpu() for part in outputs], expected.outputs, rtol=1e-9, atol=1e-9)
    inputs_and_parameters = expected.grads[: len(grads)]
    torch.testing.assert_close([grad.cpu() for grad in grads], list(inputs_and_parameters), rtol=1e-9, atol=1e-9)
