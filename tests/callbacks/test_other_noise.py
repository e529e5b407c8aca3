"""The warning of a search that reads the scores of another network than its masks act on."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from lightning_utilities.core.rank_zero import rank_zero_only

from lightning_advdrop import AdversarialDropoutCallback, FraternalDropoutCallback
from tests.helpers.messages import each_names
from tests.helpers.plain_models import PlainModel, QuietModel, loader, quiet_trainer, seeded

SEARCHES = ("fisher", "top", "label")


class OneDropout(PlainModel):
    def __init__(self) -> None:
        super().__init__()
        self.lstm.dropout = 0.0


def said(callback: Any, model: type[PlainModel] = PlainModel, fits: int = 1) -> list[str]:
    """The warnings of fits of two epochs each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(fits):
            quiet_trainer(callbacks=[callback], max_epochs=2).fit(seeded(model), loader())
    return [str(each.message) for each in caught if "share_masks" in str(each.message)]


@pytest.mark.parametrize("search", SEARCHES)
def test_it_is_said_once_in_each_fit(search: Any) -> None:
    callback = AdversarialDropoutCallback(rate=0.2, search=search, share_masks=False)
    parts = (f"search={search!r}", "share_masks=False", "share_masks=True", "search='gradient'")
    assert each_names(said(callback, fits=2), [parts] * 2)


@pytest.mark.parametrize("search", SEARCHES)
def test_the_same_noise_or_none_is_as_it_should_be(search: Any) -> None:
    assert said(AdversarialDropoutCallback(rate=0.2, search=search, share_masks=True)) == []
    assert said(AdversarialDropoutCallback(rate=0.2, search=search, share_masks=False), QuietModel) == []
    # Dropout at the site itself is no noise elsewhere: the mask takes its place in both passes.
    callback = AdversarialDropoutCallback("dropout", rate=0.2, search=search, share_masks=False)
    assert said(callback, OneDropout) == []


def test_by_default_the_noise_is_the_same() -> None:
    assert said(AdversarialDropoutCallback(rate=0.2)) == []


@pytest.mark.parametrize(
    "callback",
    [
        AdversarialDropoutCallback(rate=0.2, search="gradient", share_masks=False),
        FraternalDropoutCallback(rate=0.2),
    ],
    ids=["gradient", "other"],
)
def test_methods_that_search_nothing_in_the_base_pass_may_draw_anew(callback: Any) -> None:
    assert said(callback) == []


def test_only_the_first_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert said(AdversarialDropoutCallback(rate=0.2, search="top", share_masks=False)) == []


def test_looking_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are those of a training that does not look, to the bit."""
    states = []
    for looks in (True, False):
        if not looks:
            monkeypatch.setattr("lightning_advdrop.callbacks.base.warn_of_other_noise", lambda *_: None)
        model, callback = seeded(PlainModel), AdversarialDropoutCallback(rate=0.2, search="top", share_masks=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quiet_trainer(callbacks=[callback], max_epochs=1).fit(model, loader())
        states.append({name: value.tolist() for name, value in model.state_dict().items()})
    assert states[0] == states[1]
