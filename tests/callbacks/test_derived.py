"""Callbacks that are derived from their regularizer, and the same by composition: in Python and in YAML."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from lightning_advdrop import AdversarialDropoutCallback, FraternalDropoutCallback, RegularizerCallback, regularizers
from lightning_advdrop.callbacks.derived import DerivedCallback
from lightning_advdrop.cli import run_experiment
from lightning_advdrop.regularizers import AdversarialDropout, RDrop, Regularizer
from tests.helpers.family import CALLBACKS
from tests.helpers.messages import names, refused

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
DERIVED = {method: found for method, found in CALLBACKS.items() if issubclass(found, DerivedCallback)}
every_callback = pytest.mark.parametrize(("method", "callback"), DERIVED.items(), ids=lambda found: found.__name__)


def parameters(callback: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(callback).parameters.values())


@every_callback
def test_it_takes_sites_then_the_regularizers_arguments_then_the_base_class_ones(
    method: type[Regularizer], callback: type[RegularizerCallback]
) -> None:
    found, own = parameters(callback), parameters(method)
    of_the_base = [each for each in parameters(RegularizerCallback) if each.kind is inspect.Parameter.KEYWORD_ONLY]
    assert [each.name for each in found] == ["sites", *(each.name for each in (*own, *of_the_base))]
    assert [each.default for each in found[1:]] == [each.default for each in (*own, *of_the_base)]
    assert [each.kind for each in found[1:]] == [each.kind for each in (*own, *of_the_base)]
    made = callback("hidden", *(each.default for each in own), weight=0.25)  # type: ignore[arg-type]
    assert (made.site_specs, made.weight, type(made.regularizer)) == ("hidden", 0.25, method)


@every_callback
def test_other_arguments_are_refused(method: type[Regularizer], callback: type[RegularizerCallback]) -> None:
    with refused(callback.__name__, ".__init__()", "'rat'", error=TypeError):
        callback(rat=0.1)  # type: ignore[call-arg]
    allowed = {"rate": "[0, 1]", "epsilon": "above 0"}
    (name,) = allowed.keys() & {each.name for each in parameters(method)}
    with refused(name, allowed[name], -1.0):
        callback(**{name: -1.0})  # type: ignore[arg-type]


@every_callback
def test_copies_are_the_same_and_the_state_key_is_that_of_the_class(
    method: type[Regularizer], callback: type[RegularizerCallback]
) -> None:
    made = callback(sites="weight")  # type: ignore[call-arg]
    assert made.state_key == f"{callback.__name__}{{'sites': 'weight'}}"
    for each in (made, RegularizerCallback(method(), sites="weight")):
        assert repr(each) == f"{type(each).__name__}({each.regularizer!r}, sites='weight', weight=1.0)"
        for again in (copy.deepcopy(each), pickle.loads(pickle.dumps(each))):
            assert (type(again), again.state_key, repr(again)) == (type(each), each.state_key, repr(each))
            assert again.log_prefix == each.log_prefix == method.log_prefix
            assert vars(again.regularizer) == vars(each.regularizer)
            assert again.regularizer != each.regularizer  # compared by identity, and so hashable
    assert {made.regularizer: 1}[made.regularizer] == 1


@pytest.mark.parametrize(
    "own",
    [
        {"steps": 2, "direction": "adv_base", "flips": "drop", "detach_base": False, "draws": 3},
        {"search": "gradient", "keep_start": True},
        {"start": "ones", "search": "fisher", "divergence": "mse", "share_masks": True, "per_step": True},
        {"rate": 0.3, "start": "sampled", "start_rate": 0.2, "reference_in_base": True},
    ],
)
def test_the_callback_of_adversarial_dropout_hands_on_every_argument(own: dict[str, Any]) -> None:
    shared: dict[str, Any] = {
        "weight": 0.5,
        "rampup_epochs": 3,
        "module": "a",
        "output": 1,
        "target": "y",
        "log_every_n_steps": 7,
    }
    shared |= {"call": 2, "padding_mask": "real"}
    made = AdversarialDropoutCallback("weight", **own, **shared)
    assert vars(made.regularizer) == vars(AdversarialDropout(**own))
    assert {name: getattr(made, name) for name in (*shared, "site_specs")} == shared | {"site_specs": "weight"}


def parse(content: dict[str, Any]) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--regularizer", type=RegularizerCallback | None)
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # the name of earlier releases
    return instantiate(parser.parse_string(yaml.safe_dump({"regularizer": content}))).regularizer


@every_callback
def test_yaml_names_its_arguments(method: type[Regularizer], callback: type[RegularizerCallback]) -> None:
    own = {each.name: each.default for each in fields(method) if each.init}  # type: ignore[arg-type]
    made = parse({"class_path": f"lightning_advdrop.{callback.__name__}", "init_args": {**own, "weight": 0.5}})
    assert type(made) is callback
    assert (made.weight, made.regularizer) == (0.5, made.regularizer)
    assert {name: getattr(made.regularizer, name) for name in own} == own


def test_yaml_may_still_call_the_padding_mask_mask() -> None:
    for name in ("RDropCallback", "AdversarialDropoutCallback"):
        with pytest.warns(DeprecationWarning, match=names("'mask'", name, "'padding_mask'")):
            made = parse({"class_path": f"lightning_advdrop.{name}", "init_args": {"mask": "real"}})
        assert made.padding_mask == "real"


def test_yaml_is_checked() -> None:
    for wrong in ({"direction": "up"}, {"rat": 0.1}, {"rate": "much"}):
        with refused(next(iter(wrong)), error=Exception):
            parse({"class_path": "lightning_advdrop.FraternalDropoutCallback", "init_args": wrong})


@every_callback
def test_help_says_the_type_the_default_and_the_meaning_of_every_argument(
    method: type[Regularizer], callback: type[RegularizerCallback], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = ArgumentParser()
    parser.add_argument("--regularizer", type=RegularizerCallback | None)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--regularizer.help=lightning_advdrop.{callback.__name__}"])
    shown = re.split(r"^  --regularizer\.(?:init_args\.)?", capsys.readouterr().out, flags=re.MULTILINE)
    for each in parameters(callback):
        (entry,) = [text for text in shown if re.match(rf"{each.name}\b(?!\.help)", text)]
        described, typed, rest = " ".join(entry.split()).partition(" (type: ")
        assert len(described.split()) > 5, entry
        assert typed, entry
        assert "default: " in rest, entry


class Subclass(FraternalDropoutCallback):
    """With arguments of its own."""

    def __init__(self, strength: float = 2.0, **kwargs: Any) -> None:
        super().__init__(weight=strength, **kwargs)


def test_a_derived_callback_can_be_subclassed() -> None:
    made = Subclass(strength=3.0, rate=0.2)
    assert (made.weight, made.regularizer.rate, made.log_prefix) == (3.0, 0.2, "fraternal_dropout")
    assert list(inspect.signature(Subclass).parameters) == ["strength", "kwargs"]
    with refused("DerivedCallback", "regularizer", "of=", error=TypeError):
        DerivedCallback()


def composed(regularizer: Regularizer) -> dict[str, Any]:
    """The settings of `RegularizerCallback` with this regularizer."""
    arguments = {each.name: getattr(regularizer, each.name) for each in fields(regularizer) if each.init}  # type: ignore[arg-type]
    inner = {"class_path": f"lightning_advdrop.regularizers.{type(regularizer).__name__}", "init_args": arguments}
    return {
        "class_path": "lightning_advdrop.RegularizerCallback",
        "init_args": {"regularizer": inner, "sites": "recurrent"},
    }


@pytest.mark.parametrize("method", CALLBACKS, ids=lambda found: found.__name__)
def test_yaml_composes_every_regularizer(method: type[Regularizer]) -> None:
    assert method.__name__ in regularizers.__all__
    made = parse(composed(method()))
    assert type(made) is RegularizerCallback
    assert vars(made.regularizer) == vars(method())


def trained(tmp_path: Path, regularizer: dict[str, Any]) -> dict[str, torch.Tensor]:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"regularizer": regularizer}))
    options = (
        *("fit", "--config", str(QUICKSTART), "--config", str(overlay), "--data.init_args.train_size", "100"),
        *("--data.init_args.by", "row", "--model.init_args.input_size", "8", "--model.init_args.hidden_size", "8"),
        *("--trainer.max_steps", "3", "--trainer.limit_val_batches", "1", "--test_after_fit", "null"),
        *("--trainer.logger", "false", "--trainer.log_every_n_steps", "1"),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    )
    weights: dict[str, torch.Tensor] = run_experiment(options).model.state_dict()
    return weights


@pytest.mark.filterwarnings("ignore:The `srun` command is available", "ignore:Checkpoint directory")
@pytest.mark.parametrize(
    "regularizer", [AdversarialDropout(rate=0.3), RDrop(rate=0.3)], ids=lambda one: type(one).__name__
)
def test_an_experiment_by_composition_is_the_same_to_the_bit(tmp_path: Path, regularizer: Regularizer) -> None:
    inner = composed(regularizer)["init_args"]["regularizer"]
    named = {
        "class_path": f"lightning_advdrop.{CALLBACKS[type(regularizer)].__name__}",
        "init_args": {"sites": "recurrent", **inner["init_args"]},
    }
    by_name, by_composition = trained(tmp_path, named), trained(tmp_path, composed(regularizer))
    for name, value in by_name.items():
        assert torch.equal(value, by_composition[name])
