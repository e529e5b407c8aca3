"""The places in a network where a mask can act, and how to find them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_advdrop.functional import sample_bernoulli, sample_one_drop


@dataclass(frozen=True, eq=False)
class MaskSite:
    """A place in a network where a mask acts.

    Attributes:
        name: the path of the layer in the module that was searched, with layer and direction, then the kind:
            ``encoder.lstm.l1_reverse:recurrent``.
        kind: ``recurrent``, a mask ``(B, H)`` on the hidden state where it enters the gates, or ``weight``, a mask
            ``(4H, H)`` on ``weight_hh``, shared by the batch (DropConnect).
        units: the length of a mask's row, ``H``; each row has its own budget of flips.
        rows: the number of rows, or None if there is one for each example of the batch.
        weight: the hidden-to-hidden weight, by which a call of the layer is recognised.

    Example:
        >>> site, = find_sites(nn.LSTM(4, 3), "recurrent")
        >>> site.name, site.shape(batch_size=2)
        ('l0:recurrent', (2, 3))
    """

    name: str
    kind: str
    units: int
    rows: int | None
    weight: nn.Parameter = field(repr=False)

    def __eq__(self, other: object) -> bool:
        """Two sites are the same if their names and weights are."""
        return isinstance(other, MaskSite) and self.name == other.name and self.weight is other.weight

    def __hash__(self) -> int:
        return hash((self.name, id(self.weight)))

    @property
    def layer(self) -> str:
        """The path of the layer that the site belongs to, ``""`` for the module that was searched itself."""
        return self.name.rpartition(":")[0].rpartition(".")[0]

    def shape(self, batch_size: int) -> tuple[int, int]:
        """The shape of this site's mask for a batch of ``batch_size`` examples: ``(rows, units)``."""
        return (batch_size if self.rows is None else self.rows, self.units)

    def ones(self, batch_size: int) -> Tensor:
        """The mask that keeps everything, ``shape(batch_size)``, on the layer's device."""
        return torch.ones(self.shape(batch_size), device=self.weight.device, dtype=self.weight.dtype)

    def sample(self, batch_size: int, rate: float, generator: torch.Generator | None = None) -> Tensor:
        """A mask, ``shape(batch_size)``, in which each unit is dropped with probability ``rate``; not rescaled.

        Raises:
            ValueError: if the rate is outside [0, 1].
        """
        device, dtype = self.weight.device, self.weight.dtype
        return sample_bernoulli(self.shape(batch_size), rate, generator=generator, device=device, dtype=dtype)

    def sample_one_drop(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
        """A mask, ``shape(batch_size)``, with one random zero in each row."""
        device, dtype = self.weight.device, self.weight.dtype
        return sample_one_drop(self.shape(batch_size), generator=generator, device=device, dtype=dtype)


def _lstm_sites(path: str, layer: nn.LSTM, kind: str) -> Iterator[MaskSite]:
    if layer.proj_size:
        raise ValueError(
            f"sites: {path or 'the module'} is an LSTM with proj_size={layer.proj_size}, which can't be masked; "
            f"name the other layers, as in 'encoder.lstm:{kind}', or use proj_size=0."
        )
    suffixes = ("", "_reverse") if layer.bidirectional else ("",)
    for index in range(layer.num_layers):
        for suffix in suffixes:
            weight = getattr(layer, f"weight_hh_l{index}{suffix}")
            rows, units = weight.shape
            name = f"{path}.l{index}{suffix}" if path else f"l{index}{suffix}"
            yield MaskSite(f"{name}:{kind}", kind, units, None if kind == "recurrent" else rows, weight)


# How the sites of each kind are found in one layer, and what a user would call such a layer.
_KINDS: Mapping[str, tuple[type[nn.Module], Callable[[str, Any, str], Iterator[MaskSite]], str]] = {
    "recurrent": (nn.LSTM, _lstm_sites, "an LSTM layer"),
    "weight": (nn.LSTM, _lstm_sites, "an LSTM layer"),
}


def find_sites(module: nn.Module, sites: str | Sequence[str] = "recurrent") -> list[MaskSite]:
    """Finds the places in a module where masks can act.

    Args:
        module: any module.
        sites: a kind (``recurrent`` or ``weight``) for every place of that kind, a path with a kind
            (``"encoder.lstm:recurrent"``) for the places at or below that path, or a list of these. The path may go
            down to a layer and direction: ``"encoder.lstm.l1_reverse:recurrent"``.

    Returns:
        The sites in the order of ``module.named_modules()``, each once.

    Raises:
        ValueError: if a kind is unknown, nothing is found for one of ``sites``, or a layer found can't be masked.

    Example:
        >>> model = nn.ModuleDict({"encoder": nn.LSTM(4, 3, num_layers=2), "decoder": nn.LSTM(3, 3)})
        >>> [site.name for site in find_sites(model, "encoder:recurrent")]
        ['encoder.l0:recurrent', 'encoder.l1:recurrent']
    """
    check_site_kinds(sites)
    wanted = [sites] if isinstance(sites, str) else list(sites)
    found: list[MaskSite] = []
    for spec in wanted:
        matches = list(_matches(module, spec))
        if not matches:
            raise ValueError(_nothing_found(module, spec))
        known = {(id(site.weight), site.kind) for site in found}
        found.extend(site for site in matches if (id(site.weight), site.kind) not in known)
    return found


def check_site_kinds(sites: str | Sequence[str]) -> None:
    """Raises the `ValueError` of `find_sites` for an unknown kind or no site, before there is a module to search.

    Example:
        >>> check_site_kinds(["recurrent", "encoder.lstm:weight"])
    """
    wanted = [sites] if isinstance(sites, str) else list(sites)
    if not wanted:
        raise ValueError("sites must name at least one place, got an empty list.")
    for spec in wanted:
        _split(spec)


def _split(spec: str) -> tuple[str, str]:
    path, _, kind = spec.rpartition(":")
    if kind not in _KINDS:
        raise ValueError(
            f"sites: unknown kind {kind!r} in {spec!r}; allowed are {', '.join(_KINDS)}, "
            "alone or behind the path of a module, as in 'encoder.lstm:recurrent'."
        )
    return path, kind


def _matches(module: nn.Module, spec: str) -> Iterator[MaskSite]:
    path, kind = _split(spec)
    layer_type, find, _ = _KINDS[kind]
    seen: set[int] = set()
    for name, layer in module.named_modules(remove_duplicate=False):
        # A path may lead to the layer, to a module around it, or to one of the layer's own sites.
        if isinstance(layer, layer_type) and (not path or _below(name, path) or _below(path, name)):
            for site in find(name, layer, kind):
                if (not path or _below(site.name.rpartition(":")[0], path)) and id(site.weight) not in seen:
                    seen.add(id(site.weight))
                    yield site


def _below(path: str, ancestor: str) -> bool:
    return not ancestor or path == ancestor or path.startswith(f"{ancestor}.")


def _nothing_found(module: nn.Module, spec: str) -> str:
    path, kind = _split(spec)
    layer_type, _, layer_name = _KINDS[kind]
    paths = [name or "(the module itself)" for name, part in module.named_modules() if isinstance(part, layer_type)]
    where = f"at or below {path!r} in" if path else "in"
    message = f"sites: found nothing of the kind {kind!r} {where} {type(module).__name__}, which needs {layer_name}"
    return f"{message}; there is {', '.join(paths)}." if paths else f"{message} and has none."
