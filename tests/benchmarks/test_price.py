"""The table of prices: what it measures, its ratios, its fits and its targets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch import Callback

from lightning_advdrop.callbacks.training_step import attached_regularizers, regularized_loss
from lightning_advdrop.tasks import sequential_mnist
from tests.benchmarks.price import __main__ as price
from tests.benchmarks.price import cell, formula, growth, meters, methods, steps
from tests.benchmarks.price.meters import Clock, GPUPeakMemory, PeakMemory
from tests.benchmarks.price.results import Results, ShapeResult, Spread
from tests.benchmarks.price.shapes import SHAPES, Sizes
from tests.benchmarks.price.tables import comparison, report
from tests.benchmarks.price.targets import TARGETS, Target

MIB = 2**20
SMALL = SHAPES["smnist"].small
linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the peak of a time span is known on Linux only"
)
pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available")


def grown(*mebibytes: int) -> float:
    """The growth that is measured while tensors of these sizes are made, one after the other."""
    meter = PeakMemory()
    meter.start()
    for each in mebibytes:
        torch.ones(each * MIB // 4)
    return meter.stop() / MIB


@linux
def test_the_peak_of_memory_is_that_of_the_largest_tensor_at_a_time() -> None:
    assert grown(64) == pytest.approx(64, abs=2)
    assert grown(16, 48, 32) == pytest.approx(48, abs=2)
    assert grown(16) == pytest.approx(16, abs=2)  # of this time span, and not of the process


@linux
def test_tensors_that_live_at_the_same_time_add_up() -> None:
    meter = PeakMemory()
    meter.start()
    both = torch.ones(24 * MIB // 4), torch.ones(40 * MIB // 4)
    del both
    assert meter.stop() / MIB == pytest.approx(64, abs=2)


def test_a_system_that_does_not_tell_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "_CLEAR", tmp_path / "clear_refs")
    with pytest.raises(OSError, match=r"needs .*clear_refs, which this system lacks; .*--no-memory"):
        PeakMemory().start()


@pytest.mark.gpu
def test_the_peak_of_memory_on_a_gpu() -> None:
    meter = GPUPeakMemory()
    meter.start()
    torch.ones(16 * MIB // 4, device="cuda")
    assert meter.stop() == 16 * MIB


class Counter:
    """A meter that gives the number of the step."""

    def __init__(self) -> None:
        self.steps = 0

    def start(self) -> None:
        self.steps += 1

    def stop(self) -> float:
        return float(self.steps)


def test_methods_take_turns_and_each_has_its_callback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def spy(module: L.LightningModule, *args: Any, **kwargs: Any) -> Any:
        seen.append([type(each).__name__.partition("@")[2] for each in attached_regularizers(module)])
        return regularized_loss(module, *args, **kwargs)

    monkeypatch.setattr(sequential_mnist, "regularized_loss", spy)
    names = ["plain", "r_drop", "label"]
    found = steps.measure(SHAPES["smnist"], names, {"step": Counter()}, sizes=SMALL, repeats=2, warm_up=1)
    a: list[str] = []
    b, c = ["r_drop"], ["label"]
    assert seen == [a, b, c, b, c, a, c, a, b]
    assert found == {"step": {"plain": [6, 8], "r_drop": [4, 9], "label": [5, 7]}}


def test_every_method_trains_at_every_shape() -> None:
    for shape in SHAPES.values():
        there, left_out = methods.available(shape, (*shape.methods, "gradient@2"))
        found = steps.measure(shape, there, {"s": Clock("process")}, sizes=shape.small, repeats=1, warm_up=0)["s"]
        assert {*found, *left_out} == {*shape.methods, "gradient@2"}
        assert all(seconds > 0 for (seconds,) in found.values())


def test_a_method_that_the_package_lacks_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "LEADING", {"of_tomorrow": True})
    there, left_out = methods.available(SHAPES["smnist"], ("plain", "leading"))
    assert there == ["plain"]
    assert "of_tomorrow" in left_out["leading"]
    with pytest.raises(ValueError, match=r"method must be one of plain, .*, got 'none'"):
        methods.callback(SHAPES["smnist"], "none")


class Failing(Callback):
    """Fails in its own turns: in those of others it isn't called."""

    def on_before_backward(self, *_: Any) -> None:
        raise RuntimeError("It can't.\nMore.")


