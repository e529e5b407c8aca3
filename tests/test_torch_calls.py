"""How torch's functions are called: what the package uses of it, and a release that lacks it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_advdrop._torch_calls import arguments_of, unseen_by_modes, without_override
from tests.helpers.releases import release_refused


def test_no_mode_sees_what_is_called_unseen() -> None:
    class Refusing(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            raise AssertionError(func)

    with Refusing(), unseen_by_modes():
        assert torch.ones(2).add(1).sum() == 4


def test_a_release_whose_modes_see_everything_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "DisableTorchFunction")
    with release_refused("function modes"):
        unseen_by_modes()


def test_arguments_are_found_by_name() -> None:
    def function(a: int, /, b: int, *, c: int = 3) -> None: ...

    assert arguments_of(function, (1, 2), {}, "c") == {"a": 1, "b": 2, "c": 3}
    assert arguments_of(function, (1,), {"c": 5, "b": 4}, "b") == {"a": 1, "b": 4, "c": 5}
    with release_refused("function", "dropout_p"):
        arguments_of(function, (1, 2), {}, "dropout_p")


def test_a_function_without_its_override_is_not_sent_back_to_the_mode() -> None:
    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **kwargs or {})

    layer, x = nn.MultiheadAttention(4, 2), torch.randn(3, 2, 4)
    weights = (layer.in_proj_weight, layer.in_proj_bias, None, None, False, 0.0, layer.out_proj.weight, None)
    with Watch():
        without_override(F.multi_head_attention_forward)(x, x, x, 4, 2, *weights, need_weights=False)
    assert F.multi_head_attention_forward not in seen
    assert F.scaled_dot_product_attention in seen


def _asks_otherwise(x: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize("function", [_asks_otherwise, torch.relu])
def test_a_function_that_asks_for_modes_otherwise_is_refused(function: Any) -> None:
    with release_refused(function.__name__):
        without_override(function)
