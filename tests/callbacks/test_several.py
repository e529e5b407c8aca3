"""Several methods in one trainer, of which some have something act in the base pass."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor

from lightning_advdrop import (
    AdversarialDropoutCallback,
    AdversarialTrainingCallback,
    ExpectationLinearDropoutCallback,
    FraternalDropoutCallback,
    RandomPerturbationCallback,
    RDropCallback,
    RegularizerCallback,
    VariationalDropoutCallback,
    VirtualAdversarialCallback,
)
from lightning_advdrop.callbacks.derived import DerivedCallback
from lightning_advdrop.regularizers import AdversarialDropout, FraternalDropout, PiModel, RDrop
from tests.helpers.messages import refused
from tests.helpers.plain_models import Delegating, QuietModel, loader, quiet_trainer, seeded


class DelegatingModel(Delegating, QuietModel):
    pass


#: What acts in the base pass, at sites of several kinds.
MASKING: dict[str, Callable[[], RegularizerCallback]] = {
    "variational": lambda: VariationalDropoutCallback("recurrent", rate=0.3),
    "dropconnect": lambda: VariationalDropoutCallback("weight", rate=0.3),
    "fraternal": lambda: FraternalDropoutCallback("hidden", rate=0.3),
    "r_drop": lambda: RDropCallback("weight", rate=0.3),
    "expectation": lambda: ExpectationLinearDropoutCallback(["recurrent", "output"], rate=0.3),
    "fisher": lambda: AdversarialDropoutCallback(["recurrent", "input"], rate=0.3, start="ones", search="fisher"),
    "adversarial": lambda: AdversarialTrainingCallback("input", epsilon=0.5),
}
OTHERS: dict[str, Callable[[], RegularizerCallback]] = {
    "virtual": lambda: VirtualAdversarialCallback("input", epsilon=0.5),
    "random": lambda: RandomPerturbationCallback("input", epsilon=0.5),
    "masks": lambda: AdversarialDropoutCallback(["hidden", "recurrent"], rate=0.3, share_masks=True),
    "supervised": lambda: AdversarialDropoutCallback(
        "weight", rate=0.3, start="ones", share_masks=True, divergence="ce"
    ),
}


def one_step(model: type[QuietModel], *callbacks: RegularizerCallback) -> tuple[dict[str, float], dict[str, Tensor]]:
    network = seeded(model)
    for callback in callbacks:
        callback.log_prefix = f"{type(callback).__name__}_{callback.site_specs}"
    L.seed_everything(3, verbose=False)
    trainer = quiet_trainer(callbacks=list(callbacks), max_steps=1, max_epochs=-1)
    trainer.fit(network, loader())
    logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name != "loss"}
    return logged, network.state_dict()


@pytest.mark.parametrize(("masking", "other"), list(itertools.product(MASKING, OTHERS)))
def test_neither_the_order_nor_the_kind_of_model_matters(masking: str, other: str) -> None:
    results = [
        one_step(model, *(make() for make in (MASKING[masking], OTHERS[other])[::order]))
        for model in (QuietModel, DelegatingModel)
        for order in (1, -1)
    ]
    logged, weights = results[0]
    assert all(math.isfinite(value) for value in logged.values())
    # Fraternal dropout's part of the penalty is half of a difference of losses, too.
    assert logged["train/penalty"] > 0 or masking == "fraternal"
    divergences = [value for name, value in logged.items() if name.endswith("/divergence")]
    assert len(divergences) == 2
    assert max(divergences) > 0
    assert min(divergences) >= 0
    for again, same in results[1:]:
        assert again == pytest.approx(logged, rel=1e-4, abs=1e-7)
        for name, value in weights.items():
            torch.testing.assert_close(same[name], value, rtol=1e-4, atol=1e-6)


def test_two_of_one_class_have_states_and_metrics_of_their_own(tmp_path: Path) -> None:
    callbacks = [
        AdversarialDropoutCallback("recurrent", rate=0.3),
        AdversarialDropoutCallback("weight", rate=0.3, weight=0.5),
        AdversarialDropoutCallback("weight", rate=0.1, weight=0.0, call=0),
        FraternalDropoutCallback("weight", rate=0.1),
    ]
    trainer = quiet_trainer(callbacks=callbacks, max_epochs=1)
    trainer.fit(seeded(QuietModel), loader())
    logged = {name for name in trainer.callback_metrics if name.endswith("/weight")}
    assert logged == {"advdrop/weight", "advdrop_2/weight", "advdrop_3/weight", "fraternal_dropout/weight"}
    assert float(trainer.callback_metrics["advdrop_2/weight"]) == 0.5
    assert trainer.callback_metrics["advdrop/divergence"] != trainer.callback_metrics["advdrop_2/divergence"]
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    states = torch.load(tmp_path / "two.ckpt", weights_only=True)["callbacks"]
    assert set(states) == {callback.state_key for callback in callbacks}
    assert len(states) == len(callbacks)


def test_two_by_composition_have_states_and_metrics_of_their_methods(tmp_path: Path) -> None:
    methods = [RDrop(rate=0.3), FraternalDropout(rate=0.3), PiModel(rate=0.3), PiModel(rate=0.1)]
    sites = ["recurrent", "recurrent", "recurrent", "weight"]
    callbacks = [RegularizerCallback(method, where, weight=0.5) for method, where in zip(methods, sites, strict=True)]
    assert repr(callbacks[0]) == (
        "RegularizerCallback(RDrop(rate=0.3, divergence='auto', both_losses=True), sites='recurrent', weight=0.5)"
    )
    assert callbacks[0].state_key == "RegularizerCallback{'regularizer': 'RDrop', 'sites': 'recurrent'}"
    trainer = quiet_trainer(callbacks=callbacks, max_epochs=1)
    trainer.fit(seeded(QuietModel), loader())
    logged = {name.partition("/")[0] for name in trainer.callback_metrics if name.endswith("/divergence")}
    assert logged == {"r_drop", "fraternal_dropout", "pi_model", "pi_model_2"}
    trainer.save_checkpoint(tmp_path / "composed.ckpt")
    states = torch.load(tmp_path / "composed.ckpt", weights_only=True)["callbacks"]
    assert set(states) == {callback.state_key for callback in callbacks}
    assert len(states) == len(callbacks)


class Named(RegularizerCallback):
    log_prefix = "mine"


class NamedDerived(DerivedCallback, of=RDrop):
    log_prefix = "mine"


def test_a_callbacks_own_prefix_counts_before_the_methods() -> None:
    assert RegularizerCallback(AdversarialDropout()).log_prefix == "advdrop"
    assert Named(RDrop()).log_prefix == NamedDerived().log_prefix == NamedDerived.log_prefix == "mine"
    callback = RegularizerCallback(RDrop())
    callback.log_prefix = "other"
    assert copy.deepcopy(callback).log_prefix == "other"
    assert Named(RDrop()).state_key == "Named{'sites': 'recurrent'}"


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_the_state_is_found_under_its_name_of_earlier_releases(tmp_path: Path) -> None:
    def fit(epochs: int, checkpoint: Path | None = None) -> L.Trainer:
        L.seed_everything(3, verbose=False)
        callback = RegularizerCallback(PiModel(rate=0.4))
        trainer = quiet_trainer(callbacks=[callback], max_epochs=epochs, limit_train_batches=2)
        trainer.fit(seeded(QuietModel), loader(), ckpt_path=checkpoint)
        return trainer

    path = tmp_path / "earlier.ckpt"
    fit(1).save_checkpoint(path)
    saved = torch.load(path, weights_only=True)
    (key,) = saved["callbacks"]
    saved["callbacks"] = {"RegularizerCallback{'sites': 'recurrent'}": saved["callbacks"][key]}
    torch.save(saved, path)
    resumed, whole = (trainer.lightning_module.state_dict() for trainer in (fit(2, path), fit(2)))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def heads(*which: int | str | None) -> list[AdversarialDropoutCallback]:
    return [AdversarialDropoutCallback(rate=0.3, output=each, divergence="kl") for each in which]


class TwoHeads(QuietModel):
    """Returns two predictions by name."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scores = super().forward(x)
        return {"first": scores, "second": scores.flip(-1)}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return torch.nn.functional.cross_entropy(self(batch[0])["first"], batch[1])