def test_a_method_that_fails_is_left_out_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "callback", lambda shape, method: Failing() if method == "label" else None)
    monkeypatch.setattr(price, "available", lambda shape, names: (["plain", "label", "r_drop"], {}))
    result = price.shape_result("smnist", price.parse(["--small", "--no-memory", "--repeats", "1"]))
    assert result.left_out == {"label": "RuntimeError: It can't."}
    assert {name: len(each) for name, each in result.seconds.items()} == {"plain": 1, "r_drop": 1}


def handmade() -> Results:
    result = ShapeResult(
        [784, 100, 100, 0],
        {"plain": [1.0, 2.0, 4.0], "r_drop": [2.0, 4.0, 4.0], "label": [3.0, 3.0, 4.0]},
        {"plain": 8.0 * MIB, "r_drop": 10.0 * MIB, "label": 6.0 * MIB},
    )
    return Results({"torch": "2", "lightning": "2", "device": "a", "threads": 1, "clock": "wall"}, {"smnist": result})


def test_ratios_are_of_steps_within_a_round() -> None:
    result = handmade().shapes["smnist"]
    assert result.time_ratio("label", "plain") == Spread(1.25, 1.5, 2.25)  # of 3, 1.5 and 1
    assert result.time_ratio("label", "r_drop") == Spread(0.875, 1.0, 1.25)  # of 1.5, 0.75 and 1
    assert result.memory_ratio("label", "plain") == 0.75
    assert result.time_ratio("leading", "plain") is None
    assert result.memory_ratio("label", "fraternal") is None


def test_targets_are_judged_by_the_median() -> None:
    results = handmade()
    reached = {target.what: target.reached(results) for target in TARGETS}
    assert reached["sequential MNIST: label search / plain, time"] == "yes"  # 1.5 <= 1.6
    assert reached["sequential MNIST: label search / R-Drop, memory"] == "yes"  # 0.6 <= 0.7
    assert reached["sequential MNIST: published form / plain, time"] == "not measured"
    assert Target("", 1.4, lambda _: Spread(1.0, 1.5, 2.0)).reached(results) == "no"
    assert [Target("", 1.1, lambda _, v=value: v, 0.9).reached(results) for value in (0.8, 1.0, 1.2)] == [  # type: ignore[misc]
        "no",
        "yes",
        "no",
    ]


def test_the_tables_and_the_comparison_have_the_values() -> None:
    results, later = handmade(), handmade()
    later.shapes["smnist"].seconds["label"] = [1.5, 1.5, 2.0]
    later.shapes["smnist"].left_out["leading"] = "not built"
    text = report(later)
    assert "| label search | 1.500 | 0.75 (0.62 to 1.12) | 0.50 (0.44 to 0.62) | 6 | 0.75 | 0.60 |" in text
    assert "Left out: random mask and worst drops, both losses: not built" in text
    compared = comparison(results, later)
    assert "| sequential MNIST: label search, s | 3.000 | 1.500 | 0.50 |" in compared
    assert "| sequential MNIST: label search / plain, time | 1.50 | 0.75 | 0.50 |" in compared
    assert "| sequential MNIST: plain, MiB | 8 | 8 | 1.00 |" in compared


def test_exponents_are_those_of_the_powers() -> None:
    powers = {"steps": [10, 20, 40], "seconds": [1.0, 2.0, 4.0], "bytes": [5.0, 20.0, 80.0]}
    found = growth.exponents({**powers, "rounds": [1, 2, 4, 8], "added": [3.0, 6.0, 12.0, 24.0]})
    assert found == pytest.approx({"time in T": 1, "memory in T": 2, "time in K": 1})
    assert "memory in T" not in growth.exponents(
        {**powers, "bytes": ["killed"] * 3, "rounds": [1, 2], "added": [1.0, 1.0]}
    )


