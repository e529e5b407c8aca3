"""Each example has a budget of its own, wherever activations hold the examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightning_advdrop.functional import flip_budget
from lightning_advdrop.masking import MaskSite, RecordedForward
from lightning_advdrop.masking.examples import BatchEvidence, Examples, candidates
from lightning_advdrop.regularizers import (
    AdversarialDropout,
    AdversarialTraining,
    RDrop,
    VirtualAdversarialTraining,
)
from tests.helpers.messages import refused

Forward = Callable[[Any, Tensor], Any]

BATCH, STEPS, WIDTH, CLASSES = 3, 5, 4, 6
RATE = 0.2


class Dropping(nn.Module):
    """A network with dropout on an activation of any layout; ``mixed`` makes steps depend on each other."""

    def __init__(self, forward: Forward, width: int = WIDTH) -> None:
        super().__init__()
        self.drop, self.head, self.width = nn.Dropout(0.3), nn.Linear(width, CLASSES), width
        self.first = nn.Linear(WIDTH, width)
        self.lstm, self.attention = nn.LSTM(width, width), nn.TransformerEncoderLayer(width, 2, 8, 0.3)
        self.conv, self.norm = nn.Conv2d(1, BATCH, 3, padding=1), nn.BatchNorm1d(CLASSES)
        self.run = forward

    def forward(self, x: Tensor) -> Any:  # (B, T, WIDTH)
        return self.run(self, x)


def time_first(m: Any, x: Tensor) -> Any:
    return m.head(m.drop(m.first(x).tanh().transpose(0, 1)).tanh().mean(0))


def functional(m: Any, x: Tensor) -> Any:
    return m.head(F.dropout(m.first(x).tanh().transpose(0, 1), 0.3).tanh().mean(0))


def batch_first(m: Any, x: Tensor) -> Any:
    return m.head(m.drop(m.first(x).tanh()).tanh().mean(1))


def before_lstm(m: Any, x: Tensor) -> Any:
    return m.head(m.lstm(m.drop(m.first(x).transpose(0, 1)))[0][-1])


def locked(m: Any, x: Tensor) -> Any:
    time = m.first(x).tanh().transpose(0, 1)
    return m.head((time * m.drop(torch.ones_like(time[:1]))).tanh().mean(0))


def flat(m: Any, x: Tensor) -> Any:
    return m.head(m.drop(m.first(x).tanh().flatten(0, 1)).tanh().view(len(x), -1, m.width).mean(1))


def flat_time_first(m: Any, x: Tensor) -> Any:
    return m.head(m.drop(m.first(x).tanh().transpose(0, 1).flatten(0, 1)).tanh().view(-1, len(x), m.width).mean(0))


def tagging_time_first(m: Any, x: Tensor) -> Any:
    return m.head(m.lstm(m.drop(m.first(x).tanh().transpose(0, 1)))[0])


def tagging_without_a_layer_that_tells(m: Any, x: Tensor) -> Any:
    return m.head(m.drop(m.first(x).tanh().transpose(0, 1)).tanh().cumsum(0))


def flat_language_model(m: Any, x: Tensor) -> Any:
    return m.head(m.lstm(m.drop(m.first(x).tanh().transpose(0, 1)))[0]).flatten(0, 1)


def flat_without_a_layer_that_tells(m: Any, x: Tensor) -> Any:
    return m.head(m.drop(m.first(x).tanh().transpose(0, 1)).tanh().cumsum(0)).flatten(0, 1)


def channels(m: Any, x: Tensor) -> Any:  # as many as examples
    return m.head(m.drop(m.conv(x.unsqueeze(1))).tanh().mean((1, 2)))


def frames(m: Any, x: Tensor) -> Any:  # a picture for each step, with as many channels as examples
    pictures = m.drop(m.conv(x.flatten(0, 1)[:, None, None])).tanh().mean((1, 2))
    return m.head(m.lstm(pictures.view(x.shape).transpose(0, 1))[0][-1])


def tagged_frames(m: Any, x: Tensor) -> Any:
    pictures = m.drop(m.conv(x.flatten(0, 1)[:, None, None])).tanh().mean((1, 2))
    return m.head(pictures.view(x.shape).cumsum(1))


def states(m: Any, x: Tensor) -> Any:  # of predictions that are time first
    return m.head(m.drop(m.first(x).tanh().mean(1)) * torch.arange(1, 8).view(7, 1, 1))


def in_first(mask: Tensor) -> Tensor:
    return mask.flatten(1)


def in_second(mask: Tensor) -> Tensor:
    return mask.transpose(0, 1).flatten(1)


LAYOUTS: dict[str, tuple[Forward, Callable[[Tensor], Tensor]]] = {
    "batch first": (batch_first, in_first),
    "time first": (time_first, in_second),
    "functional": (functional, in_second),
    "before an LSTM": (before_lstm, in_second),
    "locked": (locked, in_second),
    "flat": (flat, lambda mask: mask.view(BATCH, -1)),
    "flat, time first": (flat_time_first, lambda mask: mask.view(-1, BATCH, WIDTH).transpose(0, 1).flatten(1)),
    "tagging": (tagging_time_first, in_second),
    "tagging without a layer that tells": (tagging_without_a_layer_that_tells, in_second),
    "flat language model": (flat_language_model, in_second),
    "flat without a layer that tells": (flat_without_a_layer_that_tells, in_second),
    "channels": (channels, in_first),
    "frames": (frames, lambda mask: mask.view(BATCH, -1)),
    "frames, tagged": (tagged_frames, lambda mask: mask.view(BATCH, -1)),
    "states": (states, in_first),
}


def found_masks(model: nn.Module, x: Tensor, **settings: Any) -> list[tuple[MaskSite, Tensor, Tensor]]:
    """The sites, and the masks that were searched and those of the base pass."""
    method = AdversarialDropout(RATE, share_masks=True, divergence="mse", **settings)
    generator = torch.Generator().manual_seed(0)
    passes = method.first_pass(lambda: model(x), model, "dropout", generator=generator)
    found = method.evaluate(passes).masks
    return [(site, mask, passes.observed[site].reference()) for site, mask in found.items()]


@pytest.mark.parametrize("steps", [STEPS, BATCH, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_example_has_a_budget_of_its_own(layout: str, steps: int) -> None:
    """Also where a batch has as many examples as steps, or channels."""
    torch.manual_seed(0)
    forward, rows = LAYOUTS[layout]
    x = torch.randn(BATCH, steps, WIDTH)
    ((site, mask, reference),) = found_masks(Dropping(forward), x)
    flips = rows((mask != reference).float()).sum(1)
    assert len(flips) == BATCH
    budget = flip_budget(RATE, reference.numel() // BATCH)
    assert flips.max() == budget
    assert flips.min() > 0
    assert site.units == reference.numel() // BATCH
    assert torch.equal(site.as_rows(mask), rows(mask))
    assert torch.equal(site.from_rows(site.as_rows(mask), mask.shape), mask)


@pytest.mark.parametrize("first", [True, False])
def test_attention_and_its_dropout(first: bool) -> None:
    """Weights of attention are in one row for each example, too."""
    torch.manual_seed(0)

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, 0.3, batch_first=first)
            self.pool = nn.MultiheadAttention(WIDTH, 2, 0.3, batch_first=first)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x if first else x.transpose(0, 1))
            y, _ = self.pool(y, y, y)
            return y.mean(1 if first else 0)  # type: ignore[no-any-return]

    found = found_masks(Attending(), torch.randn(BATCH, STEPS, WIDTH))
    assert len(found) == 5
    for site, mask, reference in found:
        rows, of_base = site.as_rows(mask), site.as_rows(reference)
        assert rows.shape == (BATCH, reference.numel() // BATCH)
        assert 0 < (rows != of_base).sum(1).max() <= flip_budget(RATE, rows.shape[1])


def test_a_weight_that_is_dropped_has_a_budget_for_each_row() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        return m.head(F.linear(x, F.dropout(m.first.weight, 0.3)).mean(1))

    ((site, mask, _),) = found_masks(Dropping(forward, width=6), torch.randn(BATCH, STEPS, WIDTH))
    assert (site.units, tuple(mask.shape)) == (WIDTH, (6, WIDTH))


def normalized(m: Any, x: Tensor) -> Any:
    return m.norm(time_first(m, x))


def normalized_frames(m: Any, x: Tensor) -> Any:
    return m.norm(frames(m, x))


def nodes(m: Any, x: Tensor) -> Any:
    return m.head(m.drop(m.first(x).flatten(0, 1)[1:]).sum(0).expand(len(x), -1))


def packed_rows(m: Any, x: Tensor) -> Any:
    packed = pack_padded_sequence(m.first(x), torch.tensor([STEPS, 2, 1]), batch_first=True)
    return m.head(m.lstm(packed._replace(data=m.drop(packed.data)))[1][0][0])


@pytest.mark.parametrize(
    ("forward", "shape"),
    [
        (normalized, (BATCH, BATCH, WIDTH)),
        (normalized_frames, (BATCH * STEPS, BATCH, 1, WIDTH)),
        (nodes, (BATCH * STEPS - 1, WIDTH)),
        (packed_rows, (STEPS + 3, WIDTH)),
    ],
)
def test_what_can_not_be_told_is_asked_for(forward: Forward, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = Dropping(forward), torch.randn(BATCH, BATCH if forward is normalized else STEPS, WIDTH)
    with refused("batch_dim", "drop:dropout", "None", shape, (BATCH, CLASSES), "batch_dim=0"):
        found_masks(model, x)
    ((_, mask, reference),) = found_masks(model, x, batch_dim=0)
    assert (mask != reference).sum(tuple(range(1, mask.dim()))).max() <= flip_budget(RATE, mask[0].numel())
    RDrop()(lambda: model(x), model, "dropout", target=torch.zeros(BATCH, dtype=torch.int64))  # needs no rows


def test_batch_dim_where_shapes_do_not_tell() -> None:
    torch.manual_seed(0)
    model, x = Dropping(normalized), torch.randn(BATCH, BATCH, WIDTH)
    ((_, mask, reference),) = found_masks(model, x, batch_dim=1)
    assert in_second((mask != reference).float()).sum(1).max() == flip_budget(RATE, BATCH * WIDTH)


@pytest.mark.parametrize("method", [AdversarialDropout, VirtualAdversarialTraining, AdversarialTraining])
def test_batch_dim_is_checked(method: Any) -> None:
    with refused("batch_dim", "at least 0", -1):
        method(batch_dim=-1)


def test_what_one_batch_has_told_holds_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more pass tells dimensions of equal length apart, and only once."""
    runs: list[int] = []
    run = RecordedForward.run

    def counted(*args: Any, **kwargs: Any) -> Any:
        runs.append(1)
        return run(*args, **kwargs)

    monkeypatch.setattr(RecordedForward, "run", counted)
    model, method = Dropping(time_first), AdversarialDropout(RATE, divergence="mse")
    for steps, passes in ((STEPS, 1), (BATCH, 2), (BATCH, 1), (STEPS, 1)):
        runs.clear()
        method(lambda steps=steps: model(torch.ones(BATCH, steps, WIDTH)), model, "dropout")
        assert len(runs) == passes


