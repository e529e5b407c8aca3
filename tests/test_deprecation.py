"""Old names go on working, and say what to write instead."""

from __future__ import annotations

import pytest
import torch

from lightning_advdrop import masking
from lightning_advdrop._deprecation import renamed_argument, renamed_attributes
from lightning_advdrop.functional import kl_divergence
from tests.helpers.messages import names, refused


@renamed_argument("colour", "color")
def paint(color: str = "red") -> str:
    return color


def test_an_old_argument_is_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=names("'colour'", "paint", "'color'")):
        assert paint(colour="blue") == "blue"  # type: ignore[call-arg]
    assert paint("green") == paint(color="green") == "green"


def test_an_argument_is_not_taken_twice() -> None:
    with pytest.warns(DeprecationWarning, match="colour"), refused("paint", "'color'", "'colour'", error=TypeError):
        paint(color="red", colour="blue")  # type: ignore[call-arg]


def test_an_old_attribute_of_a_module_is_found_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=names("Shift", "lightning_advdrop.masking.Perturbation")):
        assert masking.Shift is masking.Perturbation
    with pytest.warns(DeprecationWarning, match=names("Acting", "lightning_advdrop.masking.SiteValue")):
        assert masking.Acting is masking.SiteValue
    with refused("'math'", "'nothing'", error=AttributeError):
        renamed_attributes("math", {"circle": "pi"})("nothing")


def test_divergences_take_their_weights_under_the_old_name() -> None:
    p, q, weight = torch.zeros(2, 3), torch.randn(2, 3), torch.tensor([1.0, 0.0])
    with pytest.warns(DeprecationWarning, match=names("'weight'", "kl_divergence", "'sample_weight'")):
        found = kl_divergence(p, q, weight=weight)  # type: ignore[call-arg]
    assert found == kl_divergence(p, q, sample_weight=weight)
