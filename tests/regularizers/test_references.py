"""Every regularizer against its formula: the base prediction, the penalty, and all parameters' gradients."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.masking import RandomState
from lightning_advdrop.regularizers import (
    AdversarialDropout,
    AdversarialTraining,
    ExpectationLinearDropout,
    FraternalDropout,
    Passes,
    PiModel,
    PseudoEnsemble,
    RandomPerturbation,
    RDrop,
    Regularizer,
    VariationalDropout,
    VirtualAdversarialTraining,
)
from tests.helpers.models_recurrent import parameter_gradients
from tests.helpers.recording import passes_of
from tests.helpers.reference_family import FEATURES, UNITS, Network, Problem
from tests.helpers.reference_registry import REFERENCES

BATCH, STEPS, LENGTHS = 4, 5, (5, 3, 3, 1)
DIVERGENCES = ("kl", "mse_logits", "mse_probs")


@dataclass
class Case:
    """A regularizer with its arguments, a kind of site, a network, and what is padding."""

    regularizer: type[Regularizer]
    arguments: dict[str, Any] = field(default_factory=dict)
    kind: str = "recurrent"
    network: dict[str, Any] = field(default_factory=dict)
    weight: Tensor | None = None
    real_steps: Tensor | None = None

    def __str__(self) -> str:
        parts = {**self.arguments, **self.network, **({} if self.weight is None else {"weighted": self.weight.dim()})}
        parts |= {} if self.real_steps is None else {"padded": True}
        return "-".join([self.regularizer.__name__, self.kind, *(f"{key}={value}" for key, value in parts.items())])


EXAMPLES = torch.tensor([1.0, 0.0, 1.0, 0.5])
FRACTIONS = torch.tensor([[1.0, 1, 0.3, 0, 0], [1, 0.6, 1, 1, 1], [0.5, 0, 0, 0, 0], [1, 1, 1, 1, 0]])
NETWORKS: list[dict[str, Any]] = [
    {},
    {"network": {"cell": "gru"}},
    {"network": {"classes": 1}},
    {"network": {"sequence": True}, "weight": FRACTIONS},
    {"weight": EXAMPLES},
    {"network": {"layout": "time_first"}},
    {"network": {"layout": "packed", "lengths": LENGTHS}},
]
RANDOM = (VariationalDropout, FraternalDropout, RDrop, PseudoEnsemble, PiModel, ExpectationLinearDropout)
COMPARING = (FraternalDropout, PseudoEnsemble, PiModel, ExpectationLinearDropout)
PERTURBING = (RandomPerturbation, VirtualAdversarialTraining, AdversarialTraining)
WORDS: dict[str, Any] = {"words": 9}
GRADIENT: dict[str, Any] = {"search": "gradient", "share_masks": False}
SAMPLED = GRADIENT | {"rate": 0.5, "start": "sampled", "start_rate": 0.4}
SHARED_CE: dict[str, Any] = {
    "rate": 0.5,
    "search": "gradient",
    "start": "ones",
    "divergence": "ce",
    "share_masks": True,
}
CASES = [
    *(Case(r, {"rate": 0.4}, **network) for r in RANDOM for network in NETWORKS),
    *(Case(r, {"rate": 0.4}, kind) for r in RANDOM for kind in ("weight", "input")),
    *(Case(r, {"rate": 0.4}, network={"dropout": 0.4}) for r in RANDOM),
    Case(PseudoEnsemble, {"rate": 0.4, "share_masks": True}, network={"dropout": 0.4}),
    *(Case(r, {"rate": 0.4, "both_losses": False}) for r in (RDrop, FraternalDropout)),
    *(
        Case(r, {"rate": 0.4, "divergence": divergence, "direction": direction, "detach_base": detach})
        for r in COMPARING
        for divergence in DIVERGENCES
        for direction in ("base_adv", "adv_base")
        for detach in (True, False)
    ),
    *(Case(r, {"epsilon": 0.7}, "input", **network) for r in PERTURBING for network in NETWORKS),
    *(
        Case(r, {"epsilon": 0.7, "share_masks": s}, "input", {"dropout": 0.4})
        for r in PERTURBING
        for s in (True, False)
    ),
    *(Case(r, {"epsilon": 0.7}, "embedding", WORDS) for r in PERTURBING),
    *(Case(r, {"epsilon": 0.7}, "embedding", WORDS | {"sequence": True}, FRACTIONS) for r in PERTURBING),
    *(Case(r, {"epsilon": 0.7}, "input", {"layout": "time_first", "sequence": True}, FRACTIONS) for r in PERTURBING),
    *(
        Case(r, {"epsilon": 0.7}, "input", {"layout": layout, "dropout": 0.4}, real_steps=FRACTIONS != 0)
        for r in PERTURBING
        for layout in ("batch_first", "time_first")
    ),
    *(Case(RandomPerturbation, {"epsilon": 0.7, "divergence": "ce"}, "input", **network) for network in NETWORKS),
    *(
        Case(r, {"divergence": divergence, "direction": direction, "detach_base": direction == "adv_base"}, "input")
        for r in PERTURBING[:2]
        for divergence in DIVERGENCES
        for direction in ("base_adv", "adv_base")
    ),
    *(Case(VirtualAdversarialTraining, {"power_iterations": 3}, "input", **network) for network in NETWORKS),
    Case(VirtualAdversarialTraining, {"power_iterations": 3}, "embedding", WORDS),
    *(Case(AdversarialDropout, {"rate": 0.34}, kind, {"dropout": 0.4}) for kind in ("recurrent", "weight", "input")),
    *(Case(AdversarialDropout, GRADIENT | {"rate": 0.5}, **network) for network in NETWORKS),
    *(
        Case(AdversarialDropout, SAMPLED | {"steps": s, "flips": f}, kind)
        for kind in ("recurrent", "weight")
        for s in (1, 2)
        for f in ("both", "drop")
    ),
    *(
        Case(AdversarialDropout, {"rate": 0.34, "per_step": True, **more}, network={"cell": cell})
        for cell in ("lstm", "gru")
        for more in (
            GRADIENT | {"steps": 2},
            SAMPLED | {"rate": 0.34, "start_rate": 0.3},
            {},
            {"search": "fisher"},
            {"search": "top", "steps": 2},
        )
    ),
    *(
        Case(AdversarialDropout, {"rate": 0.34, "search": search, "steps": steps}, **network)
        for network in NETWORKS
        for search in ("top", "label")
        for steps in (1, 3)
    ),
    *(
        Case(AdversarialDropout, {"rate": 0.34, "search": "top", "steps": 2, "divergence": d}, kind)
        for kind in ("recurrent", "weight", "input")
        for d in DIVERGENCES
    ),
    *(
        Case(AdversarialDropout, {"rate": 0.34, "start": "ones", "search": "fisher", "draws": draws}, **network)
        for network in NETWORKS
        for draws in (1, 3)
    ),
    *(
        Case(AdversarialDropout, {"rate": 0.34, "start": "ones", "search": "fisher", "divergence": d}, kind)
        for kind in ("recurrent", "weight", "input")
        for d in DIVERGENCES
    ),
    *(Case(AdversarialDropout, SHARED_CE | {"steps": s}, **n) for s in (1, 2) for n in NETWORKS),
]


class Setting:
    """The package's way and the reference's, from the same random states."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case = case
        self.model = Network(**case.network)
        self.regularizer = case.regularizer(**case.arguments)
        words = case.network.get("words")
        self.x = torch.randn(BATCH, STEPS, FEATURES, dtype=torch.float64)
        if words:
            self.x = torch.randint(1, words, (BATCH, STEPS))
            self.x[0, 3:] = self.x[2, 1:] = 0
        shape = (BATCH, STEPS) if case.network.get("sequence") else (BATCH,)
        self.target = torch.randint(max(2, case.network.get("classes", 3)), shape)
        self.weight = case.weight
        if case.weight is not None and case.weight.dim() == 1 and case.network.get("sequence"):
            self.weight = case.weight.unsqueeze(-1)

    def passes(self) -> Passes:
        self.before = RandomState.now()
        arguments = (self.regularizer, self.model, self.x, self.case.kind)
        settings: dict[str, Any] = {
            "target": self.target,
            "sample_weight": self.weight,
            "real_steps": self.case.real_steps,
        }
        return passes_of(*arguments, **settings)

    def problem(self) -> Problem:
        """To be called after `passes`."""
        settings = {**_defaults(self.case.regularizer), **self.case.arguments}
        if settings.get("divergence") == "auto":
            settings["divergence"] = "kl"
        settings["budget"] = max(1, int(settings.get("rate", 0) * self._units()))
        base = self._noise(self.before)
        other = base if self.regularizer.share_masks else self._noise(RandomState.seeded(1))
        generator = torch.Generator().manual_seed(5)
        noise: dict[str, Any] = {"base_noise": base, "other_noise": other, "real_steps": self.case.real_steps}
        return Problem(self.model, self.x, settings, self.target, self.weight, self.case.kind, generator, **noise)

    def _units(self) -> int:
        return FEATURES if self.case.kind == "input" else UNITS

    def _noise(self, state: RandomState) -> Tensor | None:
        if not self.model.drop.p:
            return None
        state.restore()
        noise: Tensor = self.model.drop(torch.ones(BATCH, STEPS, FEATURES, dtype=torch.float64))
        return noise


