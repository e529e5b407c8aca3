"""Several recorders of one pass, each with what it has act there: all of it acts, whichever comes first."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import Perturbation, RecordedForward, find_sites
from lightning_advdrop.masking import apply as apply_masks

BATCH, STEPS, FEATURES = 3, 5, 4


class Layers(nn.Module):
    """An embedding, two recurrent layers with dropout, and dropout behind them."""

    def __init__(self, layer: Any = nn.LSTM) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, FEATURES)
        self.layer = layer(FEATURES, 4, num_layers=2, batch_first=True)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.drop(self.layer(self.embedding(x))[0])
        return output


class Cells(nn.Module):
    """A bag of words, read again at every step by a cell."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(7, FEATURES)
        self.cell = cell(FEATURES, 4)

    def forward(self, x: Tensor) -> Tensor:
        words, state = self.embedding(x), None
        for _ in range(3):
            state = self.cell(words, state)
        assert state is not None
        output: Tensor = state[0] if isinstance(state, tuple) else state
        return output


LAYER_KINDS = ["embedding", "input", "recurrent", "weight", "hidden", "output", "dropout"]
CELL_KINDS = ["embedding", "recurrent", "weight"]
#: Each pair of kinds in one order or the other, and each kind with itself but dropout, whose noise both would replace.
CASES = [
    *((Layers, nn.LSTM, (kind, kind)) for kind in LAYER_KINDS[:-1]),
    *((Layers, nn.LSTM, pair[:: (-1) ** n]) for n, pair in enumerate(itertools.combinations(LAYER_KINDS, 2))),
    *((Layers, nn.GRU, pair) for pair in itertools.combinations(LAYER_KINDS[1:4], 2)),
    *((Cells, nn.LSTMCell, pair) for pair in itertools.combinations_with_replacement(CELL_KINDS, 2)),
    *((Cells, nn.GRUCell, pair[::-1]) for pair in itertools.combinations(CELL_KINDS, 2)),
]


def mask_of(seen: Any) -> Tensor:
    """The same for a site in every recorder: a half, and ones behind it."""
    mask = torch.ones(seen.shape, dtype=torch.float64)
    mask[..., : max(1, seen.shape[-1] // 2)] = 0.5
    return mask


@pytest.mark.parametrize(
    ("network", "layer", "kinds"), CASES, ids=lambda value: "-".join(value) if isinstance(value, tuple) else None
)
def test_all_find_their_sites_and_all_masks_act(network: Any, layer: Any, kinds: tuple[str, str]) -> None:
    torch.manual_seed(0)
    model = network(layer).double()
    x = torch.randint(7, (BATCH, STEPS))
    recorders = [
        RecordedForward(model, find_sites(model, kind), share_noise=False, first_masks=mask_of) for kind in kinds
    ]
    with ExitStack() as recording:
        for recorder in recorders:
            recording.enter_context(recorder.first_run())
        torch.manual_seed(1)
        found = model(x)
    expected: dict[Any, Tensor] = {}
    for recorder in recorders:
        assert {site.name for site in recorder.observed} == {site.name for site in recorder.sites}
        for site, seen in recorder.observed.items():
            expected[site] = mask_of(seen) * expected.get(site, 1.0)
    torch.manual_seed(1)
    with apply_masks(model, expected):
        once = model(x)
    torch.testing.assert_close(found, once, rtol=0, atol=1e-12)
    for recorder in recorders:  # and a further run is without what the other one has act
        torch.testing.assert_close(recorder.run(lambda: model(x).detach() * 0, {}), torch.zeros_like(found))


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("kind", ["input", "embedding"])
def test_a_further_run_is_without_the_masks_of_another_recorder(kind: str, order: int) -> None:
    """Also where the base pass was under a mask before the place that the run begins to differ at."""
    torch.manual_seed(0)
    model, x = Layers().double(), torch.randint(7, (BATCH, STEPS))
    masking = RecordedForward(
        model, find_sites(model, ["embedding", "recurrent"]), share_noise=True, first_masks=mask_of
    )
    adding = RecordedForward(model, find_sites(model, kind), share_noise=True)
    torch.manual_seed(1)
    with ExitStack() as recording:
        for recorder in (masking, adding)[::order]:
            recording.enter_context(recorder.first_run())
        model(x)
    perturbations = {
        site: Perturbation(torch.ones(seen.activation, dtype=torch.float64)) for site, seen in adding.observed.items()
    }
    assert perturbations
    for _ in range(2):
        found = adding.run(lambda: model(x), perturbations)
        torch.manual_seed(1)
        with apply_masks(model, perturbations):
            torch.testing.assert_close(found, model(x), rtol=0, atol=1e-12)
    torch.manual_seed(1)
    torch.testing.assert_close(masking.run(lambda: model(x), {}), model(x), rtol=0, atol=1e-12)
