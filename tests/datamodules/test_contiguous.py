from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_advdrop.datamodules.contiguous import IGNORED, ContiguousBatches
from tests.helpers.messages import refused

TEXT = torch.arange(1000)


def read(loader: ContiguousBatches) -> tuple[Tensor, Tensor]:
    """All tokens (steps, B) and targets (steps, B) of a pass."""
    tokens, targets = zip(*loader, strict=True)
    return torch.cat(tokens), torch.cat(targets)


def lengths(loader: ContiguousBatches) -> list[int]:
    return [len(tokens) for tokens, _ in loader]


@given(
    n=st.integers(2, 300), batch_size=st.integers(1, 6), length=st.integers(1, 40), world_size=st.integers(1, 3),
    random_lengths=st.booleans(), pad=st.booleans(),
)  # fmt: skip
def test_every_column_is_a_stretch_of_the_text(
    n: int, batch_size: int, length: int, world_size: int, random_lengths: bool, pad: bool
) -> None:
    columns = batch_size * world_size
    if n <= columns:
        return
    loaders = [
        ContiguousBatches(
            torch.arange(n),
            batch_size,
            length,
            random_lengths=random_lengths,
            rank=rank,
            world_size=world_size,
            pad=pad,
        )
        for rank in range(world_size)
    ]
    parts = [read(loader) for loader in loaders]
    tokens = torch.cat([tokens for tokens, _ in parts], dim=1).T.flatten()
    targets = torch.cat([targets for _, targets in parts], dim=1).T.flatten()
    kept = targets != IGNORED
    whole = n - 1 if pad else (n - 1) // columns * columns
    assert tokens[kept].tolist() == list(range(whole))
    assert targets[kept].tolist() == list(range(1, whole + 1))
    assert len({tuple(lengths(loader)) for loader in loaders}) == 1
    if not pad:
        assert kept.all()


