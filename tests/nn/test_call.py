"""Calls of torch's recurrent functions: taken apart, put together again, and run under masks in several places."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_advdrop.nn import MASKED_LAYERS, RECURRENT_FUNCTIONS, RecurrentCall, RecurrentMasks
from tests.helpers.lstm_cases import KINDS, Case, cases, loss_of
from tests.helpers.messages import refused
from tests.helpers.reference_recurrent import reference_layers

FUNCTIONS = dict(zip(KINDS, RECURRENT_FUNCTIONS, strict=True))
thorough = settings(deadline=None, derandomize=True, max_examples=80)
batches = cases().filter(lambda case: case.layout in {"padded", "sorted"})


def _flat(layers: Any) -> list[Tensor]:
    return [weight for weights in layers.all_weights for weight in weights]


def arguments(case: Case, layers: Any, x: Tensor, hx: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """What the stock module gives to torch's function; the lengths of the case fall, or are all the same."""
    layout = layers.bias, layers.num_layers, layers.dropout, layers.training, layers.bidirectional
    state = hx if case.kind == "lstm" else hx[0]
    given = case.arrange(x)
    if isinstance(given, Tensor):
        return given, state, _flat(layers), *layout, case.batch_first
    return given.data, given.batch_sizes, state, _flat(layers), *layout


def call_of(case: Case, **kwargs: Any) -> RecurrentCall:
    layers = case.build(masked=False, **kwargs)
    return RecurrentCall.parse(FUNCTIONS[case.kind], arguments(case, layers, case.sequences(), case.zero_states()))


def example(**changes: Any) -> Case:
    fields: dict[str, Any] = {"kind": "lstm", "features": 3, "units": 4, "projection": 0, "layers": 2}
    fields |= {"bidirectional": True, "batch_first": True, "bias": True, "layout": "padded", "lengths": (4, 4)}
    return Case(**fields | {"with_state": True, "seed": 0} | changes)


def locked(batch: int, width: int) -> Tensor:
    return torch.randn(batch, 1, width, dtype=torch.float64, requires_grad=True)


@st.composite
def masked_cases(draw: st.DrawFn) -> tuple[Case, RecurrentMasks]:
    case = draw(batches)
    torch.manual_seed(case.seed + 3)
    batch, outer = len(case.lengths), case.width * (2 if case.bidirectional else 1)
    recurrent = [torch.randn(batch, case.width, dtype=torch.float64, requires_grad=True) for _ in range(case.masks)]
    widths = [case.features, *[outer] * (case.layers - 1)]
    return case, RecurrentMasks(
        [mask if draw(st.booleans()) else None for mask in recurrent],
        [locked(batch, width) if draw(st.booleans()) else None for width in widths] if draw(st.booleans()) else (),
        locked(batch, outer) if draw(st.booleans()) else None,
    )


@given(masked_cases())
@thorough
def test_masks_anywhere_give_the_naive_reference(drawn: tuple[Case, RecurrentMasks]) -> None:
    case, masks = drawn
    layers, x, hx = case.build(masked=False), case.sequences(), case.states() or case.zero_states()
    call = RecurrentCall.parse(FUNCTIONS[case.kind], arguments(case, layers, x, hx))
    output, *final = call.run_masked(masks)
    packed = output if case.layout == "padded" else case.arrange(x)._replace(data=output)  # type: ignore[union-attr]
    outputs = case.unpad(packed)
    sequences = [row[:length] for row, length in zip(x, case.lengths, strict=True)]
    expected, states = reference_layers(case.kind, layers, sequences, hx, masks.recurrent, masks.inputs or None)
    if masks.output is not None:
        expected = [part * masks.output[b] for b, part in enumerate(expected)]
    torch.testing.assert_close(outputs, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tuple(final), states, rtol=1e-10, atol=1e-10)
    leaves = [x, *layers.parameters(), *(m for m in (*masks.recurrent, *masks.inputs, masks.output) if m is not None)]
    grads = [
        torch.autograd.grad(loss_of(*parts), leaves, materialize_grads=True)
        for parts in ((outputs, tuple(final)), (expected, states))
    ]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


