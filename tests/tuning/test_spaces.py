"""Search spaces: what they may be, and that every value of the built-in ones is one that the method takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import FixedTrial

from lightning_advdrop import RDropCallback
from lightning_advdrop.tuning import Method, TuneError, check_space, find_method, find_methods, suggest
from lightning_advdrop.tuning import methods as methods_module
from tests.helpers.messages import refused

BUILT_IN = yaml.safe_load(Path(methods_module.__file__).with_name("spaces.yaml").read_text(encoding="utf-8"))
OVERLAYS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / "methods").glob("*.yaml"))


def every_value(space: dict[str, Any]) -> list[dict[str, Any]]:
    """Trials that together have both ends of each range and each value of each list."""
    ends = {name: list(entry) if "low" not in entry else [entry["low"], entry["high"]] for name, entry in space.items()}
    count = max(map(len, ends.values()), default=1)
    return [{name: values[number % len(values)] for name, values in ends.items()} for number in range(count)]


def test_every_overlay_has_a_space() -> None:
    assert sorted(BUILT_IN) == OVERLAYS


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_value_is_one_that_the_method_takes(name: str) -> None:
    method = find_method(name, {})
    for values in every_value(dict(method.space)):
        found = method.callbacks(suggest(FixedTrial(values), method.space))  # type: ignore[arg-type]
        assert bool(found) == (name != "none")


def test_named_values_set_several_arguments() -> None:
    method = find_method("adversarial_dropout", {})
    values = {"rate": 0.1, "weight": 1.0, "steps": 2, "search": "label", "divergence": "auto"}
    regularizer = method.with_values(suggest(FixedTrial(values), method.space))  # type: ignore[arg-type]
    found = regularizer["init_args"]
    assert (found["search"], found["start"], found["keep_start"], found["steps"]) == ("label", "ones", False, 2)
    assert method.regularizer["init_args"]["search"] == "gradient"


def test_an_argument_of_several_regularizers_is_set_where_it_is_named() -> None:
    method = find_method("adversarial_dropout_and_virtual_adversarial", {})
    first, second = method.with_values({"rate": 0.2, "weight": 0.5, "epsilon": 3.0})
    assert (first["init_args"]["rate"], first["init_args"]["weight"]) == (0.2, 0.5)
    assert (second["init_args"]["epsilon"], second["init_args"]["weight"]) == (3.0, 0.5)
    assert "rate" not in second["init_args"]


@pytest.mark.parametrize(
    ("space", "parts"),
    [
        ([], ("mapping", "[]")),
        ({"rate": 0.1}, ("rate", "range", "list", 0.1)),
        ({"rate": []}, ("rate", "list", "[]")),
        ({"rate": [[1]]}, ("rate", "texts, numbers", "[[1]]")),
        ({"rate": {"low": 1}}, ("rate", "range", "'low': 1")),
        ({"rate": {"low": 1, "high": 1}}, ("rate", "low below high", "'high': 1")),
        ({"rate": {"low": 0, "high": float("inf")}}, ("rate", "finite", "inf")),
        ({"rate": {"low": "a", "high": 1}}, ("rate", "low below high", "'a'")),
        ({"rate": {"low": 0, "high": 1, "log": True}}, ("rate", "low above 0", 0)),
        ({"rate": {"low": 1, "high": 2, "log": "yes"}}, ("rate", "log", "'yes'")),
    ],
)
def test_what_is_no_space_is_refused(space: Any, parts: tuple[object, ...]) -> None:
    with refused("space of x", *parts, error=TuneError):
        check_space("x", space)


def test_a_file_has_its_own_space_and_an_entry_can_be_replaced(tmp_path: Path) -> None:
    overlay = Path(__file__).parents[2] / "configs" / "methods" / "r_drop.yaml"
    own = tmp_path / "mine.yaml"
    own.write_text(overlay.read_text() + "space: {rate: [0.1, 0.2], weight: [1.0]}\n")
    method = find_method(str(own), {"mine": {"rate": [0.3]}})
    assert (method.name, method.space) == ("mine", {"rate": [0.3], "weight": [1.0]})


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("a: [", ("methods", "YAML", "mine.yaml")),
        ("[]", ("methods", "mapping", "[]")),
        ("model: 1", ("regularizer", "model")),
        ("regularizer: null\nspace: {rate: [1]}", ("space of mine", "empty", "rate")),
        ("regularizer: some.Class", ("regularizer of mine", "class_path", "'some.Class'")),
        ("regularizer: {class_path: a.B, init_args: 3}", ("regularizer of mine", "init_args", "3")),
        (
            "regularizer: [{class_path: a.B, init_args: {rate: 1}}, {class_path: a.C}]\nspace: {rat: [1]}",
            ("space of mine", "rate", "'rat'", "did you mean 'rate'"),
        ),
    ],
)
def test_a_file_that_is_no_overlay_is_refused(content: str, parts: tuple[object, ...], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with refused(*parts, error=TuneError):
        find_method(str(path), {})


def test_arguments_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("regularizer: {class_path: lightning_advdrop.RDropCallback, init_args: }\nspace: {rate: [0.1]}")
    (callback,) = find_method(str(path), {}).callbacks({"rate": 0.1})
    assert callback.regularizer.rate == 0.1


def test_methods_are_found_by_name() -> None:
    with refused("methods", "'r_dorp'", "'r_drop'", error=TuneError):
        find_method("r_dorp", {})
    with refused("methods", "no-such.yaml", error=TuneError):
        find_method("no-such.yaml", {})
    with refused("methods", "once", "none, none", error=TuneError):
        find_methods(["none", "none"], {})
    with refused("methods", "at least one", error=TuneError):
        find_methods([], {})
    with refused("spaces", "r_drop", "'rdrop'", error=TuneError):
        find_methods(["r_drop"], {"rdrop": {}})


def test_numbers_are_those_of_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "regularizer: {class_path: RDropCallback, init_args: {rate: 1e-2}}\n"
        "space: {rate: {low: 1e-3, high: 1E-1, log: true}, weight: [1.e+0, 2, a1e3]}\n"
    )
    method = find_method(str(path), {})
    assert method.regularizer["init_args"] == {"rate": 0.01}
    assert method.space["rate"] == {"low": 0.001, "high": 0.1, "log": True}
    assert method.space["weight"] == [1.0, 2, "a1e3"]


def test_a_class_of_this_package_needs_no_module() -> None:
    (callback,) = Method("mine", {"class_path": "RDropCallback", "init_args": {"rate": 0.3}}, {}).callbacks({})
    assert isinstance(callback, RDropCallback)


@pytest.mark.parametrize("path", ["RDorpCallback", "lightning_advdrop.RDorpCallback", "no.such.Class"])
def test_a_class_that_cannot_be_imported_is_refused(path: str) -> None:
    with refused("class_path", "imported", repr(path), error=TuneError):
        Method("mine", {"class_path": path}, {}).callbacks({})
