"""Results that are written to where no version counts it: through NumPy, ``.data``, and lists that a call returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.recording import computed
from tests.helpers.stateful import Net, check_against_twin, inputs, recorded_base

SHARED = pytest.mark.parametrize("share_noise", [True, False])


def add_numpy(h: Tensor) -> None:
    h.numpy()[...] += 1


def add_asarray(h: Tensor) -> None:
    array = np.asarray(h)
    array += 1


def add_dlpack(h: Tensor) -> None:
    torch.from_dlpack(h.__dlpack__()).add_(1)  # type: ignore[attr-defined]


def add_data(h: Tensor) -> None:
    h.data.add_(1)


def set_data(h: Tensor) -> None:
    h.data = h * 2


def add_storage(h: Tensor) -> None:
    torch.empty(0).set_(h.untyped_storage()).add_(1)


def add_view(h: Tensor) -> None:
    h[0].view(-1).numpy()[...] += 1


WRITES = [add_numpy, add_asarray, add_dlpack, add_data, set_data, add_storage, add_view]


@SHARED
@pytest.mark.parametrize("write", WRITES)
def test_before_the_mask(write: Callable[[Tensor], None], share_noise: bool) -> None:
    def change(net: Any, x: Tensor) -> Any:
        hidden = net.lift(x).detach()
        doubled = hidden * 2
        write(hidden)
        return hidden + doubled

    check_against_twin(lambda: Net(change=change), share_noise=share_noise)


@SHARED
@pytest.mark.parametrize("write", WRITES)
def test_behind_the_mask(write: Callable[[Tensor], None], share_noise: bool) -> None:
    def change(net: Any, x: Tensor) -> Any:
        net.hidden = net.lift(x).detach()
        return net.hidden * 1

    def after(net: Any, x: Tensor, logits: Tensor) -> Any:
        write(net.hidden)
        return logits + net.hidden.mean()

    check_against_twin(lambda: Net(change=change, after=after), share_noise=share_noise)


def test_reading_costs_no_reuse() -> None:
    def change(net: Any, x: Tensor) -> Any:
        hidden = net.lift(x)
        return hidden * float(hidden.detach().numpy().max())

    model, x = Net(change=change), inputs(1)[0]
    recorded, base = recorded_base(model, lambda: model(x))
    masks = {site: seen.ones() for site, seen in recorded.observed.items()}
    assert computed(recorded, lambda: model(x), masks, "linear") == (1,)  # the head
    torch.testing.assert_close(recorded.run(lambda: model(x), masks), base)


@SHARED
def test_a_list_that_a_call_returned(share_noise: bool) -> None:
    def change(net: Any, x: Tensor) -> Any:
        numbers = net.lift(x)[0, 0].tolist()
        return x + numbers.pop() + len(numbers)

    check_against_twin(lambda: Net(change=change), share_noise=share_noise)


@SHARED
def test_an_array_as_an_argument(share_noise: bool) -> None:
    def change(net: Any, x: Tensor) -> Any:
        array = x.numpy().copy()
        tensor = torch.as_tensor(array)
        array += 1
        lifted: Tensor = net.lift(tensor)
        return lifted

    check_against_twin(lambda: Net(change=change), share_noise=share_noise)