def test_two_that_compare_other_outputs_have_states_of_their_own(tmp_path: Path) -> None:
    callbacks = heads("first", "second")
    trainer = quiet_trainer(callbacks=callbacks, max_epochs=1)
    trainer.fit(seeded(TwoHeads), loader())
    assert {"advdrop/divergence", "advdrop_2/divergence"} <= set(trainer.callback_metrics)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    states = torch.load(tmp_path / "two.ckpt", weights_only=True)["callbacks"]
    assert list(states) == [
        f"AdversarialDropoutCallback{{'sites': 'recurrent', 'output': {name!r}}}" for name in ("first", "second")
    ]
    alone, unnamed = AdversarialDropoutCallback(), AdversarialDropoutCallback(output=lambda result: result["first"])
    assert alone.state_key == unnamed.state_key == "AdversarialDropoutCallback{'sites': 'recurrent'}"
    assert (
        AdversarialDropoutCallback(output=0).state_key
        == "AdversarialDropoutCallback{'sites': 'recurrent', 'output': 0}"
    )


def test_a_state_without_the_output_in_its_name_is_found_unless_it_is_that_of_another_callback() -> None:
    state = {"counted": "here"}
    for callbacks, expected in ((heads("first"), [state]), (heads(None, "first"), [None])):
        trainer = quiet_trainer(callbacks=callbacks)
        saved = {"callbacks": {"AdversarialDropoutCallback{'sites': 'recurrent'}": state}}
        callbacks[-1].on_load_checkpoint(trainer, seeded(TwoHeads), saved)
        assert [saved["callbacks"].get(callbacks[-1].state_key)] == expected


def test_two_that_can_not_be_told_apart_are_refused() -> None:
    with refused("`AdversarialDropoutCallback`", error=RuntimeError):
        quiet_trainer(callbacks=[AdversarialDropoutCallback(rate=rate) for rate in (0.1, 0.2)])