@given(batches)
@thorough
def test_a_call_is_taken_apart_and_put_together_again(case: Case) -> None:
    layers, x, hx = case.build(masked=False), case.sequences(), case.states() or case.zero_states()
    args, function = arguments(case, layers, x, hx), FUNCTIONS[case.kind]
    call = RecurrentCall.parse(function, args)
    assert call.function is function
    assert call.data is args[0]
    assert call.packed == (case.layout == "sorted")
    assert call.batch == len(case.lengths)
    assert call.batch_sizes == [sum(length > t for length in case.lengths) for t in range(max(case.lengths))]
    assert call.batch_first == (case.batch_first and not call.packed)
    flat = [tensor for weights in call.weights for tensor in weights if tensor is not None]
    assert all(one is other for one, other in zip(flat, _flat(layers), strict=True))
    assert all((w.weight_hr is not None) == bool(case.projection) for w in call.weights)
    assert all((w.bias_ih is not None) == case.bias for w in call.weights)
    nothing = RecurrentMasks([None] * case.masks, [None] * case.layers)
    for found in (call.run(), call.run_masked(nothing)):
        torch.testing.assert_close(found, function(*args), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_replaced_weights_and_dropout_are_used(kind: str) -> None:
    call = call_of(example(kind=kind), dropout=0.5)
    doubled = [w._replace(weight_ih=2 * w.weight_ih, weight_hh=3 * w.weight_hh) for w in call.weights]
    changed = call.replace(weights=doubled, dropout=0.0)
    flat = [tensor for weights in doubled for tensor in weights if tensor is not None]
    hx = call.states if kind == "lstm" else call.states[0]
    expected = call.function(call.data, hx, flat, True, 2, 0.0, True, True, True)
    ones = RecurrentMasks([torch.ones(2, 4)] * 4)
    torch.testing.assert_close(changed.run(), expected, rtol=0, atol=0)
    torch.testing.assert_close(changed.run_masked(ones), expected, rtol=1e-10, atol=1e-10)
    assert call.config.dropout == 0.5
    assert call.replace().weights is call.weights


@pytest.mark.parametrize("layout", ["padded", "sorted"])
def test_an_input_mask_acts_after_the_dropout_between_layers(layout: str) -> None:
    case = example(layout=layout, lengths=(4, 4) if layout == "padded" else (4, 2))
    call, ones, mask = call_of(case, dropout=0.5), [torch.ones(2, 4)] * 4, torch.rand(2, 1, 8)
    torch.manual_seed(1)
    expected = call.run_masked(RecurrentMasks(ones))[1]
    for factor in (torch.ones(2, 1, 8), mask):
        torch.manual_seed(1)
        found = call.run_masked(RecurrentMasks(ones, [None, factor]))[1]
        torch.testing.assert_close(found[:2], expected[:2], rtol=1e-10, atol=1e-10)
        assert torch.allclose(found[2:], expected[2:]) == (factor is not mask)


def test_the_masked_layers_stand_for_the_functions_in_their_order() -> None:
    assert [layer.__name__ for layer in MASKED_LAYERS] == [f"masked_{f.__name__}_layer" for f in RECURRENT_FUNCTIONS]


@pytest.mark.parametrize(
    ("masks", "parts"),
    [
        (RecurrentMasks([None]), ("recurrent", 4, "layers x directions", 1)),
        (RecurrentMasks([None] * 4, [None]), ("inputs", 2, "layer", 1)),
        (RecurrentMasks([None, torch.ones(2, 3), None, None]), ("recurrent", (2, 4), (4, 2, 4), (2, 3), "position 1")),
        (RecurrentMasks([None] * 4, [None, torch.ones(2, 8)]), ("inputs[1]", (2, 1, 8), (2, 8))),
        (RecurrentMasks([None] * 4, (), torch.ones(1, 1, 8)), ("output", (2, 1, 8), (1, 1, 8))),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: RecurrentMasks, parts: tuple[object, ...]) -> None:
    with refused(*parts):
        call_of(example()).run_masked(masks)


def test_calls_of_other_functions_are_refused() -> None:
    with refused("function", "torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu", "method mm"):
        RecurrentCall.parse(torch.mm, ())  # type: ignore[arg-type]
    with refused("args", 9, 2):
        RecurrentCall.parse(torch.gru, (1, 2))
