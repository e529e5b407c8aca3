"""The monitor of the inference gap: what it logs, and that it changes nothing else."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor
from lightning_advdrop.cli import run_experiment
from lightning_advdrop.masking import RecordedForward, find_sites
from lightning_advdrop.regularizers import Passes, inference_gap
from tests.helpers.messages import refused
from tests.helpers.plain_models import PlainModel, loader, quiet_trainer, seeded
from tests.helpers.validated import Simple, Validated, fit

NAMES = ("random", "random_max", "mean_prediction", "adversarial")


@pytest.mark.parametrize("regularized", [False, True])
@pytest.mark.parametrize("inference_mode", [False, True])
def test_training_and_logs_are_those_of_a_run_without_it_to_the_bit(regularized: bool, inference_mode: bool) -> None:
    make = Simple if regularized else Validated
    found = []
    for monitors in ([], [InferenceGapMonitor(rate=0.2, limit_batches=2)]):
        model = seeded(make)
        callbacks = [AdversarialDropoutCallback(rate=0.2)] if regularized else []
        logged, _ = fit(model, *callbacks, *monitors, inference_mode=inference_mode)
        found.append((model, torch.get_rng_state(), logged))
        assert all(parameter.grad is None or not parameter.grad.is_inference() for parameter in model.parameters())
    (plain, plain_state, plain_rows), (watched, watched_state, watched_rows) = found
    assert all(torch.equal(value, watched.state_dict()[name]) for name, value in plain.state_dict().items())
    assert torch.equal(plain_state, watched_state)
    assert vars(plain).keys() == vars(watched).keys()
    gaps = [[row.pop(f"gap/{name}") for name in NAMES] for row in watched_rows]
    assert watched_rows == plain_rows
    assert sum(all(values) for values in gaps) == 2
    if not regularized:
        assert watched.steps == plain.steps == 10


def test_sanity_checking_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []

    def counting(passes: Passes, *arguments: Any) -> Any:
        batches.append(passes)
        return inference_gap(passes, *arguments)

    monkeypatch.setattr("lightning_advdrop.callbacks.inference_gap.inference_gap", counting)
    fit(Simple(), InferenceGapMonitor(limit_batches=2), num_sanity_val_steps=2)
    assert len(batches) == 2 * 2


def test_values_are_those_of_the_function_and_stand_beside_the_other_validation_metrics() -> None:
    model = seeded(Simple)
    logged, trainer = fit(model, InferenceGapMonitor(rate=0.2, samples=3, limit_batches=2, steps=2, seed=5))
    assert [(row["epoch"], row["step"]) for row in logged if row["gap/random"]] == [("0", "3"), ("1", "7")]
    assert all(row["val/loss"] for row in logged if row["gap/random"])
    generator, expected = torch.Generator().manual_seed(5), []
    model.eval()
    for batch in list(loader())[:2]:
        recorded = RecordedForward(model, find_sites(model), share_noise=True)
        with recorded.first_run(), torch.no_grad():
            base = model(batch[0])
        passes = Passes(recorded, functools.partial(model, batch[0]), base, generator=generator)
        expected.append(inference_gap(passes, 0.2, "kl", samples=3, steps=2))
    for name in NAMES:
        value = torch.stack([getattr(gap, name) for gap in expected]).mean()
        torch.testing.assert_close(trainer.logged_metrics[f"gap/{name}"], value, rtol=1e-5, atol=1e-8)
    mean_prediction, random, *larger = (
        trainer.logged_metrics[f"gap/{name}"] for name in ("mean_prediction", "random", "random_max", "adversarial")
    )
    assert 0 < mean_prediction < random < min(larger)


def test_several_monitors_log_under_names_of_their_own() -> None:
    """Under one name, Lightning would log the mean of both."""
    rates = {"gap": 0.1, "gap_2": 0.4}
    both = [InferenceGapMonitor(rate=rate, plot_every_n_epochs=1) for rate in rates.values()]
    together, _ = fit(seeded(Simple), *both)
    for (prefix, rate), monitor in zip(rates.items(), both, strict=True):
        alone = InferenceGapMonitor(rate=rate, plot_every_n_epochs=1)
        expected, _ = fit(seeded(Simple), alone)
        for name in NAMES:
            assert [row[f"{prefix}/{name}"] for row in together] == [row[f"gap/{name}"] for row in expected], name
        assert monitor.gap_history == alone.gap_history


def test_it_works_for_validation_alone_and_early_stopping_can_follow_it() -> None:
    model = seeded(Simple)
    (metrics,) = quiet_trainer(callbacks=[InferenceGapMonitor(rate=0.2)]).validate(model, loader(), verbose=False)
    assert set(metrics) == {"val/loss", *(f"gap/{name}" for name in NAMES)}
    stopping = EarlyStopping("gap/adversarial", patience=1)
    fit(model, InferenceGapMonitor(rate=0.2), stopping)
    assert stopping.best_score > 0


def test_what_was_made_under_inference_mode_is_no_obstacle() -> None:
    """Validation alone runs under it: batches, a carried state and metrics that were reset are inference tensors."""
    values = []
    for monitors in ([], [InferenceGapMonitor(rate=0.2, limit_batches=3)]):
        model = seeded(Validated)
        trainer = quiet_trainer(callbacks=monitors)
        trainer.validate(model, loader(), verbose=False)
        assert model.by_hand.tp.is_inference()
        (metrics,) = trainer.validate(model, loader(), verbose=False)
        values.append(dict(metrics))
    gaps = {name: values[1].pop(f"gap/{name}") for name in NAMES}
    assert gaps["adversarial"] > gaps["random"] > 0
    assert values[0] == values[1]


def test_of_several_loaders_the_first_is_taken() -> None:
    logged, _ = fit(Validated(), InferenceGapMonitor(rate=0.2), val=[loader(), loader(8)])
    assert {name for name in logged[0] if name.startswith("gap")} == {f"gap/{name}" for name in NAMES}


class Packed(Simple):
    """Gets and gives a mapping, and works on packed sequences, twice a step."""

    def forward(self, batch: Any) -> Any:
        _, (hidden, _) = self.lstm(batch["x"])
        return {"features": hidden, "logits": self.head(hidden[-1])}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self(batch)["logits"], batch["y"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        first = self(batch)["logits"]
        second = self({**batch, "x": batch["x"]})["features"].sum()
        self.log("val/loss", F.cross_entropy(first, batch["y"]) + 0 * second, batch_size=len(first))


def collated(examples: Any) -> dict[str, Any]:
    sequences = [x[: 2 + index % 5] for index, (x, _) in enumerate(examples)]
    x = pack_sequence(sequences, enforce_sorted=False)
    real = torch.tensor([1.0] * (len(sequences) - 4) + [0.0] * 4)
    return {"x": x, "y": torch.stack([y for _, y in examples]), "real": real}


def test_calls_outputs_masks_and_packed_batches() -> None:
    data = DataLoader(loader().dataset, batch_size=16, collate_fn=collated)

    def value(**arguments: Any) -> float:
        monitor = InferenceGapMonitor(rate=0.2, **arguments)
        trainer = quiet_trainer(callbacks=[monitor], max_epochs=1, num_sanity_val_steps=0)
        trainer.validate(seeded(Packed), data, verbose=False)
        return float(trainer.logged_metrics["gap/random"])

    assert value(call=0) == value(module="", call=0) == value(call=0, output="logits")
    assert value(call=0) == value(call=1) != value()  # for the second of two passes other masks are drawn
    assert value(padding_mask="real", call=0) != value(call=0)
    assert value(output=lambda output: output["logits"] * 2, call=0) > value(call=0)
    with refused("module", "validation_step", "call=2", "(lstm)"):
        value(call=2)
    with refused("output='y'", "dict", "logits"):
        value(output="y")
    with refused("padding_mask='is_real'", "(batch,)"):
        value(padding_mask="is_real")


class Failing(Simple):
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        raise RuntimeError("the user's own")


def test_an_exception_leaves_the_module_as_it_was() -> None:
    model, monitor = Failing(), InferenceGapMonitor()
    with pytest.raises(RuntimeError, match="the user's own"):
        quiet_trainer(callbacks=[monitor]).validate(model, loader(), verbose=False)
    assert "forward" not in vars(model)
    assert monitor._found == []


def test_a_network_that_diverged_is_logged_as_nan() -> None:
    model = Simple()
    model.head.weight.data.fill_(float("nan"))
    (metrics,) = quiet_trainer(callbacks=[InferenceGapMonitor()]).validate(model, loader(), verbose=False)
    assert all(math.isnan(metrics[f"gap/{name}"]) for name in NAMES)


class Manual(Simple):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.GRU(4, 12, batch_first=True)  # type: ignore[assignment] # torch's LSTM needs a CPU with bfloat16
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(super().training_step(batch, batch_idx))
        self.optimizers().step()  # type: ignore[union-attr]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_manual_optimization_and_other_precisions(precision: Any) -> None:
    logged, _ = fit(Manual(), InferenceGapMonitor(rate=0.2), precision=precision, max_epochs=1)
    assert float(logged[-1]["gap/adversarial"]) > 0


class Outer(L.LightningModule):
    def __init__(self, *, compiled: bool) -> None:
        super().__init__()
        network = PlainModel()
        self.network: Any = torch.compile(network, backend="eager") if compiled else network

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", F.cross_entropy(self.network(batch[0]), batch[1]))


def test_a_compiled_network_is_watched() -> None:
    """The backend `eager` traces like any other and needs no C++ compiler."""
    torch._dynamo.reset()
    found = [
        quiet_trainer(callbacks=[InferenceGapMonitor(rate=0.2)]).validate(
            seeded(Outer, compiled=compiled), loader(), verbose=False
        )
        for compiled in (False, True)
    ]
    torch._dynamo.reset()
    assert found[0][0] == pytest.approx(found[1][0])
    assert found[0][0]["gap/random"] > 0


def test_several_monitors_leave_compiling_on() -> None:
    """Their contexts end in the order in which they began."""
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(1)
        return graph.forward

    torch._dynamo.reset()
    monitors: list[L.Callback] = [InferenceGapMonitor(rate=rate) for rate in (0.1, 0.2)]
    quiet_trainer(callbacks=monitors).validate(seeded(Simple), loader(), verbose=False)
    torch.compile(torch.neg, backend=backend)(torch.ones(1))
    torch._dynamo.reset()
    assert graphs


@pytest.mark.parametrize("name", ["InferenceGapMonitor", "lightning_advdrop.InferenceGapMonitor"])
def test_the_command_line_appends_it(name: str) -> None:
    configs = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    arguments = ["--config", str(configs), f"--trainer.callbacks+={name}", "--trainer.callbacks.samples=3"]
    callbacks = vars(run_experiment(arguments, run=False).trainer)["callbacks"]
    assert [each.samples for each in callbacks if isinstance(each, InferenceGapMonitor)] == [3]
    assert {"ModelCheckpoint", "AdversarialDropoutCallback"} <= {type(each).__name__ for each in callbacks}
