"""Old names go on working, and say what to write instead."""

from __future__ import annotations

import pytest
import torch

from lightning_advdrop import masking
from lightning_advdrop._deprecation import renamed_argument, renamed_attributes
from lightning_advdrop.functional import kl_divergence


@renamed_argument("colour", "color")
def paint(color: str = "red") -> str:
    return color


def test_an_old_argument_is_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="'colour' of paint is deprecated, use 'color'"):
        assert paint(colour="blue") == "blue"  # type: ignore[call-arg]
    assert paint("green") == paint(color="green") == "green"


def test_an_argument_is_not_taken_twice() -> None:
    with pytest.warns(DeprecationWarning, match="colour"), pytest.raises(TypeError, match="paint got 'color' twice"):
        paint(color="red", colour="blue")  # type: ignore[call-arg]


def test_an_old_attribute_of_a_module_is_found_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="Shift is deprecated, use lightning_advdrop.masking.Perturbation"):
        assert masking.Shift is masking.Perturbation
    with pytest.warns(DeprecationWarning, match="SiteValue"):
        assert masking.Acting is masking.SiteValue
    with pytest.raises(AttributeError, match="module 'math' has no attribute 'nothing'"):
        renamed_attributes("math", {"circle": "pi"})("nothing")


def test_divergences_take_their_weights_under_the_old_name() -> None:
    p, q, weight = torch.zeros(2, 3), torch.randn(2, 3), torch.tensor([1.0, 0.0])
    with pytest.warns(DeprecationWarning, match="'weight' of kl_divergence"):
        found = kl_divergence(p, q, weight=weight)  # type: ignore[call-arg]
    assert found == kl_divergence(p, q, sample_weight=weight)
