"""Tell where the activations of a pass hold the examples of the batch."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from lightning_advdrop.masking import MaskSite, Observation, Perturbation, SiteValue
from lightning_advdrop.masking.examples import Candidate, Examples, candidates, fits
from lightning_advdrop.regularizers.passes import Passes

Known = dict[tuple[str, int, int], tuple[int, ...]]
"""What was found in earlier passes, by site and number of dimensions: of an activation's candidates, which one fits."""

_SHARED: tuple[int, ...] = ()
"""Known of an embedding that is the same for all examples."""

_Told = Examples | tuple[int, ...] | None


def tell_examples(passes: Passes, sites: Collection[MaskSite], batch_dim: int | None, known: Known) -> None:
    """Complete what sites met in the base pass by where their activations hold the examples.

    A recurrent layer tells its batch. Elsewhere the examples are in the dimension that is as long as the prediction's
    batch. Where several are, one more pass tells them apart: a single example of the prediction depends on one example
    of the activation.

    Args:
        passes: the base pass. Its observations are completed.
        sites: the sites whose masks or perturbations belong to examples.
        batch_dim: the dimension that holds the examples wherever an activation has it beside its features; None finds
            it.
        known: what was found before, which is completed.

    Raises:
        ValueError: if the examples are in no dimension, or can't be told apart from something else.
    """
    calls = {
        call.site: call
        for site in sites
        for call in (passes.observed[site], *passes.observed[site].calls)
        if call.batch_dim is None and call.alone
    }
    told: dict[MaskSite, _Told] = {}
    unclear: dict[MaskSite, list[Candidate]] = {}
    for site, seen in calls.items():
        found = _found(passes, seen, batch_dim, known)
        if isinstance(found, list):
            unclear[site] = found
        else:
            told[site] = found
    if unclear:
        told |= _tested(passes, {site: calls[site] for site in unclear}, unclear, known)
    if told:
        _complete(passes, told)


def known_prediction_dim(seen: Observation, known: Known) -> int | None:
    """Return the dimension of the prediction that holds the examples, if `tell_examples` found it by a pass.

    Args:
        seen: what a site met in the base pass.
        known: what `tell_examples` completed.
    """
    tag = known.get(_key(seen))
    return tag[3] if tag else None


def _shape(seen: Observation) -> tuple[int, ...]:
    return seen.shape if seen.site.kind == "dropout" else seen.activation


def _key(seen: Observation) -> tuple[str, int, int]:
    return seen.site.name, id(seen.site.anchor), len(_shape(seen))


def _tag(candidate: Candidate) -> tuple[int, ...]:
    """Return what stays the same for batches of other sizes."""
    activation, prediction = candidate
    return len(activation.view), activation.dim, len(prediction.view), prediction.dim


def _found(passes: Passes, seen: Observation, batch_dim: int | None, known: Known) -> _Told | list[Candidate]:
    shape, evidence = _shape(seen), passes.recorded.evidence
    if batch_dim is not None and len(shape) > batch_dim + bool(batch_dim):
        return Examples(shape, batch_dim)
    sizes = evidence.batch_sizes(shape)
    if sizes is not None and seen.site.kind == "embedding":
        return sizes
    possible = [] if sizes is not None else candidates(shape, tuple(passes.base.shape), evidence)
    before = known.get(_key(seen))
    remembered = [each for each in possible if before == _tag(each)]
    shared = _may_be_shared(seen) and evidence.dim(shape) is None
    if remembered or (len(possible) == 1 and not shared):
        return (remembered or possible)[0].activation
    if shared and (not possible or before == _SHARED):
        return None
    if not possible:
        raise ValueError(_unknown(passes, seen))
    return possible


def _may_be_shared(seen: Observation) -> bool:
    """Tell whether an embedding may be the same for all examples, as those of positions, ``(1, T, D)``."""
    return seen.site.kind == "embedding" and _shape(seen)[0] == 1


def _tested(
    passes: Passes, calls: dict[MaskSite, Observation], unclear: dict[MaskSite, list[Candidate]], known: Known
) -> dict[MaskSite, _Told]:
    values: dict[MaskSite, SiteValue] = {}
    for site, seen in calls.items():
        if site.kind == "dropout":
            values[site] = seen.ones().requires_grad_()
        else:
            values[site] = Perturbation(seen.like.new_zeros(seen.activation).requires_grad_())
    prediction = passes.run(values)
    told: dict[MaskSite, _Told] = {}
    for site, value in values.items():
        leaf = value.value if isinstance(value, Perturbation) else value
        fitting = [each for each in unclear[site] if fits(each, prediction, leaf)]
        # Where examples depend on each other, as in batch normalisation, the shapes may still leave one choice.
        first = [each for each in unclear[site] if each.prediction == Examples(tuple(passes.base.shape), 0)]
        if not fitting and _may_be_shared(calls[site]):
            known[_key(calls[site])], told[site] = _SHARED, None
            continue
        if not fitting and len(first) != 1:
            raise ValueError(_unknown(passes, calls[site]))
        # A single example or step fits in any case.
        chosen = next((each for each in fitting if each.activation.size > 1), (fitting or first)[0])
        if all(each.activation.size > 1 for each in unclear[site]):
            known[_key(calls[site])] = _tag(chosen)
        told[site] = chosen.activation
    return told


def _complete(passes: Passes, told: dict[MaskSite, _Told]) -> None:
    def completed(seen: Observation) -> Observation:
        seen = replace(seen, calls=tuple(map(completed, seen.calls)))
        if seen.site not in told:
            return seen
        found, site = told[seen.site], seen.site
        if found is None:
            return replace(seen, alone=False)
        if not isinstance(found, Examples):
            return replace(seen, batch_sizes=found, batch_dim=0)
        if site.kind == "dropout":
            site = replace(site, units=math.prod(found.view) // found.size, examples=found)
        return replace(seen, site=site, examples=found, batch_dim=found.dim)

    observed = [completed(seen) for seen in passes.observed.values()]
    passes.recorded.observed = {seen.site: seen for seen in observed}


def _unknown(passes: Passes, seen: Observation) -> str:
    rows = ", the rows of a packed sequence" if passes.recorded.evidence.batch_sizes(_shape(seen)) else ""
    return (
        f"batch_dim must tell which dimension of {seen.site.name} holds the examples, got None, where its activation "
        f"has the shape {_shape(seen)}{rows} and the prediction {tuple(passes.base.shape)}; give batch_dim=0 if each "
        "entry of the first dimension is to have a budget or norm of its own, or name other sites."
    )