def test_what_is_filled_up_stands_at_the_end() -> None:
    tokens, targets = read(ContiguousBatches(TEXT[5:10], batch_size=3, length=70, pad=True))
    assert tokens.T.tolist() == [[5, 6], [7, 8], [0, 0]]
    assert targets.T.tolist() == [[6, 7], [8, 9], [IGNORED, IGNORED]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_batches_are_int64_and_contiguous(dtype: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.arange(100).astype(dtype))
    loader = ContiguousBatches(np.load(tmp_path / "text.npy", mmap_mode="r"), batch_size=2, length=7)
    for part in next(iter(loader)):
        assert part.shape == (7, 2)
        assert part.dtype == torch.int64
        assert part.is_contiguous()


@pytest.mark.parametrize("batch_size", [1, 2])
def test_changing_a_batch_leaves_the_text_alone(batch_size: int) -> None:
    text = torch.arange(100)
    loader = ContiguousBatches(text, batch_size=batch_size, length=7)
    for part in next(iter(loader)):
        part.zero_()
    assert torch.equal(text, torch.arange(100))


@pytest.mark.parametrize(("length", "expected"), [(7, [7] * 14 + [1]), (33, [33, 33, 33]), (200, [99])])
def test_fixed_lengths(length: int, expected: list[int]) -> None:
    loader = ContiguousBatches(TEXT, batch_size=10, length=length)
    assert loader.num_steps == 99
    assert lengths(loader) == expected
    assert len(loader) == loader.num_batches == len(expected)


def test_random_lengths_follow_the_published_distribution() -> None:
    loader = ContiguousBatches(torch.zeros(2_000_001, dtype=torch.uint8), batch_size=1, length=70, random_lengths=True)
    drawn = np.array(lengths(loader)[:-1])
    assert drawn.min() >= 5
    assert drawn.max() <= 90
    around_half = drawn < 52
    assert around_half.mean() == pytest.approx(0.05, abs=0.004)
    # Cut to whole numbers, a normal draw loses half a step in the mean.
    assert drawn[~around_half].mean() == pytest.approx(69.5, abs=0.15)
    assert drawn[~around_half].std() == pytest.approx(5, abs=0.15)
    assert drawn[around_half].mean() == pytest.approx(34.5, abs=0.6)


def test_random_lengths_are_at_most_max_length() -> None:
    """The same draws, those above it cut: around 70 with deviation 5, one in seventy is above 80."""
    text = torch.zeros(2_000_001, dtype=torch.uint8)
    free, cut = (
        lengths(ContiguousBatches(text, batch_size=1, length=70, random_lengths=True, max_length=longest))
        for longest in (None, 80)
    )
    assert cut[:1000] == [min(length, 80) for length in free[:1000]]
    assert np.mean(np.array(free) > 80) == pytest.approx(0.95 * 0.014, abs=0.003)
    assert max(cut) == 80
    with refused("max_length", "at least 5", 4):
        ContiguousBatches(TEXT, batch_size=1, length=70, max_length=4)


def test_a_state_from_before_max_length_goes_on() -> None:
    loader = ContiguousBatches(TEXT, batch_size=2, length=20, random_lengths=True)
    state = {name: value for name, value in loader.state_dict().items() if name != "max_length"}
    loader.load_state_dict(state | {"batch": 3})
    assert len(read_lengths := lengths(loader)) == loader.num_batches - 3
    assert read_lengths == lengths(loader)[3:]
    with refused("max_length", None, 30):
        ContiguousBatches(TEXT, batch_size=2, length=20, random_lengths=True, max_length=30).load_state_dict(state)


def test_random_lengths_are_at_least_five() -> None:
    drawn = lengths(ContiguousBatches(TEXT.repeat(20), batch_size=1, length=6, random_lengths=True))
    assert min(drawn[:-1]) == 5
    assert max(drawn) <= 26


def test_lengths_are_a_function_of_seed_and_epoch() -> None:
    def drawn(seed: int, epoch: int) -> list[int]:
        loader = ContiguousBatches(TEXT.repeat(5), batch_size=2, length=20, random_lengths=True, seed=seed)
        loader.set_epoch(epoch)
        torch.rand(3)
        np.random.rand(3)
        assert lengths(loader) == lengths(loader)
        assert loader.num_batches == len(lengths(loader))
        return lengths(loader)

    assert drawn(0, 0) == drawn(0, 0)
    assert len({tuple(drawn(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_random_lengths_leave_the_generators_of_others_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=False)
    read(ContiguousBatches(TEXT, batch_size=2, length=20, random_lengths=True))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_equal(before[1], np.random.get_state(legacy=False))


def test_random_lengths_have_no_len() -> None:
    with refused("random_lengths=True", "len()", error=TypeError):
        len(ContiguousBatches(TEXT, batch_size=2, length=20, random_lengths=True))


@pytest.mark.parametrize("used", [0, 1, 4, "all"])
def test_a_loaded_state_goes_on_after_the_used_batches(used: Any) -> None:
    def made() -> ContiguousBatches:
        return ContiguousBatches(TEXT, batch_size=3, length=20, random_lengths=True, seed=3)

    saved, resumed = made(), made()
    saved.set_epoch(2)
    batches = list(saved)
    used = len(batches) if used == "all" else used
    iterator = iter(saved)
    for _ in range(used):
        next(iterator)
    state = saved.state_dict() if used else {**saved.state_dict(), "batch": 0}
    assert all(type(value) in (int, bool, type(None)) for value in state.values())
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    resumed.set_epoch(2)
    rest = list(resumed)
    assert len(rest) == len(batches) - used
    for expected, found in zip(batches[used:], rest, strict=True):
        assert torch.equal(expected[0], found[0])
        assert torch.equal(expected[1], found[1])
    assert len(list(resumed)) == len(batches)  # the next pass is a whole one


def test_another_epoch_begins_at_its_beginning() -> None:
    loader = ContiguousBatches(TEXT, batch_size=3, length=20, random_lengths=True)
    loader.load_state_dict({**loader.state_dict(), "batch": 5})
    loader.set_epoch(1)
    assert loader.state_dict()["batch"] == 0
    assert len(list(loader)) == loader.num_batches
    assert loader.state_dict()["batch"] == loader.num_batches
    loader.set_epoch(2)
    assert loader.state_dict() == {**loader.state_dict(), "epoch": 2, "batch": 0}


def test_batches_fetched_ahead_do_not_count() -> None:
    loader = ContiguousBatches(TEXT, batch_size=3, length=20, used_batches=lambda: 2)
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    assert loader.state_dict()["batch"] == 2


@pytest.mark.parametrize(
    ("other", "parts"),
    [
        ({"tokens": TEXT[:-1]}, ("tokens", 1000, 999)),
        ({"batch_size": 4}, ("columns", 3, 4)),
        ({"world_size": 2}, ("columns", 3, 6)),
        ({"length": 21}, ("length", 20, 21)),
        ({"random_lengths": True}, ("random_lengths", False, True)),
        ({"seed": 1}, ("seed", 0, 1)),
    ],
)
def test_a_state_of_another_text_is_refused(other: dict[str, Any], parts: tuple[object, ...]) -> None:
    arguments: dict[str, Any] = {"tokens": TEXT, "batch_size": 3, "length": 20}
    state = ContiguousBatches(**arguments).state_dict()
    with refused(*parts):
        ContiguousBatches(**(arguments | other)).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        ({"batch_size": 0}, ValueError, ("batch_size", 1, 0)),
        ({"length": 0}, ValueError, ("length", 1, 0)),
        ({"length": 1.5}, TypeError, ("length", 1, 1.5)),
        ({"seed": -1}, ValueError, ("seed", 0, 4294967295, -1)),
        ({"world_size": 0}, ValueError, ("world_size", 1, 0)),
        ({"rank": 1}, ValueError, ("rank", 0, 0, 1)),
        ({"tokens": TEXT.float()}, TypeError, ("tokens", "float32")),
        ({"tokens": TEXT.reshape(10, 100)}, ValueError, ("tokens", "(N,)", "(10, 100)")),
        (
            {"batch_size": 500, "world_size": 2},
            ValueError,
            ("batch_size", 499, 1000, "world_size=2", 500),
        ),
        ({"tokens": TEXT[:0]}, ValueError, ("batch_size", 0, 0, "world_size=1", 2)),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], parts: tuple[object, ...]) -> None:
    with refused(*parts, error=error):
        ContiguousBatches(**{"tokens": TEXT, "batch_size": 2, "length": 10, **arguments})


def test_bad_epoch() -> None:
    with refused("epoch", 0, -1):
        ContiguousBatches(TEXT, 2, 10).set_epoch(-1)
