"""The methods whose steps are measured, as callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Callback

from lightning_advdrop import (
    AdversarialDropoutCallback,
    FraternalDropoutCallback,
    PiModelCallback,
    RDropCallback,
)
from tests.benchmarks.price.shapes import Shape

RANDOM_RATE = 0.1  # of units that a random mask drops
ROUNDS_RATE = 0.2  # of units that several rounds may flip: no more rounds are made than there are flips
#: A sampled mask in the base pass, whose worst further drops the label search adds; the label trains both passes.
LEADING: dict[str, Any] = {
    "start": "sampled",
    "start_rate": RANDOM_RATE,
    "reference_in_base": True,
    "flips": "drop",
    "search": "label",
    "both_losses": True,
    "rescaling": "expected",
    "divergence": "kl",
}
TITLES = {
    "plain": "plain",
    "r_drop": "R-Drop",
    "fraternal": "fraternal dropout",
    "random": "two random masks, detached base",
    "gradient": "gradient search, detached base",
    "published": "published form",
    "fisher": "Fisher search",
    "top": "top search",
    "label": "label search",
    "leading": "random mask and worst drops, both losses",
}


def _adversarial(shape: Shape, rounds: Mapping[str, Any], **more: Any) -> Callback:
    return AdversarialDropoutCallback(**{"share_masks": False, **shape.settings, **shape.adversarial, **rounds, **more})


def _random(of: Callable[..., Callback], shape: Shape, **more: Any) -> Callback:
    return of(rate=RANDOM_RATE, **shape.settings, **more)


def callback(shape: Shape, method: str) -> Callback | None:
    """Make the callback of a method; None for plain training.

    Args:
        shape: where it is used.
        method: its name, one of `TITLES`; of adversarial dropout ``gradient@3`` has three rounds, and a larger budget.

    Raises:
        ValueError: if there is no such method.
        TypeError: if the package has no argument that the method needs.
    """
    name, _, rounds = method.partition("@")
    more: Mapping[str, Any] = {"steps": int(rounds), "rate": ROUNDS_RATE} if rounds else {}
    found: dict[str, Callable[[], Callback | None]] = {
        "plain": lambda: None,
        "r_drop": lambda: _random(RDropCallback, shape),
        "fraternal": lambda: _random(FraternalDropoutCallback, shape),
        "random": lambda: _random(PiModelCallback, shape, detach_base=True),
        "gradient": lambda: _adversarial(shape, more, search="gradient"),
        "published": lambda: _adversarial(shape, more, search="gradient", **shape.published),
        "fisher": lambda: _adversarial(shape, more, search="fisher"),
        "top": lambda: _adversarial(shape, more, search="top"),
        "label": lambda: _adversarial(shape, more, search="label"),
        "leading": lambda: _adversarial(shape, more, **LEADING),
    }
    if name not in found:
        raise ValueError(f"method must be one of {', '.join(found)}, got {method!r}.")
    made = found[name]()
    if made is not None:  # Lightning tells callbacks that have a state apart by their class
        made.__class__ = type(f"{type(made).__name__}@{method}", (type(made),), {})
    return made


def available(shape: Shape, methods: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """The methods that this package has, and why the others are left out."""
    there, left_out = [], {}
    for method in methods:
        try:
            callback(shape, method)
        except TypeError as error:
            left_out[method] = str(error)
        else:
            there.append(method)
    return there, left_out
