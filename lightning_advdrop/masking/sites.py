"""Mask sites: the places in a network where a mask can act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from lightning_advdrop.functional import drop_one, rescale_mask, sample_bernoulli
from lightning_advdrop.masking.examples import Examples, Shape


@dataclass(frozen=True)
class ComputedWeight:
    """A weight that a layer computes anew for each forward, as under weight normalisation.

    Attributes:
        layer: the layer that reads it.
        name: its name in the layer, ``weight_hh_l0``.
    """

    layer: nn.Module
    name: str


def anchor_key(anchor: object) -> object:
    """Return what identifies the anchor of a site: computed weights by layer and name, all others by identity."""
    return anchor if isinstance(anchor, ComputedWeight) else id(anchor)


@dataclass(frozen=True, eq=False)
class MaskSite:
    """A place in a network where a mask acts.

    ========== ================= ==================================================================================
    kind       mask              meaning
    ========== ================= ==================================================================================
    recurrent  ``(B, H)``        multiplies ``h[t-1]`` where it enters the gates; the step's output is not masked
    weight     ``(rows, H)``     multiplies ``weight_hh``, shared by the batch (DropConnect)
    embedding  ``(V, 1)``        drops whole words from the embedding table; its one row holds all words
    input      ``(B, 1, D)``     locked dropout on what enters a recurrent layer, the same at every step
    hidden     ``(B, 1, D)``     the same between the layers of one recurrent module
    output     ``(B, 1, D)``     the same on what the last of its layers returns
    dropout    the activation's  replaces the mask that the network's own dropout draws
    ========== ================= ==================================================================================

    Source: Park et al. (2019) for the first six; Park et al. (2018, arXiv 1707.03631) for the last.

    Attributes:
        name: the path of the layer in the module that was searched, with layer and direction, then the kind:
            ``encoder.lstm.l1_reverse:recurrent``.
        kind: a kind of the table.
        layer: the path of the layer that the site belongs to, ``""`` for the module that was searched itself.
        anchor: the weight that identifies a call of the layer, or, for the kind ``dropout``, the running module. A
            weight that is no parameter of the layer, since it is computed anew for each forward, is recognised by the
            layer that is running.
        units: the length of a mask's row; each row has its own budget of flips. 0 for a ``dropout`` that has not run.
        rows: the number of rows, or None for one row per example of the batch.
        rate: the budget of this site, in [0, 1]; None for the regularizer's own.
        drop_rate: the probability with which the network itself drops a unit here, in [0, 1). For kinds other than
            ``dropout`` it is known after a pass (see `Observation.site`).
        scope: for the kind ``dropout``, the modules whose functional dropout belongs to the site, as paths by identity.
        owner: the layer that holds the anchor. Its calls with a weight that is computed from the anchor, such as a
            normalised one, belong to the site.
        parameter: the anchor's name in the owner.
        examples: for the kind ``dropout``, where the activation holds the examples, each of which is a row of the mask;
            None for the dimension in which rows begin. It is known after a pass.
        call: the number of the call of the layer in one forward, see `at_call`.

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> site, = find_sites(nn.LSTM(4, 3), "recurrent")
        >>> site.name, site.shape(batch_size=2)
        ('l0:recurrent', (2, 3))
    """

    name: str
    kind: str
    layer: str
    anchor: nn.Parameter | nn.Module | ComputedWeight = field(repr=False)
    units: int
    rows: int | None = None
    rate: float | None = None
    drop_rate: float = 0.0
    scope: Mapping[int, str] = field(default_factory=dict, repr=False)
    owner: nn.Module | None = field(default=None, repr=False)
    parameter: str = ""
    examples: Examples | None = field(default=None, repr=False)
    call: int = 0

    def __eq__(self, other: object) -> bool:
        """Compare names and anchors."""
        return isinstance(other, MaskSite) and (self.name, self.key) == (other.name, other.key)

    def __hash__(self) -> int:
        return hash((self.name, self.key))

    @property
    def key(self) -> tuple[object, str]:
        """The anchor and the kind, which tell the places of a network apart."""
        return anchor_key(self.anchor), self.kind

    @property
    def stands_in(self) -> bool:
        """Whether a module stands for functional dropout that may be anywhere below it."""
        return self.kind == "dropout" and not self.drop_rate

    def shape(self, batch_size: int) -> Shape:
        """Return the shape of this site's mask for a batch, as in the table.

        Args:
            batch_size: the number of examples.

        Raises:
            ValueError: for the kind ``dropout``, whose mask has the shape of an activation.
        """
        if self.kind == "dropout":
            raise ValueError(
                f"{self.name} has masks of its activation's shape, which batch_size={batch_size} does not tell; "
                "run the forward once, see RecordedForward.observed."
            )
        if self.kind == "embedding":
            return (self.units, 1)
        if self.kind in {"input", "hidden", "output"}:
            return (batch_size, 1, self.units)
        return (batch_size if self.rows is None else self.rows, self.units)

    def as_rows(self, mask: Tensor) -> Tensor:
        """Reshape a mask of this site to rows with a budget each, ``(rows, units)``."""
        return mask.reshape(-1, self.units) if self.examples is None else self.examples.rows(mask)

    def from_rows(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """Undo `as_rows` for a mask of a shape."""
        return rows.view(tuple(shape)) if self.examples is None else self.examples.from_rows(rows, shape)

    def at_call(self, number: int) -> MaskSite:
        """Return the site of one of several calls of its layer in a forward, for the perturbation of that call.

        A mask is the same in all calls, while a perturbation belongs to one.

        Args:
            number: the number of the call, from 0.

        Example:
            >>> from lightning_advdrop.masking import find_sites
            >>> site, = find_sites(nn.Embedding(9, 4), "embedding")
            >>> site.at_call(0) == site, site.at_call(1).name
            (True, '#1:embedding')
        """
        path, _, kind = self.name.rpartition(":")
        path = path.rpartition("#")[0] if self.call else path
        return replace(self, name=f"{path}#{number}:{kind}" if number else f"{path}:{kind}", call=number)

    def rescale(self, mask: Tensor) -> Tensor:
        """Rescale a binary mask so that the expected input of the next layer is unchanged; differentiable.

        Each row is multiplied by ``units / kept``; for the kind ``dropout`` by the network's own ``1 / (1 - p)``.
        """
        if self.kind == "dropout":
            return mask / (1 - self.drop_rate)
        return rescale_mask(self.as_rows(mask)).view(mask.shape)

    def ones(self, batch_size: int) -> Tensor:
        """Return a mask that keeps everything, ``shape(batch_size)``, on the layer's device."""
        like = self._parameter()
        return torch.ones(self.shape(batch_size), device=like.device, dtype=like.dtype)

    def sample(self, batch_size: int, rate: float, generator: torch.Generator | None = None) -> Tensor:
        """Draw a mask, ``shape(batch_size)``, in which each unit is dropped with probability ``rate``, not rescaled.

        Args:
            batch_size: the number of examples.
            rate: the probability of a zero, in [0, 1].
            generator: a CPU generator.

        Raises:
            ValueError: if ``rate`` is not in [0, 1].
        """
        like, shape = self._parameter(), self.shape(batch_size)
        return sample_bernoulli(shape, rate, generator=generator, device=like.device, dtype=like.dtype)

    def drop_one(self, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Drop one random kept unit of each row, see `lightning_advdrop.functional.drop_one`."""
        return self.from_rows(drop_one(self.as_rows(mask), generator=generator), mask.shape)

    def sample_one_drop(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw a mask, ``shape(batch_size)``, with one random zero in each row."""
        return self.drop_one(self.ones(batch_size), generator)

    def _parameter(self) -> Tensor:
        if isinstance(self.anchor, Tensor):
            return self.anchor
        holder = self.anchor.layer if isinstance(self.anchor, ComputedWeight) else self.anchor
        # Of a layer all of whose weights are computed elsewhere, what they are computed from is not known.
        return next(holder.parameters(), torch.empty(0))
