"""Rows of masks of packed sequences belong to the examples of the batch, in whatever order these are packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightning_advdrop.masking import MaskSite, find_sites
from lightning_advdrop.masking import apply as apply_masks
from lightning_advdrop.regularizers import AdversarialDropout

BATCH, STEPS, UNITS, CLASSES = 6, 7, 10, 3
DESCENDING, UNSORTED = (7, 6, 5, 4, 3, 2), (2, 5, 3, 7, 4, 6)


class Packed(nn.Module):
    """An encoder of packed sequences, and a decoder that begins with its state."""

    def __init__(self, *, by_hand: bool = False) -> None:
        super().__init__()
        self.encoder = nn.GRU(4, UNITS, batch_first=True)
        self.decoder = nn.GRU(4, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, CLASSES)
        self.by_hand = by_hand

    def encode(self, x: Tensor, lengths: Tensor) -> Any:
        """Return the last states ``(B, H)``, in the order of the batch."""
        if not self.by_hand:
            return self.encoder(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[1][0]
        order = lengths.argsort(descending=True)
        state = self.encoder(pack_padded_sequence(x[order], lengths[order], batch_first=True))[1][0]
        return state[order.argsort()]

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return self.head(self.decoder(x[:, :3], self.encode(x, lengths).unsqueeze(0))[0][:, -1])


def network(**settings: bool) -> Packed:
    torch.manual_seed(0)
    return Packed(**settings)


def batch(lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, STEPS, 4, generator=torch.Generator().manual_seed(1)), torch.tensor(lengths)


def depends_on(prediction: Tensor, mask: Tensor) -> list[list[int]]:
    """The rows of a mask that each example's prediction depends on."""
    found = [torch.autograd.grad(each.sum(), mask, retain_graph=True)[0] for each in prediction]
    return [each.any(-1).nonzero()[:, 0].tolist() for each in found]


@pytest.mark.parametrize("kind", ["recurrent", "input", "output"])
@pytest.mark.parametrize("lengths", [DESCENDING, UNSORTED])
def test_a_row_acts_on_its_example(kind: str, lengths: Sequence[int]) -> None:
    net = network()
    (site,) = find_sites(net, f"encoder:{kind}")
    mask = site.ones(BATCH).requires_grad_()
    with apply_masks(net, {site: mask}):
        rows = pack_padded_sequence(*batch(lengths), batch_first=True, enforce_sorted=False)
        output, _ = nn.utils.rnn.pad_packed_sequence(net.encoder(rows)[0], batch_first=True)
    assert depends_on(output, mask) == [[each] for each in range(BATCH)]


def test_a_mask_for_each_step_acts_on_its_example() -> None:
    net = network()
    (site,) = find_sites(net, "encoder:recurrent")
    mask = torch.ones(STEPS, BATCH, UNITS, requires_grad=True)
    with apply_masks(net, {site: mask}):
        state = net.encode(*batch(UNSORTED))
    steps = [torch.autograd.grad(each.sum(), mask, retain_graph=True)[0].any(-1).sum(0).tolist() for each in state]
    # The mask of the first step meets a state of zeros.
    assert steps == [[(UNSORTED[row] - 1) * (row == example) for row in range(BATCH)] for example in range(BATCH)]


def test_a_layer_that_is_packed_twice_has_one_mask_row_for_each_example() -> None:
    net = network()
    (site,) = find_sites(net, "encoder:recurrent")
    mask = site.ones(BATCH).requires_grad_()
    x, lengths = batch(UNSORTED)
    with apply_masks(net, {site: mask}):
        prediction = net.encode(x, lengths) * net.encode(x, lengths.flip(0))
    assert depends_on(prediction, mask) == [[each] for each in range(BATCH)]


def dropped(masks: Mapping[MaskSite, Tensor]) -> dict[str, list[int]]:
    return {site.name: (mask == 0).sum(-1).tolist() for site, mask in masks.items()}


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("lengths", [DESCENDING, UNSORTED])
def test_unlabelled_examples_have_masks(lengths: Sequence[int], by_hand: bool) -> None:
    net, given = network(by_hand=by_hand), batch(lengths)
    target = torch.tensor([0, 1, 2, -100, -100, -100])
    regularizer = AdversarialDropout(rate=0.2, search="label")
    found = regularizer.evaluate(regularizer.first_pass(lambda: net(*given), net, target=target))
    assert dropped(found.masks) == {"encoder.l0:recurrent": [2] * BATCH, "decoder.l0:recurrent": [2] * BATCH}


def divergence_of(net: Packed, given: tuple[Tensor, Tensor], target: Tensor, **settings: Any) -> Tensor:
    regularizer = AdversarialDropout(rate=0.2, start="ones", divergence="mse", **settings)
    forward: Callable[[], Tensor] = lambda: net(*given)  # noqa: E731
    return regularizer.evaluate(regularizer.first_pass(forward, net, sites="recurrent", target=target)).value


@pytest.mark.parametrize(
    "settings", [{"search": "top"}, {"search": "label", "steps": 2}, {"search": "top", "steps": 2}]
)
def test_each_example_has_the_mask_that_it_has_alone(settings: dict[str, Any]) -> None:
    net, (x, lengths) = network(), batch(UNSORTED)
    target = torch.randn(BATCH, CLASSES, generator=torch.Generator().manual_seed(2))
    alone = [divergence_of(net, (x[[i]], lengths[[i]]), target[[i]], **settings) for i in range(BATCH)]
    torch.testing.assert_close(divergence_of(net, (x, lengths), target, **settings), torch.stack(alone).mean())