def test_rows_of_weights_belong_to_no_example() -> None:
    """Those of activations belong to one each, also where the batch is in the second dimension."""

    def forward(m: Any, x: Tensor) -> Any:
        y = F.linear(m.drop(x.transpose(0, 1)), F.dropout(m.first.weight, 0.3))
        return m.head(y.tanh().mean(0))

    torch.manual_seed(0)
    model, x = Dropping(forward, width=6), torch.randn(BATCH, STEPS, WIDTH)
    method = AdversarialDropout(RATE, share_masks=True, divergence="mse", search="top")
    passes = method.first_pass(lambda: model(x), model, "dropout")
    method.evaluate(passes)
    of_activation, of_weight = passes.observed.values()
    assert of_activation.row_examples(BATCH).tolist() == [0, 1, 2]
    assert of_weight.row_examples(6).tolist() == [-1] * 6


def test_attention_weights_are_told_by_the_layer_where_a_prediction_is_flat() -> None:
    """Steps and examples of a prediction in one dimension, and weights ``(B, heads, L, S)`` of the same layer."""
    for batch in (1, 2):
        evidence = BatchEvidence(sequences={(7, batch)})
        found = candidates((batch, 4, 7, 7), (7 * batch, 9), evidence)
        assert {each.activation for each in found} == {Examples((batch, 4, 7, 7), 0)}
        assert {each.prediction.view for each in found} <= {(7, batch, 9), (batch, 7, 9)}
        assert not candidates((batch, 4, 7, 7), (7 * batch, 9), BatchEvidence())
