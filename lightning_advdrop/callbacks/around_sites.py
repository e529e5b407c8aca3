"""Tell which modules contain sites, so that the output of one may be the prediction that is compared."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from lightning_advdrop.masking import MaskSite


def candidates(sites: Sequence[MaskSite]) -> list[str]:
    """Return the paths of the modules that contain all sites, from the outermost, ``""``, to the innermost.

    Functional dropout may be anywhere below the module that stands for it, so that beside other sites that module need
    only be around these or below them.

    Args:
        sites: at least one site.

    Example:
        >>> from torch import nn
        >>> from lightning_advdrop.masking import find_sites
        >>> model = nn.Sequential(nn.Sequential(nn.Identity(), nn.LSTM(2, 3)))
        >>> candidates(find_sites(model)), candidates(find_sites(model, ["recurrent", "dropout"]))
        (['', '0', '0.1'], ['', '0', '0.1'])
    """
    free = [site for site in sites if site.stands_in]
    placed = [site for site in sites if not site.stands_in]
    paths = _around_all([site.layer for site in placed] or [max((site.layer for site in free), key=len)])
    return [path for path in paths if all(nested(path, site.layer) for site in free)]


def around(sites: Sequence[MaskSite]) -> list[str]:
    """Return the `candidates` whose output may be a prediction: all but the masked layers.

    Args:
        sites: at least one site.
    """
    return [path for path in candidates(sites) if path not in masked_layers(sites)]


def masked_layers(sites: Sequence[MaskSite]) -> set[str]:
    """Return the masked layers, whose own output is no prediction. A dropout module may be inside one that has."""
    return {site.layer for site in sites if site.kind != "dropout"}


def possibly_around(sites: Sequence[MaskSite]) -> list[str]:
    """Return the children of the innermost of the `candidates` that may contain all sites, which a run tells.

    These are those of a module that stands for functional dropout, where there are no other sites.

    Args:
        sites: at least one site.

    Example:
        >>> from torch import nn
        >>> from lightning_advdrop.masking import find_sites
        >>> possibly_around(find_sites(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), "dropout"))
        ['0', '1']
    """
    inner = candidates(sites)[-1]
    if not all(site.stands_in and _below(inner, site.layer) for site in sites):
        return []
    return [path for path in sites[0].scope.values() if path and path.rpartition(".")[0] == inner]


def branches(sites: Sequence[MaskSite]) -> dict[str, list[str]]:
    """Return the children of the innermost of the `candidates` that contain some sites each.

    Args:
        sites: at least one site.

    Returns:
        What names the sites of each, by its path.

    Example:
        >>> from torch import nn
        >>> from lightning_advdrop.masking import find_sites
        >>> student, teacher = (nn.Sequential(nn.LSTM(2, 3)) for _ in range(2))
        >>> branches(find_sites(nn.ModuleDict({"student": student, "teacher": teacher})))
        {'student': ['student:recurrent'], 'teacher': ['teacher:recurrent']}
    """
    inner = candidates(sites)[-1]
    depth = len(_names(inner)) + 1
    found: dict[str, dict[str, None]] = {}
    for site in sites:
        names = _names(site.layer)
        if len(names) > depth and _below(site.layer, inner):  # else it is the masked layer itself
            path = ".".join(names[:depth])
            found.setdefault(path, {})[f"{path}:{site.kind}"] = None
    return {path: list(specs) for path, specs in found.items()}


def nested(path: str, other: str) -> bool:
    """Tell whether one of two paths leads to a module within the other's, or both to the same."""
    return _below(path, other) or _below(other, path)


def _names(path: str) -> list[str]:
    return path.split(".") if path else []


def _below(path: str, ancestor: str) -> bool:
    return not ancestor or path == ancestor or path.startswith(f"{ancestor}.")


def _around_all(paths: Sequence[str]) -> list[str]:
    """Return what all paths begin with, from ``""`` on."""
    steps = zip(*map(_names, paths), strict=False)  # as far as the shortest goes
    common = [names[0] for names in itertools.takewhile(lambda names: len(set(names)) == 1, steps)]
    return [".".join(common[:depth]) for depth in range(len(common) + 1)]


# What is said where none of them counts.


def nothing_called(
    sites: Sequence[MaskSite], watched: Sequence[str], path: str | None, with_gradient: Mapping[str, bool]
) -> str:
    """Say that a training step calls no module whose output is a prediction.

    Args:
        sites: at least one site.
        watched: the modules one of which it should call, masked layers among them.
        path: the masked layer that it calls, if it does.
        with_gradient: the `branches` that it calls, and whether with a gradient.
    """
    called = sorted(with_gradient, key=lambda each: not with_gradient[each])
    what = "none is called" if path is None else "only the masked layer itself is called"
    if called and path is None:
        what = f"only {' and '.join(map(repr, called))} {'are' if len(called) > 1 else 'is'} called, with some of them"
    layers = masked_layers(sites)
    places = ", ".join(repr(each) if each else "the LightningModule" for each in watched if each not in layers)
    return (
        f"module: training_step must compute its prediction by calling a module that contains {_content(sites)}, but "
        f"{what}; {_remedy(sites, called)}compute it in the forward of one of these: {places}."
    )


def check_one(called: Collection[str]) -> None:
    """Check that of the modules that were seen to drop units one alone is called.

    Args:
        called: their paths, at least one.

    Raises:
        ValueError: if there are several.
    """
    if len(called) > 1:
        first, *_ = names = sorted(called)
        raise ValueError(
            "sites: training_step must compute its prediction by calling one module that contains the functional "
            f"dropout, got calls of {' and '.join(map(repr, names))}; name the module whose output is compared, as "
            f"sites='{first}:dropout', or compute the prediction in the forward of one module around them."
        )


def _content(sites: Sequence[MaskSite]) -> str:
    """Say what a module must contain."""
    if all(site.stands_in for site in sites):
        return "the functional dropout"
    layers = masked_layers(sites) or {site.layer for site in sites if not site.stands_in}
    return f"the masked layers ({', '.join(sorted(layers))})"


def _remedy(sites: Sequence[MaskSite], called: Sequence[str]) -> str:
    """Say how to name the sites of one module that is called, the first of some `branches`."""
    if called:
        specs = branches(sites)[called[0]]
        named = repr(specs[0] if len(specs) == 1 else specs)
        return f"name the sites of one module that is called, as sites={named}, or "
    if all(site.stands_in for site in sites):
        return "name the module that is called, as in sites='encoder:dropout', or "
    return ""


def nothing_validated(sites: Sequence[MaskSite], call: int | None) -> str:
    """Return the message of an error where a validation step calls no module around the sites.

    Args:
        sites: where masks act.
        call: which of the calls counts; None for all.
    """
    layers = ", ".join(sorted({site.layer for site in sites}))
    which = "" if call is None else f"for call={call} "
    return (
        f"module: validation_step must {which}compute its prediction by calling a module that contains the masked "
        f"layers ({layers}), one of {', '.join(map(repr, around(sites)))}, but none is called."
    )
