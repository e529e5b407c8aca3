"""The methods of the study, each with what is searched, and the parts of one of them switched off one by one."""

from __future__ import annotations

from typing import Any

from lightning_advdrop.tuning import Method
from tests.benchmarks.price.methods import LEADING
from tests.benchmarks.study.forms import RandomDropsCallback, WorstOfTwoCallback

_DROPS = {"low": 0.01, "high": 0.5, "log": True}
_RANDOM = {"low": 0.02, "high": 0.6, "log": True}
_WEIGHT = {"low": 0.1, "high": 5.0, "log": True}
_BASE = {"low": 0.05, "high": 0.5}
_EPSILON = {"low": 0.3, "high": 10.0, "log": True}
# So small that the divergence has no share in training.
_NO_WEIGHT = 1e-9


def _method(name: str, class_name: str, space: dict[str, Any], **arguments: Any) -> Method:
    path = class_name if "." in class_name else f"lightning_advdrop.{class_name}"
    return Method(name, {"class_path": path, "init_args": arguments}, space)


def _adversarial(name: str, **arguments: Any) -> Method:
    given = {"divergence": "kl", **arguments}
    return _method(name, "AdversarialDropoutCallback", {"rate": _DROPS, "weight": _WEIGHT}, **given)


def _on_random(name: str, callback: str = "AdversarialDropoutCallback", **arguments: Any) -> Method:
    given = {**LEADING, **arguments}
    space = {"rate": _DROPS, "start_rate": _BASE, "weight": _WEIGHT}
    return _method(name, callback, {each: space[each] for each in space if each not in arguments}, **given)


_PERTURBED = {"epsilon": _EPSILON, "weight": _WEIGHT}
_TWO = {"rate": _RANDOM, "weight": _WEIGHT}
_PUBLISHED = {"keep_start": True, "direction": "adv_base", "detach_base": False, "share_masks": False}
_SECOND = {**LEADING, "detach_base": False, "rescaling": "rows"}
_CONTROL, _WORST_OF_TWO = (
    f"{callback.__module__}.{callback.__qualname__}" for callback in (RandomDropsCallback, WorstOfTwoCallback)
)
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("none", None, {}),
        _method("variational_dropout", "VariationalDropoutCallback", {"rate": _RANDOM}),
        _method("dropconnect", "VariationalDropoutCallback", {"rate": _RANDOM}, sites="weight"),
        _method("fraternal_dropout", "FraternalDropoutCallback", _TWO),
        _method("pi_model", "PiModelCallback", _TWO),
        _method("expectation_linear_dropout", "ExpectationLinearDropoutCallback", _TWO),
        _method("r_drop", "RDropCallback", _TWO),
        _method("virtual_adversarial", "VirtualAdversarialCallback", _PERTURBED, sites="input"),
        _adversarial("published", search="gradient", start="one_drop", **_PUBLISHED),
        _adversarial("label", search="label"),
        _adversarial("top", search="top"),
        _adversarial("fisher", search="fisher"),
        _adversarial("label_ce", search="label", divergence="ce"),
        _on_random("on_random"),
        _on_random("on_random_no_base", start="ones", reference_in_base=False, start_rate=0.1),
        _on_random("on_random_no_choice", _CONTROL),
        _on_random("on_random_no_second_loss", both_losses=False),
        _on_random("on_random_no_divergence", weight=_NO_WEIGHT),
        _on_random("on_random_not_detached", detach_base=False),
        _method("r_drop_worst", _WORST_OF_TWO, {"rate": _DROPS, "start_rate": _RANDOM, "weight": _WEIGHT}, **_SECOND),
    )
}
# Those of which each task has runs; parts and variants of them are the others.
MAIN = (
    "none",
    "variational_dropout",
    "fraternal_dropout",
    "r_drop",
    "published",
    "label",
    "on_random",
    "on_random_no_choice",
)
# Of documents: the regularizer that was made for them, and the default search.
TEXT = ("none", "virtual_adversarial", "label")
# Of words.
LANGUAGE = ("none", "variational_dropout", "label")
# Of tasks whose runs take minutes.
FEW = ("none", "r_drop", "label", "on_random")
