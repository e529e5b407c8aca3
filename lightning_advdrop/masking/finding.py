"""Find the places in a module where masks can act."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from lightning_advdrop._suggestions import did_you_mean
from lightning_advdrop.functional import flip_budget
from lightning_advdrop.masking.sites import ComputedWeight, MaskSite

SiteSpecs = str | Sequence[str] | Mapping[str, float]
_Find = Callable[[str, Any, str], Iterator[MaskSite]]


class _Kind(NamedTuple):
    """The layers that have sites of a kind, the function that finds these, and the words for such a layer."""

    layers: tuple[type[nn.Module], ...]
    find: _Find
    needs: str


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _at_weight(name: str, kind: str, path: str, layer: nn.Module, weight: str, units: int, **known: Any) -> MaskSite:
    """Make the site of a layer's weight.

    A weight under a parametrization is not read: computing it may write to buffers, as spectral normalisation does.
    """
    held = dict(layer.named_parameters(recurse=False, remove_duplicate=False)).get(weight)
    # Some wrappers put a tensor that they computed where the layer keeps its parameters.
    anchor = held if isinstance(held, nn.Parameter) else ComputedWeight(layer, weight)
    return MaskSite(name, kind, path, anchor, units, **known, owner=layer, parameter=weight)


def _gates(layer: nn.Module) -> int:
    return 4 if isinstance(layer, (nn.LSTM, nn.LSTMCell)) else 3 if isinstance(layer, (nn.GRU, nn.GRUCell)) else 1


def _places(layer: Any) -> list[str]:
    """Return the places of hidden-to-hidden weights in a recurrent layer, in the order of its flat weights."""
    suffixes = ("", "_reverse") if layer.bidirectional else ("",)
    return [f"l{index}{suffix}" for index in range(layer.num_layers) for suffix in suffixes]


def _find_hidden_to_hidden(path: str, layer: Any, kind: str) -> Iterator[MaskSite]:
    units = getattr(layer, "proj_size", 0) or layer.hidden_size
    rows = None if kind == "recurrent" else _gates(layer) * layer.hidden_size
    for place in [""] if isinstance(layer, nn.RNNCellBase) else _places(layer):
        weight = f"weight_hh_{place}" if place else "weight_hh"
        yield _at_weight(f"{_join(path, place)}:{kind}", kind, path, layer, weight, units, rows=rows)


def _find_locked(path: str, layer: Any, kind: str) -> Iterator[MaskSite]:
    """Yield the sites of locked dropout, anchored to the weight that reads or produces the masked activation."""
    width = (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)
    if kind == "input":
        yield _at_weight(f"{path}:input", kind, path, layer, "weight_ih_l0", layer.input_size)
    elif kind == "output":
        yield _at_weight(f"{path}:output", kind, path, layer, f"weight_hh_{_places(layer)[-1]}", width)
    else:
        for index in range(1, layer.num_layers):
            yield _at_weight(f"{_join(path, f'l{index}')}:hidden", kind, path, layer, f"weight_ih_l{index}", width)


def _find_embedding(path: str, layer: Any, kind: str) -> Iterator[MaskSite]:
    yield _at_weight(f"{path}:{kind}", kind, path, layer, "weight", layer.num_embeddings, rows=1)


def _find_dropout(path: str, layer: Any, kind: str) -> Iterator[MaskSite]:
    if isinstance(layer, (nn.AlphaDropout, nn.FeatureAlphaDropout)):
        raise ValueError(  # noqa: TRY004 - what is wrong is the argument ``sites``
            f"sites: {path or 'the module'} is an {type(layer).__name__}, whose noise is no mask that could be "
            f"replaced; name the other modules, as in 'encoder:{kind}', or use nn.Dropout."
        )
    drop_rate = layer.dropout if isinstance(layer, nn.MultiheadAttention) else layer.p
    if 0 < drop_rate < 1:  # what drops nothing has no mask, and what drops everything has only one
        yield MaskSite(f"{path}:{kind}", kind, path, layer, 0, drop_rate=drop_rate)


_RECURRENT = "a recurrent layer (LSTM, GRU or RNN)"
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.MultiheadAttention)
_KINDS: Mapping[str, _Kind] = {
    "recurrent": _Kind((nn.RNNBase, nn.RNNCellBase), _find_hidden_to_hidden, f"{_RECURRENT} or cell"),
    "weight": _Kind((nn.RNNBase, nn.RNNCellBase), _find_hidden_to_hidden, f"{_RECURRENT} or cell"),
    "embedding": _Kind((nn.Embedding, nn.EmbeddingBag), _find_embedding, "an embedding"),
    "input": _Kind((nn.RNNBase,), _find_locked, _RECURRENT),
    "hidden": _Kind((nn.RNNBase,), _find_locked, f"{_RECURRENT} with num_layers of at least 2"),
    "output": _Kind((nn.RNNBase,), _find_locked, _RECURRENT),
    "dropout": _Kind((*_DROPOUTS, nn.AlphaDropout, nn.FeatureAlphaDropout), _find_dropout, "a module"),
}


def find_sites(module: nn.Module, sites: SiteSpecs = "recurrent") -> list[MaskSite]:
    """Find the places in a module where masks can act.

    Args:
        module: any module.
        sites: a kind (see `MaskSite`) for every place of that kind, a path with a kind
            (``"encoder.lstm:recurrent"``) for the places at or below that path, or a list of these. The path may go
            down to a layer and direction: ``"encoder.lstm.l1_reverse:recurrent"``. A mapping gives each its own rate.

    Returns:
        The sites in the order of ``module.named_modules()``, each once. For the kind ``dropout`` these are the dropout
        modules; functional dropout is found when the forward runs. Where there is no dropout module, the module that
        was named stands for the functional dropout below it.

    Raises:
        TypeError: if ``module`` is no module.
        ValueError: if a kind is unknown, a rate is not in [0, 1], ``sites`` names a place without sites, or a layer
            can't be masked.

    Example:
        >>> model = nn.ModuleDict({"encoder": nn.LSTM(4, 3, num_layers=2), "decoder": nn.GRU(3, 3)})
        >>> [site.name for site in find_sites(model, "encoder:recurrent")]
        ['encoder.l0:recurrent', 'encoder.l1:recurrent']
        >>> [(site.name, site.rate) for site in find_sites(model, {"encoder:hidden": 0.1, "decoder:weight": 0.05})]
        [('encoder.l1:hidden', 0.1), ('decoder.l0:weight', 0.05)]
    """
    check_sites(sites)
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {module!r}.")
    rates: Mapping[str, float | None] = sites if isinstance(sites, Mapping) else dict.fromkeys(_listed(sites))
    found: dict[tuple[object, str], MaskSite] = {}
    for spec, rate in rates.items():
        matches = list(_matches(module, spec))
        if not matches:
            raise ValueError(_nothing_found(module, spec))
        new = [site for site in matches if site.key not in found]
        if not new:
            # Earlier specs named these modules; functional dropout elsewhere is still this one's.
            new = list(_stand_in(module, spec))
        for site in new:
            found.setdefault(site.key, replace(site, rate=rate))
    return list(found.values())


def check_sites(sites: SiteSpecs) -> None:
    """Check the argument of `find_sites` without a module.

    Raises:
        ValueError: if ``sites`` is empty, a kind is unknown, or a rate is not in [0, 1].

    Example:
        >>> check_sites(["recurrent", "encoder.lstm:weight"])
    """
    if not sites:
        raise ValueError(f"sites must name at least one place, got {sites!r}.")
    for spec in _listed(sites):
        if not isinstance(spec, str):
            raise ValueError(  # noqa: TRY004 - as for any other value that is none of the kinds
                f"sites must be names of places, such as 'recurrent', got {spec!r}."
            )
        _split(spec)
    for rate in sites.values() if isinstance(sites, Mapping) else ():
        flip_budget(rate, 1)


def _listed(sites: SiteSpecs) -> list[str]:
    given: Any = sites
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def _split(spec: str) -> tuple[str, str]:
    path, _, kind = spec.rpartition(":")
    if kind not in _KINDS:
        raise ValueError(
            f"sites: unknown kind {kind!r} in {spec!r}; allowed are {', '.join(_KINDS)}, "
            "alone or behind the path of a module, as in 'encoder.lstm:recurrent'"
            f"{did_you_mean(kind, _KINDS)}"
        )
    return path, kind


def _matches(module: nn.Module, spec: str) -> Iterator[MaskSite]:
    path, kind = _split(spec)
    seen: set[tuple[object, str]] = set()
    found = False
    scope = _scope(module, path) if kind == "dropout" else {}
    for name, layer in module.named_modules(remove_duplicate=False):
        # A path may lead to the layer, to a module around it, or to one of the layer's own sites.
        if isinstance(layer, _KINDS[kind].layers) and (_below(name, path) or _below(path, name)):
            for site in _KINDS[kind].find(name, layer, kind):
                if _below(site.name.rpartition(":")[0], path) and site.key not in seen:
                    seen.add(site.key)
                    found = True
                    yield replace(site, scope=scope)
    if not found:
        yield from _stand_in(module, spec)


def _stand_in(module: nn.Module, spec: str) -> Iterator[MaskSite]:
    """Yield a site of the module that was named, for functional dropout below it."""
    path, kind = _split(spec)
    scope = _scope(module, path) if kind == "dropout" else {}
    if scope:
        yield MaskSite(f"{path}:{kind}", kind, path, module.get_submodule(path), 0, scope=scope)


def _scope(module: nn.Module, path: str) -> dict[int, str]:
    """Map the modules at or below a path, by identity, to their paths."""
    scope: dict[int, str] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        if _below(name, path):
            scope.setdefault(id(part), name)
    return scope


def _below(path: str, ancestor: str) -> bool:
    return not ancestor or path == ancestor or path.startswith(f"{ancestor}.")


def _nothing_found(module: nn.Module, spec: str) -> str:
    path, kind = _split(spec)
    layers = _KINDS[kind].layers
    paths = [name or "(the module itself)" for name, part in module.named_modules() if isinstance(part, layers)]
    where = f"at or below {path!r} in" if path else "in"
    message = f"sites: found nothing of the kind {kind!r} {where} {type(module).__name__}"
    needs = f", which needs {_KINDS[kind].needs}"
    if paths:
        return f"{message}{needs}; there is {', '.join(paths)}."
    others = [each for each in _KINDS if each != kind and _has(module, each)]
    there = f"; it has places of the kind{'s' * (len(others) > 1)} {', '.join(map(repr, others))}" if others else ""
    return f"{message}{needs} and has none{there}."


def _has(module: nn.Module, kind: str) -> bool:
    """Tell whether a module has a place of a kind."""
    with suppress(ValueError):  # one that can't be masked
        return any(True for _ in _matches(module, kind))
    return False
