"""What the relatives of adversarial dropout cost, refuse and leave alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import MaskSite, Observation, RecordedForward, find_sites
from lightning_advdrop.nn import layer
from lightning_advdrop.regularizers import (
    AdversarialTraining,
    ExpectationLinearDropout,
    FraternalDropout,
    Passes,
    PerturbationRegularizer,
    PiModel,
    PseudoEnsemble,
    RandomMaskRegularizer,
    RandomPerturbation,
    RDrop,
    Regularizer,
    VariationalDropout,
    VirtualAdversarialTraining,
)
from tests.helpers import recording
from tests.helpers.messages import refused
from tests.helpers.models_recurrent import Tagger, parameter_gradients
from tests.helpers.reference_family import FEATURES, Network

BATCH, STEPS = 4, 5


def passes_of(regularizer: Regularizer, model: nn.Module, x: Tensor, kind: str, **more: Any) -> Passes:
    return recording.passes_of(regularizer, model, x, kind, **{"target": torch.arange(len(x)) % 3, **more})


def example(**network: Any) -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    return Network(**network), torch.randn(BATCH, STEPS, FEATURES, dtype=torch.float64)


@pytest.mark.parametrize(
    ("regularizer", "kind", "further"),
    [
        (VariationalDropout(), "recurrent", 0),
        (FraternalDropout(), "recurrent", 1),
        (RDrop(), "recurrent", 1),
        (PseudoEnsemble(), "recurrent", 1),
        (PiModel(), "recurrent", 1),
        (ExpectationLinearDropout(), "recurrent", 1),
        (RandomPerturbation(), "input", 1),
        (VirtualAdversarialTraining(), "input", 2),
        (VirtualAdversarialTraining(power_iterations=3), "input", 4),
        (AdversarialTraining(), "input", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Regularizer) else str(value),
)
def test_further_passes(regularizer: Regularizer, kind: str, further: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    run = RecordedForward.run

    def noted(self: RecordedForward, *arguments: Any, **more: Any) -> Any:
        runs.append(self)
        return run(self, *arguments, **more)

    monkeypatch.setattr(RecordedForward, "run", noted)
    monkeypatch.setattr(layer, "_plus", lambda *_: pytest.fail("a bias gradient was computed by a search"))
    model, x = example()
    regularizer.penalty(passes_of(regularizer, model, x, kind))
    assert len(runs) == further
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("method", [FraternalDropout, RDrop, PseudoEnsemble, PiModel, ExpectationLinearDropout])
@pytest.mark.parametrize("kind", ["recurrent", "weight", "input", "hidden", "output", "dropout"])
def test_masks_act_at_every_kind_of_site(method: Callable[..., RandomMaskRegularizer], kind: str) -> None:
    torch.manual_seed(0)
    model, x = Tagger(layers=2, dropout=0.3 if kind == "dropout" else 0.0), torch.randn(BATCH, STEPS, 4)
    regularizer = method(rate=0.4)
    value = regularizer.penalty(passes_of(regularizer, model, x, kind)).value
    assert value > 0
    assert any((gradient != 0).any() for gradient in parameter_gradients(value, model).values())


@pytest.mark.parametrize("method", [FraternalDropout, PseudoEnsemble, PiModel, ExpectationLinearDropout])
def test_nothing_dropped_is_no_distance(method: Callable[..., RandomMaskRegularizer]) -> None:
    model, x = example()
    regularizer = method(rate=0.0)
    assert regularizer.penalty(passes_of(regularizer, model, x, "recurrent")).value < 1e-12


def test_a_site_has_a_rate_of_its_own() -> None:
    model, x = example()
    regularizer = FraternalDropout(rate=0.0, both_losses=False)
    assert regularizer.penalty(recording.passes_of(regularizer, model, x, {"recurrent": 0.5})).value > 0


class Norms:
    """The norms of what a regularizer adds at its one site, by example."""

    def __init__(self, regularizer: PerturbationRegularizer, passes: Passes) -> None:
        self.regularizer, self.passes = regularizer, passes
        ((self.site, self.seen),) = regularizer.calls(passes).items()

    def of(self, value: Tensor) -> Tensor:
        (unit,) = self.regularizer.normalized(self.passes, {self.site: value}).values()
        self.unit = unit
        if self.seen.batch_sizes is None:
            norms: Tensor = unit.movedim(self.seen.batch_dim or 0, 0).flatten(1).square().sum(1).sqrt()
            return norms
        rows = [
            unit[[start + b for start, size in self._starts() if b < size]] for b in range(self.seen.batch_sizes[0])
        ]
        return torch.stack([row.square().sum().sqrt() for row in rows])

    def _starts(self) -> list[tuple[int, int]]:
        sizes = list(self.seen.batch_sizes or ())
        return [(sum(sizes[:t]), size) for t, size in enumerate(sizes)]


@pytest.mark.parametrize("layout", ["batch_first", "time_first", "packed"])
def test_gradients_of_very_different_sizes_have_the_same_norm(layout: str) -> None:
    """An example that the network is sure of has a gradient many orders of magnitude below the others'."""
    model, x = example(layout=layout, lengths=(5, 4, 4, 2) if layout == "packed" else ())
    regularizer = RandomPerturbation()
    norms = Norms(regularizer, passes_of(regularizer, model.float(), x.float(), "input"))
    value = torch.randn(norms.seen.activation)
    sizes = torch.tensor([1.0, 1e-20, 1e-30, 0.0])
    if norms.seen.batch_sizes is None:
        value = (value.movedim(norms.seen.batch_dim or 0, 0) * sizes.view(-1, 1, 1)).movedim(
            0, norms.seen.batch_dim or 0
        )
    else:
        value = value * torch.cat([sizes[:size] for size in norms.seen.batch_sizes]).unsqueeze(-1)
    torch.testing.assert_close(norms.of(value), torch.tensor([1.0, 1.0, 1.0, 0.0]))


