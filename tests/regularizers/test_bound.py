"""The bound, by brute force: exact maximum, then what the search finds, then the mean over random masks.

``python -m tests.benchmarks.bound`` prints the numbers.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests.benchmarks import bound as brute
from tests.benchmarks import searches

BUDGETS = (1, 2, 4)
NETWORKS = {"untrained": 0, "trained": brute.TRAINING_STEPS}
SEEDS = (0, 1)


@cache
def found(network: str, budget: int, seed: int) -> brute.Bound:
    model = brute.make_classifier(NETWORKS[network], seed)
    x, _ = brute.make_batch(torch.Generator().manual_seed(seed + 10))
    return brute.bound(model, x, budget, seeds=4)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_trained_network_has_learnt(seed: int) -> None:
    x, target = brute.make_batch(torch.Generator().manual_seed(seed + 10))
    shares = [
        (brute.make_classifier(steps, seed)(x).argmax(-1) == target).double().mean() for steps in NETWORKS.values()
    ]
    assert shares[0] < 0.6
    assert shares[1] > 0.85


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("network", NETWORKS)
def test_no_search_finds_more_than_there_is(network: str, budget: int, seed: int) -> None:
    """For each example."""
    result = found(network, budget, seed)
    assert (result.random <= result.exact).all()
    for value in result.found.values():
        assert (value <= result.exact + 1e-12).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("search", list(brute.SEARCHES))
def test_the_search_lies_between_the_maximum_and_random_masks(
    search: str, network: str, budget: int, seed: int
) -> None:
    """On average over the batch."""
    result = found(network, budget, seed)
    value = result.found[search].mean()
    assert result.exact.mean() >= value
    assert value > 1.2 * result.random.mean()
    assert result.shares()[search] > 0.25


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_fisher_search_finds_most_of_what_one_drop_can_do(network: str, seed: int) -> None:
    assert found(network, 1, seed).shares()["Fisher"] > 0.7


def test_the_numbers_are_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bound", "--seeds", "1", "--quick"])
    monkeypatch.setattr(brute, "TRAINING_STEPS", 1)
    brute.main()
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("| network | budget | exact maximum | mean over masks | share | K = 1 |")
    assert [row.split(" | ")[0] for row in rows] == ["| untrained"] * 3 + ["| trained"] * 3


def test_differences_of_searches_have_their_interval() -> None:
    """Of 1 to 6: the mean, and Student's quantile times the standard error, the square root of 3.5 over that of 6."""
    middle, half = searches.interval([2.0, 4.0, 6.0, 8.0, 10.0, 12.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert middle == pytest.approx(3.5)
    assert half == pytest.approx(2.571 * (3.5 / 6) ** 0.5)
    assert len(searches.SEEDS) == 6


def test_further_forwards_are_those_that_the_docs_count() -> None:
    found = {name: searches.further_forwards(more) for name, more in searches.SEARCHES.items()}
    assert list(found.values()) == [2, 3, 4, 2, 1, 1, 1, 3, 7]
