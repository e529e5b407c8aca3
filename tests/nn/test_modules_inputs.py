"""What the masked layers refuse, and the smallest and the mixed-precision inputs that it takes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from lightning_advdrop.nn import MaskedGRU, MaskedLSTM, MaskedRNN
from tests.helpers.messages import refused

BATCH, STEPS, FEATURES, UNITS = 2, 5, 3, 4
each_layer = pytest.mark.parametrize("layer", [MaskedLSTM, MaskedGRU, MaskedRNN])


def padded() -> Tensor:
    return torch.randn(STEPS, BATCH, FEATURES)


def packed() -> Any:
    return pack_sequence([torch.randn(length, FEATURES) for length in (3, STEPS)], enforce_sorted=False)


@pytest.mark.parametrize("make", [padded, packed])
@pytest.mark.parametrize("shape", [(UNITS,), (BATCH + 1, UNITS), (BATCH, 1), (STEPS - 1, BATCH, UNITS), (1, 1, 1, 1)])
def test_masks_of_other_shapes_are_refused(make: Any, shape: tuple[int, ...]) -> None:
    parts = ("recurrent_mask", (BATCH, UNITS), (STEPS, BATCH, UNITS), shape)
    with refused(*parts, "position 0"):
        MaskedLSTM(FEATURES, UNITS)(make(), recurrent_mask=torch.ones(shape))
    with refused(*parts, "position 1"):
        MaskedLSTM(FEATURES, UNITS, 2)(make(), recurrent_mask=[None, torch.ones(shape)])


@pytest.mark.parametrize("make", [padded, packed])
@pytest.mark.parametrize("given", [1, 2, 3, 5])
def test_another_number_of_masks_is_refused(make: Any, given: int) -> None:
    lstm = MaskedLSTM(FEATURES, UNITS, 2, bidirectional=True)
    for masks in (torch.ones(given, BATCH, UNITS), [None] * given):
        with refused("recurrent_mask", 4, "layers x directions", given):
            lstm(make(), recurrent_mask=masks)


@each_layer
@pytest.mark.parametrize("make", [padded, packed])
def test_initial_states_of_other_shapes_are_refused(layer: Any, make: Any) -> None:
    good, bad = torch.zeros(1, BATCH, UNITS), torch.zeros(2, BATCH, UNITS)
    given = {"h_0": (bad, good), "c_0": (good, bad)} if layer is MaskedLSTM else {"h_0": bad}
    for name, states in given.items():
        with refused("hx", name, (1, 2, 4), (2, 2, 4)):
            layer(FEATURES, UNITS)(make(), states, recurrent_mask=torch.ones(BATCH, UNITS))


def test_initial_states_of_another_shape_are_refused_unbatched() -> None:
    with refused("hx", "h_0", (1, 1, 4), (2, 1, 4)):
        MaskedLSTM(FEATURES, UNITS)(
            torch.zeros(STEPS, FEATURES), (torch.zeros(2, UNITS),) * 2, recurrent_mask=torch.ones(1, UNITS)
        )


@each_layer
def test_another_number_of_initial_states_is_refused(layer: Any) -> None:
    zeros, is_lstm = torch.zeros(1, BATCH, UNITS), layer is MaskedLSTM
    names = ("h_0", "c_0") if is_lstm else ("h_0",)
    with refused("hx", *names, layer.__name__, 1 if is_lstm else 2):
        layer(FEATURES, UNITS)(padded(), zeros if is_lstm else (zeros, zeros), recurrent_mask=torch.ones(BATCH, UNITS))


def test_with_projections_masks_and_states_have_their_width() -> None:
    lstm, mask = MaskedLSTM(FEATURES, UNITS, proj_size=2), torch.ones(BATCH, 2)
    wide, narrow = torch.zeros(1, BATCH, UNITS), torch.zeros(1, BATCH, 2)
    assert lstm(padded(), (narrow, wide), recurrent_mask=mask)[0].shape == (STEPS, BATCH, 2)
    with refused("hx", "h_0", (1, 2, 2), (1, 2, 4)):
        lstm(padded(), (wide, wide), recurrent_mask=mask)
    with refused("recurrent_mask", (2, 2), (5, 2, 2), (2, 4)):
        lstm(padded(), recurrent_mask=torch.ones(BATCH, UNITS))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_short_sequences_and_small_batches(batch: int, steps: int, bidirectional: bool) -> None:
    torch.manual_seed(0)
    ours = MaskedLSTM(FEATURES, 1, 2, bidirectional=bidirectional)
    stock = nn.LSTM(FEATURES, 1, 2, bidirectional=bidirectional)
    stock.load_state_dict(ours.state_dict())
    x = torch.randn(steps, batch, FEATURES)
    masks = torch.ones(4 if bidirectional else 2, batch, 1)
    torch.testing.assert_close(ours(x, recurrent_mask=masks), stock(x), rtol=1e-5, atol=1e-6)


def test_a_step_of_its_own_from_a_state_of_zeros_has_no_gradient_for_the_mask() -> None:
    mask = torch.ones(BATCH, UNITS, requires_grad=True)
    output, _ = MaskedLSTM(FEATURES, UNITS)(padded()[:1], recurrent_mask=mask)
    (grad,) = torch.autograd.grad(output.sum(), mask)
    assert grad.eq(0).all()


def test_evaluation_without_gradients_gives_the_same() -> None:
    lstm, x, mask = MaskedLSTM(FEATURES, UNITS), padded(), torch.rand(BATCH, UNITS)
    expected, _ = lstm(x, recurrent_mask=mask)
    with torch.no_grad():
        found, _ = lstm.eval()(x, recurrent_mask=mask)
    assert not found.requires_grad
    assert torch.equal(found, expected)


@each_layer
@pytest.mark.parametrize("make", [padded, packed])
@pytest.mark.parametrize(("units", "half_input"), [(4, False), (4, True), (256, False)])
def test_under_autocast_the_gradients_are_finite_and_the_state_is_not_rounded(
    layer: Any, make: Any, units: int, half_input: bool
) -> None:
    layers, x = layer(FEATURES, units, 2, dropout=0.2, bidirectional=True), make()
    masks = torch.rand(4, BATCH, units, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = x.to(torch.bfloat16) if half_input else x
        output, final = layers(given, recurrent_mask=masks)
        data = output if isinstance(output, Tensor) else output.data
        states = (final,) if isinstance(final, Tensor) else final
        loss = (data.square().mean() + sum(state.mean() for state in states)).float()
    loss.backward()
    assert all(state.dtype is torch.float32 for state in states)
    for tensor in (masks, *layers.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.dtype is torch.float32
        assert tensor.grad.isfinite().all()


@each_layer
def test_under_autocast_the_result_is_that_without(layer: Any) -> None:
    layers, x, mask = layer(FEATURES, UNITS), padded(), torch.rand(BATCH, UNITS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layers(x, recurrent_mask=mask)
    torch.testing.assert_close(found, layers(x, recurrent_mask=mask), rtol=0, atol=0)


@pytest.mark.gpu
@each_layer
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_on_cuda_the_gradients_are_finite(layer: Any, dtype: torch.dtype) -> None:
    layers = layer(FEATURES, UNITS, 2, bidirectional=True).cuda()
    masks = [torch.rand(BATCH, UNITS, device="cuda"), None, None, torch.rand(BATCH, UNITS, device="cuda")]
    with torch.autocast("cuda", dtype=dtype):
        output, _ = layers(padded().cuda(), recurrent_mask=masks)
    output.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layers.parameters())
