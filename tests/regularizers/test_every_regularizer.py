"""Every regularizer of the package is documented, compared with its formula, and has a callback and an overlay."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import lightning_advdrop
from lightning_advdrop import callbacks, regularizers
from lightning_advdrop.regularizers import AdversarialDropout, RandomPerturbation, Regularizer
from tests.helpers.family import CALLBACKS, REGULARIZERS
from tests.helpers.messages import refused
from tests.helpers.reference_registry import REFERENCES

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "regularizers.md").read_text(encoding="utf-8")
every_regularizer = pytest.mark.parametrize("regularizer", REGULARIZERS, ids=lambda found: found.__name__)


def test_they_are_found() -> None:
    names = {found.__name__ for found in REGULARIZERS}
    assert {"AdversarialDropout", "RDrop", "VirtualAdversarialTraining"} <= names
    assert len(names) >= 10
    assert names == {name for name in regularizers.__all__ if name in names}


@every_regularizer
def test_it_has_a_docstring_with_a_source_and_an_example(regularizer: type[Regularizer]) -> None:
    text = inspect.getdoc(regularizer) or ""
    assert re.search(r"^Source: .*(\d{4}|arXiv)", text, re.MULTILINE)
    assert "\nArgs:" in text
    assert "\nExample:" in text
    for name in inspect.signature(regularizer).parameters:
        assert re.search(rf"^    {name}: ", text, re.MULTILINE), name


OUT_OF_RANGE: dict[type, tuple[Any, ...]] = {float: (-1.0, float("nan")), int: (0,), str: ("js",)}


@every_regularizer
def test_it_refuses_what_is_out_of_range_or_unknown(regularizer: type[Regularizer]) -> None:
    for name, parameter in inspect.signature(regularizer).parameters.items():
        if isinstance(parameter.default, bool) or name == "batch_dim":
            continue
        for value in (*OUT_OF_RANGE[type(parameter.default)], *((1.5,) if name.endswith("rate") else ())):
            with refused(name, repr(value)):
                regularizer(**{name: value})
    if "divergence" in inspect.signature(regularizer).parameters and regularizer not in {
        AdversarialDropout,
        RandomPerturbation,
    }:
        with refused("divergence", "two", "'ce'"):
            regularizer(divergence="ce")  # type: ignore[call-arg]


@every_regularizer
def test_it_has_a_reference(regularizer: type[Regularizer]) -> None:
    assert regularizer in REFERENCES


@every_regularizer
def test_it_has_a_callback_of_its_name_and_arguments(regularizer: type[Regularizer]) -> None:
    callback = CALLBACKS[regularizer]
    name = regularizer.__name__
    assert callback.__name__ in {f"{name}Callback", f"{name.removesuffix('Training')}Callback"}
    assert callback.__name__ in callbacks.__all__
    assert getattr(lightning_advdrop, callback.__name__) is callback
    parameters = inspect.signature(callback).parameters
    text = inspect.getdoc(callback) or ""
    for argument, parameter in inspect.signature(regularizer).parameters.items():
        assert parameters[argument].default == parameter.default
        assert re.search(rf"^    {argument}: ", text, re.MULTILINE), argument


def test_names_of_logged_metrics_differ() -> None:
    prefixes = [callback.log_prefix for callback in CALLBACKS.values()]
    assert sorted(prefixes) == sorted(set(prefixes))


@every_regularizer
def test_it_has_an_overlay(regularizer: type[Regularizer]) -> None:
    assert overlays(regularizer)


def overlays(regularizer: type[Regularizer]) -> list[str]:
    """The names of the overlays with this method alone."""
    wanted = f"lightning_advdrop.{CALLBACKS[regularizer].__name__}"
    contents = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / "configs" / "methods").glob("*.yaml")}
    alone = {
        name: content["regularizer"] for name, content in contents.items() if isinstance(content["regularizer"], dict)
    }
    return [name for name, found in alone.items() if found["class_path"] == wanted]


@every_regularizer
def test_it_has_a_section_on_the_page(regularizer: type[Regularizer]) -> None:
    callback = CALLBACKS[regularizer]
    sections = [
        section for section in re.split(r"^## ", PAGE, flags=re.MULTILINE) if f"`{callback.__name__}`" in section
    ]
    section = next(found for found in sections if "**Source**" in found)
    for part in ("**Formula**", "**Use**", "**Values**", "**Cost**", "**Source**", "**Logged**", "**Overlay**"):
        assert part in section, part
    assert f"`{callback.log_prefix}/divergence`" in section
    for overlay in overlays(regularizer):
        assert f"configs/methods/{overlay}" in section
        assert overlay in PAGE.partition("\n## ")[0]  # the table at the top


@every_regularizer
def test_the_api_names_it(regularizer: type[Regularizer]) -> None:
    for room, found in (("regularizers", regularizer), ("callbacks", CALLBACKS[regularizer])):
        text = (ROOT / "docs" / "api" / f"{room}.md").read_text(encoding="utf-8")
        assert re.search(rf"^\.\. autoclass:: {found.__name__}$", text, re.MULTILINE)


def test_every_overlay_is_on_the_page() -> None:
    names = {path.name for path in (ROOT / "configs" / "methods").glob("*.yaml")}
    assert set(re.findall(r"(\w+\.yaml)", PAGE)) >= names
