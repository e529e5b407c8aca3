"""The search and the penalty, against an independent reference."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.masking import RandomState, RecordedForward, find_sites
from lightning_advdrop.regularizers import AdversarialDropout, Passes
from tests.helpers.models_recurrent import parameter_gradients
from tests.helpers.reference_adversarial import Classifier, Search, distance

BATCH, STEPS, UNITS, NOISE = 5, 6, 8, 11
DEFAULTS: dict[str, Any] = {"rate": 0.25, "search": "gradient", "share_masks": True}
BUDGETS = {0.05: 1, 0.125: 1, 0.25: 2, 0.4: 3, 0.5: 4, 0.8: 6, 1.0: 8}
CASES: list[dict[str, Any]] = [
    *({"steps": steps, "rate": rate} for steps in (1, 2, 3) for rate in (0.05, 0.25, 0.5, 0.8)),
    *({"steps": steps, "flips": "drop", "rate": 0.5} for steps in (1, 2, 3)),
    *({"keep_start": True, "steps": steps, "rate": rate} for steps in (1, 2) for rate in (0.05, 0.25, 0.5, 1.0)),
    {"keep_start": True, "flips": "drop", "steps": 2, "rate": 0.8},
    *(
        {"divergence": divergence, "direction": direction, "steps": 2, "detach_base": detach}
        for divergence in ("kl", "mse_logits", "mse_probs", "ce")
        for direction in ("base_adv", "adv_base")
        for detach in (True, False)
    ),
    *({"divergence": "ce", "start": "ones", "steps": steps, "rate": 0.4} for steps in (1, 2, 3)),
    *({"start": "ones", "share_masks": False, "dropout": 0.4, "steps": steps, "rate": 0.4} for steps in (1, 2, 3)),
    {"start": "ones", "share_masks": False, "dropout": 0.4, "divergence": "mse_logits", "detach_base": False},
    {"share_masks": False, "dropout": 0.4, "steps": 2, "rate": 0.5, "detach_base": False},
    {"dropout": 0.4, "steps": 2, "rate": 0.5, "detach_base": False},
    *({"layers": 2, "steps": steps, "rate": 0.4, "detach_base": False} for steps in (1, 2)),
    {"layers": 3, "flips": "drop", "keep_start": True, "rate": 0.4},
]


class Setting:
    """A model, a batch, and both ways to the penalty."""

    def __init__(self, case: dict[str, Any], kind: str) -> None:
        case = DEFAULTS | case
        self.kind, self.rate = kind, case["rate"]
        self.model = Classifier(UNITS, case.pop("layers", 1), dropout=case.pop("dropout", 0.0))
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.mul_(3)
        self.regularizer = AdversarialDropout(**case)
        self.x = torch.randn(STEPS, BATCH, 3, dtype=torch.float64)
        self.target = torch.randint(3, (BATCH,))
        self.sites = find_sites(self.model, kind)

    def passes(self) -> Passes:
        recorded = RecordedForward(self.model, self.sites, share_noise=self.regularizer.share_masks)
        self.before = RandomState.now()
        with recorded.first_run():
            base = self.model(self.x)
        recorded.draw_noise(NOISE)
        generator = torch.Generator().manual_seed(5)
        return Passes(recorded, lambda: self.model(self.x), base, self.target, generator=generator)

    def expected(self) -> tuple[list[Tensor], Tensor]:
        """Masks and penalty of the reference; to be called after `passes`."""
        regularizer = self.regularizer
        self.before.restore()
        x_base = self.model.before(self.x)
        (self.before if regularizer.share_masks else RandomState.seeded(NOISE)).restore()
        x = self.model.before(self.x)
        ones = [site.ones(BATCH) for site in self.sites]
        base = self.model.under(x_base, ones, self.kind)
        measure = distance(regularizer.divergence, regularizer.direction, self.target)
        generator = torch.Generator().manual_seed(5)
        starts = ones
        if regularizer.start == "one_drop":
            starts = [site.sample_one_drop(BATCH, generator) for site in self.sites]
        search = Search(regularizer.steps, regularizer.flips, regularizer.keep_start)
        budgets = [BUDGETS[self.rate]] * len(self.sites)
        masks = search(lambda m: measure(base.detach(), self.model.under(x, m, self.kind)), starts, budgets)
        base = base.detach() if regularizer.detach_base else base
        return masks, measure(base, self.model.under(x, masks, self.kind))


def name(case: dict[str, Any]) -> str:
    return "-".join(f"{key}={value}" for key, value in case.items())


@pytest.mark.parametrize("kind", ["recurrent", "weight"])
@pytest.mark.parametrize("case", CASES, ids=name)
def test_masks_penalty_and_gradients_are_the_references(case: dict[str, Any], kind: str) -> None:
    setting = Setting(case, kind)
    passes = setting.passes()
    found = setting.regularizer.find_masks(passes, {site: site.ones(BATCH) for site in setting.sites})
    setting.before.restore()
    passes = setting.passes()
    penalty = setting.regularizer.penalty(passes)
    gradients = parameter_gradients(penalty.value, setting.model)
    masks, value = setting.expected()
    assert all(torch.equal(found[site], mask) for site, mask in zip(setting.sites, masks, strict=True))
    torch.testing.assert_close(penalty.value, value, rtol=1e-8, atol=1e-10)
    assert value > 0
    for key, gradient in parameter_gradients(value, setting.model).items():
        torch.testing.assert_close(gradients[key], gradient, rtol=1e-6, atol=1e-9, msg=key)
    flipped = torch.stack([(mask == 0).sum() for mask in masks]).sum() / sum(mask.numel() for mask in masks)
    torch.testing.assert_close(torch.as_tensor(penalty.metrics["flip_rate"]), flipped)


@pytest.mark.parametrize("kind", ["recurrent", "weight"])
@pytest.mark.parametrize("case", CASES[::3], ids=name)
def test_budgets_are_kept_in_every_row(case: dict[str, Any], kind: str) -> None:
    setting = Setting(case, kind)
    reference = {site: site.sample(BATCH, 0.2) for site in setting.sites}
    if setting.regularizer.flips == "drop" or setting.regularizer.keep_start:
        reference = {site: site.ones(BATCH) for site in setting.sites}
    found = setting.regularizer.find_masks(setting.passes(), reference)
    assert list(found) == setting.sites
    for site, mask in found.items():
        assert ((mask == 0) | (mask == 1)).all()
        assert (mask != reference[site]).sum(-1).max() <= BUDGETS[setting.rate]
        assert not mask.requires_grad


def test_layers_of_different_sizes_have_their_own_budgets() -> None:
    model = torch.nn.ModuleDict({"wide": torch.nn.LSTM(3, 20), "narrow": torch.nn.LSTM(20, 5)}).double()
    x = torch.randn(STEPS, BATCH, 3, dtype=torch.float64)

    def forward() -> Tensor:
        output: Tensor = model["narrow"](model["wide"](x)[0])[0][-1]
        return output

    recorded = RecordedForward(model, find_sites(model), share_noise=True)
    with recorded.first_run():
        base = forward()
    regularizer = AdversarialDropout(rate=0.2, steps=2, divergence="kl", search="gradient", flips="drop")
    found = regularizer.find_masks(Passes(recorded, forward, base), {site: site.ones(BATCH) for site in recorded.sites})
    flips = {site.name: (mask == 0).sum(-1) for site, mask in found.items()}
    assert 1 < flips["wide.l0:recurrent"].max() <= 4
    assert flips["narrow.l0:recurrent"].max() == 1
