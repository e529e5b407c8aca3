"""One long text as batches that go on where the one before ended."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_advdrop.datamodules.checks import MAX_SEED, check_integer

TokenBatch = tuple[Tensor, Tensor]
"""Tokens ``(T, B)`` and the tokens that follow them ``(T, B)``, both ``int64``, time first."""

IGNORED = -100
"""Target of a cell that holds no token: the value that :func:`torch.nn.functional.cross_entropy` leaves out."""

_DEVIATION = 5.0
_SHORTEST = 5
_PROBABILITY_OF_HALF = 0.05
# Beyond four deviations, one length in thirty thousand: what it cuts is rare, and the memory of a step is bounded.
_LONGEST_SURPLUS = 20


class ContiguousBatches:
    """Loader of one long text, cut into columns that are read side by side.

    The text is cut into ``world_size * batch_size`` columns of equal length, of which a process reads its own
    ``batch_size``. A batch is the next stretch of each column, so that a recurrent state carried from batch to batch
    goes with the text (Merity, Keskar & Socher 2018, arXiv 1708.02182, section 5, as in the experiments of Park et al.
    2019, arXiv 1904.09816). All processes read stretches of the same lengths.

    With ``random_lengths`` the length of each stretch is drawn: around ``length`` with probability 0.95, else around
    half of it, with normal noise of deviation 5, at least 5 and at most ``length + 20``; the last stretch is what is
    left. The draws come from a generator of its own, and are a function of ``seed`` and the epoch. As epochs then
    differ in their number of batches, :func:`len` raises ``TypeError`` for such a loader; :attr:`num_batches` is the
    number in the current epoch.

    The position is saved and loaded with :meth:`state_dict` and :meth:`load_state_dict`, which Lightning calls: a run
    that is resumed in the middle of an epoch goes on with the batch after the last one it used.

    Args:
        tokens: Word numbers ``(N,)`` of any integer type, as a tensor or an array; it may be a memory map.
        batch_size: Columns of one process, at least 1.
        length: Steps of a stretch, at least 1.
        random_lengths: Whether lengths are drawn.
        seed: Of the lengths, from 0 to ``2**32 - 1``.
        rank: Number of this process, from 0 to ``world_size - 1``.
        world_size: Number of processes, at least 1.
        pad: What becomes of the words at the end that do not fill a step of every column: left out, or, if true, kept
            in a last step that is filled up with tokens 0 whose targets are ``IGNORED``.
        size_argument: Name of the argument that gave ``batch_size``, for messages.
        used_batches: Tells how many batches of this epoch have been used, where whoever reads the loader fetches
            batches ahead of use; ``None`` where none is fetched ahead. Lightning fetches one ahead where :func:`len`
            raises.

    Raises:
        TypeError: If ``tokens`` are no integers, or another number is none.
        ValueError: If ``tokens`` is not a vector, an argument is out of its range, or the text has fewer than
            ``world_size * batch_size + 1`` words.

    Example:
        >>> loader = ContiguousBatches(torch.arange(9), batch_size=2, length=3)
        >>> [(tokens.T.tolist(), targets.T.tolist()) for tokens, targets in loader]
        [([[0, 1, 2], [4, 5, 6]], [[1, 2, 3], [5, 6, 7]]), ([[3], [7]], [[4], [8]])]
    """

    def __init__(
        self,
        tokens: Tensor | npt.NDArray[Any],
        batch_size: int,
        length: int,
        *,
        random_lengths: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pad: bool = False,
        size_argument: str = "batch_size",
        used_batches: Callable[[], int] | None = None,
    ) -> None:
        check_integer(size_argument, batch_size, low=1)
        check_integer("length", length, low=1)
        check_integer("seed", seed, low=0, high=MAX_SEED)
        check_integer("world_size", world_size, low=1)
        check_integer("rank", rank, low=0, high=world_size - 1)
        text = _as_vector(tokens)
        columns = batch_size * world_size
        if columns > len(text) - 1:
            raise ValueError(
                f"{size_argument} must be at most {max(len(text) - 1, 0) // world_size} for a text of {len(text)}"
                f" tokens read by world_size={world_size} processes, got {batch_size}: each column needs a token and"
                " the one after"
            )
        self.batch_size = batch_size
        self.length = length
        self.random_lengths = random_lengths
        self.seed = seed
        self.epoch = 0
        self._n_tokens = len(text)
        self._columns = columns
        self._used_batches = used_batches
        self._inputs, self._targets = _columns(text, columns, pad)  # (columns, steps)
        self._mine = slice(rank * batch_size, (rank + 1) * batch_size)
        self._start = 0  # the batch with which the next iteration begins
        self._drawn = 0  # batches drawn by the latest iteration, those before its start included
        self._drawn_epoch = 0

    @property
    def num_steps(self) -> int:
        """Steps in a pass: the length of a column."""
        return int(self._inputs.shape[1])

    @property
    def num_batches(self) -> int:
        """Batches in a pass of the current epoch."""
        return len(self._ends())

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """What Lightning tells the number of an epoch to: it looks for ``batch_sampler.sampler.set_epoch``."""
        return SimpleNamespace(sampler=self)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass belongs to; random lengths depend on it.

        Args:
            epoch: Number of the epoch, at least 0.

        Raises:
            TypeError: If it is no integer.
            ValueError: If it is negative.
        """
        check_integer("epoch", epoch, low=0)
        if epoch != self.epoch:
            self._start = 0
        self.epoch = epoch

    def __len__(self) -> int:
        if self.random_lengths:
            # Lightning asks once, and would cut every longer epoch to the length of the first.
            raise TypeError("A loader with random_lengths=True has no len(): epochs differ in their number of batches")
        return self.num_batches

    def __iter__(self) -> Iterator[TokenBatch]:
        ends = self._ends()
        self._drawn, self._drawn_epoch = self._start, self.epoch
        self._start = 0
        for index in range(self._drawn, len(ends)):
            self._drawn = index + 1
            yield self._batch(ends[index - 1] if index else 0, ends[index])

    def state_dict(self) -> dict[str, Any]:
        """Return the position: epoch, number of batches used, and what the position is one of.

        Returns:
            Integers and booleans by name.
        """
        used = self._drawn if self._used_batches is None else self._used_batches()
        if self._start or self._drawn_epoch != self.epoch:
            used = self._start  # no batch of this pass has been drawn yet
        return {"epoch": self.epoch, "batch": used, **self._facts()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make the next pass begin after the batches that had been used when a state was saved.

        Args:
            state_dict: What :meth:`state_dict` returned.

        Raises:
            ValueError: If the state is one of a text, of columns or of lengths other than these.
        """
        for name, value in self._facts().items():
            if state_dict[name] != value:
                raise ValueError(
                    f"{name} must be {state_dict[name]!r} to go on in the middle of the epoch that the checkpoint was"
                    f" saved in, got {value!r}"
                )
        self.epoch = self._drawn_epoch = state_dict["epoch"]
        self._start = self._drawn = state_dict["batch"]

    def _facts(self) -> dict[str, int | bool]:
        return {
            "tokens": self._n_tokens,
            "columns": self._columns,
            "length": self.length,
            "random_lengths": self.random_lengths,
            "seed": self.seed,
        }

    def _ends(self) -> list[int]:
        """Return the step before which each batch of the current epoch ends, in rising order."""
        steps = self.num_steps
        if not self.random_lengths:
            return [*range(self.length, steps, self.length), steps]
        generator = np.random.default_rng([self.seed, self.epoch])
        count = steps // _SHORTEST + 1  # as many as can be needed
        half = generator.random(count) < _PROBABILITY_OF_HALF
        around = np.where(half, self.length / 2, float(self.length))
        lengths = generator.normal(around, _DEVIATION).astype(np.int64)
        ends = lengths.clip(_SHORTEST, self.length + _LONGEST_SURPLUS).cumsum()
        return [*ends[ends < steps].tolist(), steps]

    def _batch(self, begin: int, end: int) -> TokenBatch:
        inputs, targets = self._inputs[self._mine, begin:end], self._targets[self._mine, begin:end]  # (B, T)
        return _time_first(inputs), _time_first(targets)


def _as_vector(tokens: Tensor | npt.NDArray[Any]) -> npt.NDArray[Any]:
    text = tokens.cpu().numpy() if isinstance(tokens, Tensor) else np.asarray(tokens)
    if text.ndim != 1:
        raise ValueError(f"tokens must be a vector (N,), got the shape {text.shape}")
    if not np.issubdtype(text.dtype, np.integer):
        raise TypeError(f"tokens must be integers, got the type {text.dtype}")
    return text


def _columns(text: npt.NDArray[Any], columns: int, pad: bool) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Cut all words but the last into columns, and their successors likewise: views, where nothing is filled up."""
    inputs, targets = text[:-1], text[1:]
    missing = -len(inputs) % columns
    if pad and missing:
        inputs = np.concatenate([inputs, np.zeros(missing, text.dtype)])
        targets = np.concatenate([targets.astype(np.int64), np.full(missing, IGNORED, np.int64)])
    steps = len(inputs) // columns
    return inputs[: columns * steps].reshape(columns, steps), targets[: columns * steps].reshape(columns, steps)


def _time_first(part: npt.NDArray[Any]) -> Tensor:
    # Copied even where it need not be: a batch may be changed, a text must not.
    return torch.from_numpy(np.array(part.T, dtype=np.int64, order="C"))  # (T, B)
