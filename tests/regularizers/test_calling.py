"""Regularizers without a trainer's callback: in a plain torch loop and in Lightning Fabric."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback, RegularizerCallback, regularized_loss
from lightning_advdrop.masking import RecordedForward, find_sites
from lightning_advdrop.regularizers import (
    AdversarialDropout,
    AdversarialTraining,
    FraternalDropout,
    Passes,
    RDrop,
    Regularizer,
    VirtualAdversarialTraining,
)
from tests.helpers.family import REGULARIZERS, sites_of
from tests.helpers.messages import names, refused
from tests.helpers.models_recurrent import Tagger
from tests.helpers.plain_models import Delegating, PlainModel, QuietModel, learnable_data, loader, quiet_trainer, seeded
from tests.helpers.traces import traces

every_regularizer = pytest.mark.parametrize("method", REGULARIZERS, ids=lambda found: found.__name__)


def strong(method: type[Regularizer]) -> Regularizer:
    """With a setting that changes predictions."""
    return method(**({"rate": 0.4} if "rate" in method.__dataclass_fields__ else {"epsilon": 1.0}))  # type: ignore[attr-defined]


@every_regularizer
def test_a_plain_torch_loop(method: type[Regularizer]) -> None:
    torch.manual_seed(0)
    model, regularizer = Tagger(dropout=0.1), strong(method)
    optimizer, (x, y) = torch.optim.Adam(model.parameters(), lr=0.02), learnable_data()
    before, losses = traces(model), []
    for _ in range(30):
        base, penalty = regularizer(lambda: model(x), model, sites_of(method), target=y, weight=0.5)
        loss = F.cross_entropy(base, y) + penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert penalty.shape == ()
    assert losses[-1] < 0.9 * losses[0]
    assert traces(model) == before


class Step(PlainModel):
    """Notes from what its one training step starts."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        (callback,) = [each for each in self.trainer.callbacks if isinstance(each, RegularizerCallback)]  # type: ignore[attr-defined]
        self.noted: Any = (callback._generator.get_state(), torch.get_rng_state(), copy.deepcopy(self.state_dict()))


class DelegatingStep(Delegating, Step):
    pass


@every_regularizer
@pytest.mark.parametrize("model", [Step, DelegatingStep])
def test_it_is_the_callback_to_the_bit(method: type[Regularizer], model: type[Step]) -> None:
    callback = RegularizerCallback(strong(method), sites_of(method), weight=0.5)
    task = seeded(model)
    trainer = quiet_trainer(callbacks=[callback], max_steps=1, max_epochs=-1)
    trainer.fit(task, loader())
    own_state, global_state, weights = task.noted
    x, y = next(iter(loader()))
    fresh, generator = seeded(model), torch.Generator()
    fresh.load_state_dict(weights)
    generator.set_state(own_state)
    torch.set_rng_state(global_state)
    _, penalty = strong(method)(lambda: fresh(x), fresh, sites_of(method), target=y, weight=0.5, generator=generator)
    logged = trainer.callback_metrics["train/penalty"]
    if method in {FraternalDropout, RDrop}:  # in a trainer their losses are those that the model computes
        torch.testing.assert_close(penalty.detach(), logged)
    else:
        assert penalty.detach() == logged
    assert torch.equal(generator.get_state(), callback._generator.get_state())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("search", ["label", "top", "fisher", "gradient"])
def test_lightning_fabric(search: Any, precision: Any) -> None:
    fabric = L.Fabric(accelerator="cpu", devices=1, precision=precision)
    fabric.seed_everything(0, verbose=False)
    network = Tagger()
    model, optimizer = fabric.setup(network, torch.optim.Adam(network.parameters(), lr=0.02))
    batches, regularizer = fabric.setup_dataloaders(loader()), AdversarialDropout(rate=0.2, search=search)
    losses = []
    for _ in range(5):
        for x, y in batches:
            base, penalty = regularizer(lambda: model(x), model, sites="recurrent", target=y)  # noqa: B023 - called now
            loss = F.cross_entropy(base, y) + penalty
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("method", [VirtualAdversarialTraining(), AdversarialTraining()])
def test_perturbations_under_mixed_precision_of_fabric(method: Regularizer) -> None:
    fabric = L.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    fabric.seed_everything(0, verbose=False)
    model = fabric.setup(Tagger())
    x, y = next(iter(loader()))
    _, penalty = method(lambda: model(x), model, sites="input", target=y)
    assert penalty > 0
    with pytest.raises(RuntimeError, match=r"fabric\.backward"):
        penalty.backward()


def test_metrics_and_masks_are_reached_in_two_steps() -> None:
    torch.manual_seed(0)
    model, (x, y), regularizer = Tagger(dropout=0.1), learnable_data(), AdversarialDropout(rate=0.2)
    states = torch.get_rng_state()
    base, penalty = regularizer(lambda: model(x), model, target=y, weight=0.5)
    torch.set_rng_state(states)
    passes = regularizer.first_pass(lambda: model(x), model, target=y)
    found = regularizer.evaluate(passes)
    assert torch.equal(passes.result, base)
    assert torch.equal(found.weighted(0.5), penalty)
    assert 0 < found.metrics["flip_rate"] <= 0.2
    (mask,) = found.masks.values()
    assert mask.shape == (len(x), 6)


