"""Every model of the zoo with every callback: masks that do nothing cost nothing, and training leaves no trace."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.masking.zoo.checks import check, words_of
from tests.masking.zoo.methods import NAMES
from tests.masking.zoo.table import ZOO


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
    assert {name: found for name, found in faults.items() if found} == {}


def test_the_zoo_is_as_large_as_told() -> None:
    assert len(ZOO) == 158


@pytest.mark.parametrize("model", ["state in an attribute", "state in a dictionary"])
def test_state_that_is_not_restored_is_found(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_advdrop.masking.facets.refill", lambda *_: None)
    assert check(ZOO[model], "PseudoEnsembleCallback").faults(None, ZOO[model].rounding)