def _defaults(regularizer: type[Regularizer]) -> dict[str, Any]:
    return {name: p.default for name, p in inspect.signature(regularizer).parameters.items()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_prediction_penalty_and_gradients_are_the_formulas(case: Case) -> None:
    setting = Setting(case)
    passes = setting.passes()
    found = setting.regularizer.penalty(passes)
    expected = REFERENCES[case.regularizer](setting.problem())
    close: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(passes.base, expected.base, **close)
    torch.testing.assert_close(found.value, expected.value, **close)
    supervised = torch.zeros_like(found.value) if found.supervised is None else found.supervised
    torch.testing.assert_close(supervised, expected.supervised, **close)
    # The base prediction's gradient stands for that of any loss computed from it.
    ours = found.value + 3 * supervised + passes.base.square().sum()
    theirs = expected.value + 3 * expected.supervised + expected.base.square().sum()
    gradients = parameter_gradients(ours, setting.model)
    for name, gradient in parameter_gradients(theirs, setting.model).items():
        torch.testing.assert_close(gradients[name], gradient, **close, msg=f"the gradient of {name} differs")
    assert found.value.abs() > 1e-6 or case.regularizer is VariationalDropout


def test_every_reference_is_compared() -> None:
    assert {case.regularizer for case in CASES} == set(REFERENCES)