def test_the_global_seed_decides_and_the_base_pass_is_that_of_the_network() -> None:
    model, (x, y) = Tagger(dropout=0.3), learnable_data()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(FraternalDropout(rate=0.4)(lambda: model(x), model, target=y))
    (base, penalty), again, other = results
    assert torch.equal(base, again[0])
    assert torch.equal(penalty, again[1])
    assert not torch.equal(penalty, other[1])
    torch.manual_seed(1)
    torch.randint(2**62, ())  # the seed of the masks
    method = AdversarialDropout(rate=0.4, divergence="kl", search="gradient")  # without a mask in the base pass
    noisy, _ = method(lambda: model(x), model, generator=torch.Generator())
    torch.manual_seed(1)
    torch.randint(2**62, ())
    assert torch.equal(noisy, model(x))


def test_with_a_weight_of_zero_nothing_is_drawn_and_the_forward_runs_once() -> None:
    model, (x, y), calls = Tagger(dropout=0.3), learnable_data(), []

    def forward() -> Tensor:
        calls.append(1)
        logits: Tensor = model(x)
        return logits

    torch.manual_seed(3)
    plain, state = model(x), torch.get_rng_state()
    for regularizer, weight in ((RDrop(rate=0.4), 0.0), (AdversarialDropout(rate=0.0), 1.0)):
        torch.manual_seed(3)
        base, penalty = regularizer(forward, model, target=y, weight=weight)
        assert torch.equal(base, plain)
        assert torch.equal(torch.get_rng_state(), state)
        assert penalty == 0
    assert len(calls) == 2


def test_sites_may_be_found_before_and_outputs_have_parts() -> None:
    model, (x, y) = Tagger(layers=2), learnable_data()
    generators = [torch.Generator().manual_seed(4) for _ in range(3)]
    found = find_sites(model, "lstm.l1:recurrent")
    penalties = [
        AdversarialDropout(rate=0.3)(forward, model, sites, target=y, generator=generator, output=output)[1]
        for generator, forward, sites, output in zip(
            generators,
            (lambda: model(x), lambda: {"other": 1, "prediction": model(x)}, lambda: (0, model(x))),
            ("lstm.l1:recurrent", found, {"lstm.l1:recurrent": 0.3}),
            (None, None, 1),
            strict=True,
        )
    ]
    assert torch.equal(penalties[0], penalties[1])
    assert torch.equal(penalties[0], penalties[2])


def test_examples_of_weight_zero_do_not_count() -> None:
    torch.manual_seed(0)
    model, x = Tagger(), learnable_data()[0]
    real = (torch.arange(len(x)) % 4 > 0).float()
    regularizer, values = VirtualAdversarialTraining(epsilon=0.5, divergence="kl"), []
    for noise in (0.0, 1.0):
        x = x + noise * (1 - real).view(-1, 1, 1)
        generator = torch.Generator().manual_seed(1)
        values.append(regularizer(lambda: model(x), model, "input", sample_weight=real, generator=generator)[1])  # noqa: B023
    torch.testing.assert_close(*values)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda m, x: RDrop()(lambda: m(x), m, weight=-1.0), ("weight", 0, -1.0)),
        (lambda m, x: RDrop()(lambda: m(x), m, "embedding"), ("sites", "'embedding'", "Tagger")),
        (lambda m, x: RDrop()(lambda: m(x), m, []), ("sites", [])),
        (lambda m, x: RDrop()(lambda: m(x), m), ("target", "both_losses=True", None)),
        (lambda m, x: RDrop()(lambda: m(x).detach(), m), ("module", "gradient", "torch.no_grad()")),
        (lambda m, x: RDrop()(lambda: {"x": m(x)}, m, output="y"), ("output='y'", "dict", "x")),
        (
            lambda m, x: AdversarialTraining()(lambda: m(x), m, "recurrent", target=x),
            ("sites", "'embedding'", "'input'", "'lstm.l0:recurrent'"),
        ),
    ],
)
def test_what_is_refused(call: Callable[[nn.Module, Tensor], Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        call(Tagger(), learnable_data()[0])


def test_predictions_that_are_not_finite_are_refused() -> None:
    model = Tagger()
    with torch.no_grad():
        model.out.bias.fill_(float("nan"))
    with refused("prediction", "NaN", "infinity", error=FloatingPointError):
        AdversarialDropout()(lambda: model(learnable_data()[0]), model)


def test_weights_are_taken_under_their_old_names() -> None:
    model, (x, y) = Tagger(), learnable_data()
    recorded = RecordedForward(model, find_sites(model), share_noise=True)
    with recorded.first_run():
        base = model(x)
    real = torch.ones(len(x))
    with pytest.warns(DeprecationWarning, match=names("'weight'", "Passes.__init__", "'sample_weight'")):
        passes = Passes(recorded, lambda: model(x), base, y, weight=real)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=names("Passes.weight", "Passes.sample_weight")):
        assert passes.weight is passes.sample_weight is real
    with pytest.warns(DeprecationWarning, match=names("'base'", "Passes.__init__", "'result'")):
        assert Passes(recorded, lambda: model(x), base=base).base is base  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=names("'weight'", "regularized_loss", "'sample_weight'")):
        loss = regularized_loss(QuietModel(), lambda: base, lambda p: F.cross_entropy(p, y), weight=real)
    assert loss.total == F.cross_entropy(base, y)
    with pytest.warns(DeprecationWarning, match=names("AdversarialDropout.search_by")):
        assert AdversarialDropoutCallback().regularizer.search_by == "label"


def test_regularized_loss_without_a_trainer_is_the_plain_one() -> None:
    model, (x, y) = DelegatingStep(), learnable_data()
    wrapped = L.Fabric(accelerator="cpu", devices=1).setup(DelegatingStep())
    wrapped.load_state_dict(model.state_dict())
    for each in (model.eval(), wrapped.eval()):
        assert each.training_step((x, y), 0) == F.cross_entropy(model(x), y)