@pytest.mark.parametrize("steps", [BATCH, STEPS])
@pytest.mark.parametrize("layout", ["batch_first", "time_first"])
def test_padding_is_found_in_either_layout(layout: str, steps: int) -> None:
    """Also where a batch has as many examples as steps."""
    model, x = example(layout=layout, sequence=True)
    weight = (torch.arange(steps) < torch.tensor([[4], [3], [2], [1]])).double()
    regularizer = RandomPerturbation(divergence="kl")
    norms = Norms(regularizer, passes_of(regularizer, model, x[:, :steps], "input", sample_weight=weight))
    torch.testing.assert_close(norms.of(torch.randn(norms.seen.activation)), torch.ones(BATCH))
    added = norms.unit.movedim(norms.seen.batch_dim or 0, 0).abs().sum(-1) > 0  # (B, T)
    assert torch.equal(added, weight > 0)


class TimeFirst(nn.Module):
    """Reads words in either layout, and predicts time first."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, FEATURES).double()
        self.lstm = nn.LSTM(FEATURES, 3, batch_first=batch_first).double()
        self.batch_first = batch_first

    def forward(self, words: Tensor) -> Tensor:
        outputs: Tensor = self.lstm(self.embedding(words if self.batch_first else words.T))[0]
        return outputs.movedim(1, 0) if self.batch_first else outputs


@pytest.mark.parametrize("steps", [BATCH, STEPS])
@pytest.mark.parametrize("kind", ["input", "embedding"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_padding_is_found_where_the_prediction_has_the_time_first(batch_first: bool, kind: str, steps: int) -> None:
    torch.manual_seed(0)
    words = torch.randint(9, (BATCH, steps))
    weight = (torch.arange(steps)[:, None] < torch.tensor([4, 3, 2, 1])).double()  # (T, B)
    more = {"sample_weight": weight, "target": torch.zeros(steps, BATCH, dtype=torch.long)}
    norms = Norms(RandomPerturbation(), passes_of(RandomPerturbation(), TimeFirst(batch_first), words, kind, **more))
    torch.testing.assert_close(norms.of(torch.randn(norms.seen.activation)), torch.ones(BATCH))
    added = norms.unit.movedim(norms.seen.batch_dim or 0, 0).abs().sum(-1) > 0  # (B, T)
    assert torch.equal(added, weight.T > 0)


def test_an_embedding_with_the_time_first() -> None:
    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.lstm = nn.Embedding(9, FEATURES, padding_idx=0), nn.LSTM(FEATURES, 4)

        def forward(self, words: Tensor) -> Tensor:
            outputs: Tensor = self.lstm(self.embedding(words.T))[0][-1]
            return outputs

    words = torch.tensor([[1, 2, 3], [4, 5, 0]])
    regularizer = RandomPerturbation()
    norms = Norms(regularizer, passes_of(regularizer, TimeFirst(), words, "embedding"))
    norms.of(torch.randn(norms.seen.activation))
    torch.testing.assert_close(norms.unit.square().sum((0, 2)), torch.ones(2))
    assert (norms.unit[2, 1] == 0).all()


@pytest.mark.parametrize(
    ("regularizer", "kind", "parts"),
    [
        (RDrop(), "recurrent", ("target", "both_losses=True", None)),
        (FraternalDropout(), "recurrent", ("target", "both_losses=True", None, "both_losses=False")),
        (AdversarialTraining(), "input", ("target", "adversarial training", None)),
    ],
    ids=["RDrop", "FraternalDropout", "AdversarialTraining"],
)
def test_labels_that_are_missing_are_refused(regularizer: Regularizer, kind: str, parts: tuple[object, ...]) -> None:
    model, x = example()
    with refused(*parts):
        regularizer.penalty(passes_of(regularizer, model, x, kind, target=None))


@pytest.mark.parametrize("regularizer", [RandomPerturbation(), VirtualAdversarialTraining(), AdversarialTraining()])
def test_nothing_is_added_where_only_masks_act(regularizer: Regularizer) -> None:
    model, x = example()
    with refused("sites", "'embedding'", "'input'", "'rnn.l0:recurrent'"):
        regularizer.penalty(passes_of(regularizer, model, x, "recurrent"))


def test_adversarial_training_asks_for_its_own_recording() -> None:
    model, x = example()
    recorded = RecordedForward(model, find_sites(model, "input"), share_noise=True)
    with recorded.first_run():
        base = model(x)
    passes = Passes(recorded, lambda: model(x), base, torch.zeros(BATCH, dtype=torch.long))
    with refused("recorded", "rnn:input"):
        AdversarialTraining().penalty(passes)


@pytest.mark.parametrize("regularizer", [VariationalDropout(), ExpectationLinearDropout(), AdversarialTraining()])
def test_sites_that_take_no_part_are_refused(regularizer: Regularizer) -> None:
    class Unused(Network):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(1)

    with refused("sites", "none", "rnn:input"):
        regularizer.penalty(passes_of(regularizer, Unused(), example()[1].requires_grad_(), "input"))


def test_a_regularizer_of_ones_own_needs_only_a_penalty() -> None:
    class Nothing(Regularizer):
        def penalty(self, passes: Passes) -> Any:
            return passes.base

    site = MaskSite("a", "recurrent", "", nn.Identity(), 3)
    seen = Observation(site, (1, 3), (1, 3), torch.empty(0))
    assert Nothing().active([site])
    assert Nothing().first_mask(seen, torch.Generator()) is None