def test_the_formula_is_found_again_and_holds_at_other_points() -> None:
    truth = formula.Formula((0.01, 1e-5, 2e-9, 3e-11, 4e-11), (0.004, 1.5, 1.6, 0.9), (0.002, 1e-8))
    points = [
        formula.Point(sizes, method, count, truth.seconds(sizes, method, count), fitted)
        for all_sizes, names, count, fitted in (
            (formula.FITTED, formula.METHODS, 1, True),
            (formula.CHECKED, formula.CHECKED_METHODS, 1, False),
            (formula.FITTED_BY_TWO, ["label"], 2, True),
            (formula.CHECKED_BY_TWO, ["label"], 2, False),
        )
        for sizes in all_sizes
        for method in names
    ]
    found = formula.fit(points)
    assert found.regularized == pytest.approx((0.004, 1.5, 1.6, 0.9))
    assert found.processes == pytest.approx((0.002, 1e-8))
    errors = formula.errors(points, found)
    assert len(errors["checked"]) == len(formula.CHECKED) * 3 + 1
    assert max(map(abs, errors["fitted"] + errors["checked"])) < 1e-6


def test_the_formula_by_hand() -> None:
    one = formula.Formula((1.0, 0.1, 0.01, 0.001, 0.0001), (0.25, 2.0, 1.0, 0.5), (7.0, 0.0))
    sizes = Sizes(10, 3, 2)
    plain = 1 + 10 * (0.1 + 0.01 * 6 + 0.001 * 12 + 0.0001 * 4)
    assert one.seconds(sizes, "plain") == pytest.approx(plain)
    assert one.seconds(sizes, "label") == pytest.approx(0.25 + 2 * plain)
    assert one.seconds(sizes, "gradient@3", 2) == pytest.approx(1 + 2.5 * plain + 7)


def test_a_cell_has_two_processes_and_one_that_fails_says_why() -> None:
    good, bad = (cell.Cell("smnist", name, SMALL, processes=2, repeats=1) for name in ("label", "none"))
    value, message = cell.seconds([good, bad])
    assert isinstance(value, float)
    assert value > 0
    assert isinstance(message, str)
    assert "method must be one of plain" in message


@linux
def test_the_program_measures_saves_goes_on_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, saved = tmp_path / "performance.md", tmp_path / "now.json"
    page.write_text("Before\n<!-- price: begin -->\nold\n<!-- price: end -->\nafter\n")
    monkeypatch.setattr(price, "PAGE", page)
    first = price.main(["--small", "--only", "imdb", "--repeats", "3", "--save", str(saved)])
    again = price.main(["--load", str(saved), "--compare", str(saved), "--docs"])
    assert again == first == Results.of(json.loads(saved.read_text()))
    result = first.shapes["imdb"]
    assert {*result.seconds, *result.left_out} == {*result.bytes, *result.left_out} == {*SHAPES["imdb"].methods}
    printed = capsys.readouterr().out
    assert f"| {median(result.seconds['label']):.3f} |" in printed
    assert "1.00 |" in printed.splitlines()[-2]
    before, _, rest = page.read_text().partition("<!-- price: begin -->\n")
    assert (before, rest.endswith("<!-- price: end -->\nafter\n")) == ("Before\n", True)
    assert report(first) in rest
    page.write_text("no markers")
    with pytest.raises(ValueError, match=r"performance.md must have the lines .*price: begin"):
        price.main(["--load", str(saved), "--docs"])


@pytest.mark.parametrize("name", ["repeats", "threads", "jobs"])
def test_numbers_below_one_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        price.main([f"--{name}", "0"])
    assert f"--{name} must be at least 1, got 0" in capsys.readouterr().err
