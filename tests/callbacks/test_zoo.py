"""Every model of the zoo with every callback: masks that do nothing cost nothing, and training leaves no trace."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.masking.zoo.checks import check, words_of
from tests.masking.zoo.methods import MONITOR, NAMES
from tests.masking.zoo.table import ZOO

_UNDETACHED = ("FraternalDropoutCallback", "PiModelCallback", "PseudoEnsembleCallback", "RDropCallback")
_MASKS = (
    "AdversarialDropoutCallback",
    "ExpectationLinearDropoutCallback",
    *_UNDETACHED,
    "RegularizerCallback",
    "VariationalDropoutCallback",
)
#: Cases that are not yet as expected: the callbacks, by the models. Each of them must fail.
_TO_MEND: dict[str, tuple[str, ...]] = {
    # Attention with dropout is computed in another order than torch's own.
    **dict.fromkeys(["a transformer encoder", "a transformer decoder, causal", "BERT", "GPT-2"], _MASKS),
    # The gradient of the penalty arrives in another memory layout, and is summed in another order.
    "logits (B, classes, time)": ("ExpectationLinearDropoutCallback", *_UNDETACHED),
    # The weight is a parameter of the layer in validation only.
    "WeightDrop around a layer": (MONITOR,),
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Trainers say much, and there are two thousand of them."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


@pytest.mark.filterwarnings("ignore")  # of the models, which are not what is tested
@pytest.mark.parametrize("model", ZOO)
def test_no_difference_that_nobody_asked_for(model: str) -> None:
    entry = ZOO[model]
    faults = {name: check(entry, name).faults(words_of(entry, name), entry.rounding) for name in NAMES}
    to_mend = _TO_MEND.get(model, ())
    assert {name: found for name, found in faults.items() if found and name not in to_mend} == {}
    assert all(faults[name] for name in to_mend), "mended: take it off the list"


def test_the_zoo_is_large_enough() -> None:
    assert len(ZOO) >= 60
