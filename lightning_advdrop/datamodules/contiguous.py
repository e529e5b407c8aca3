"""One long text as batches that continue each other."""

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_advdrop.datamodules.checks import MAX_SEED, check_integers
from lightning_advdrop.datamodules.position import EpochPosition

TokenBatch = tuple[Tensor, Tensor]
"""Tokens ``(T, B)`` and the next tokens ``(T, B)``, both ``int64``, time first."""

IGNORED = -100
"""Target of padding: the value that :func:`torch.nn.functional.cross_entropy` ignores."""

_DEVIATION = 5.0
_SHORTEST = 5
_PROBABILITY_OF_HALF = 0.05
# Four deviations: cuts one length in thirty thousand, and bounds the memory of a step.
_LONGEST_SURPLUS = 20


class ContiguousBatches:
    """Loader of one long text, cut into columns that are read in parallel.

    The text is cut into ``world_size * batch_size`` columns of equal length, of which each process reads
    ``batch_size``. A batch is the next piece of each column, so that a recurrent state can be carried from batch to
    batch (Merity, Keskar & Socher 2018, arXiv 1708.02182, section 5, as in the experiments of Park et al. 2019, arXiv
    1904.09816). All processes read pieces of the same lengths.

    With ``random_lengths`` the length of each piece is drawn: around ``length`` with probability 0.95, else around
    half of it, with normal noise of deviation 5, at least 5 and at most ``max_length``; the last piece is the rest.
    The draws come from a separate generator and are a function of ``seed`` and the epoch. Epochs then differ in their
    number of batches: :func:`len` raises ``TypeError``, and :attr:`num_batches` is the number in the current epoch.

    Lightning saves and restores the position with :meth:`state_dict` and :meth:`load_state_dict`: a run resumed in the
    middle of an epoch continues with the next batch.

    Args:
        tokens: Word indices ``(N,)`` of any integer type, as a tensor or an array, which may be a memory map.
        batch_size: Columns of one process, at least 1.
        length: Steps of a piece, at least 1.
        random_lengths: Whether to draw the lengths.
        max_length: Most steps of a piece whose length is drawn, at least 5; ``None`` for ``length + 20``.
        seed: Seed of the lengths, from 0 to ``2**32 - 1``.
        rank: Rank of this process, from 0 to ``world_size - 1``.
        world_size: Number of processes, at least 1.
        pad: Whether to keep the last words that do not fill a step of every column, in a step padded with tokens 0 and
            targets ``IGNORED``; left out otherwise.
        size_argument: Name of the argument that gave ``batch_size``, for messages.
        used_batches: Returns the number of batches used in this epoch, for trainers that fetch batches ahead, as
            Lightning does if :func:`len` raises; ``None`` if none is fetched ahead.
        made_by: What else the text depends on, such as the order of its documents, by name, in plain types. A run that
            is resumed in the middle of an epoch must have the same.

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
        max_length: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pad: bool = False,
        size_argument: str = "batch_size",
        used_batches: Callable[[], int] | None = None,
        made_by: Mapping[str, Any] | None = None,
    ) -> None:
        sizes: dict[str, Any] = {size_argument: batch_size, "length": length, "world_size": world_size}
        check_integers(1, **sizes)
        check_integers(_SHORTEST, optional=True, max_length=max_length)
        check_integers(0, MAX_SEED, seed=seed)
        check_integers(0, world_size - 1, rank=rank)
        text = _checked_tokens(tokens)
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
        self.max_length = max_length
        self.seed = seed
        self.epoch = 0
        settings: dict[str, Any] = {"tokens": len(text), "columns": columns, "length": length, "max_length": max_length}
        settings |= {"random_lengths": random_lengths, "seed": seed, **(made_by or {})}
        self._position = EpochPosition(settings, used_batches)
        steps = -(-(len(text) - 1) // columns) if pad else (len(text) - 1) // columns
        mine = slice(rank * batch_size, (rank + 1) * batch_size)
        self._inputs = _columns(text[:-1], columns, steps, 0)[mine]  # (B, steps)
        self._targets = _columns(text[1:], columns, steps, IGNORED)[mine]

    @property
    def num_steps(self) -> int:
        """Length of a column: steps in a pass."""
        return int(self._inputs.shape[1])

    @property
    def num_batches(self) -> int:
        """Batches in the current epoch."""
        return self.batches_in(self.epoch)

    def batches_in(self, epoch: int) -> int:
        """Return the number of batches in an epoch, at least 0."""
        return len(self._ends(epoch))

    @property
    def fewest_batches(self) -> int:
        """A number of batches that no epoch falls below, whatever its lengths."""
        return -(-self.num_steps // (self._longest if self.random_lengths else self.length))

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """This loader, in the place where Lightning looks for ``batch_sampler.sampler.set_epoch``."""
        return SimpleNamespace(sampler=self)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, at least 0, which random lengths depend on."""
        check_integers(0, epoch=epoch)
        self.epoch = epoch

    def __len__(self) -> int:
        if self.random_lengths:
            # Lightning asks once, and would cut every longer epoch to the length of the first.
            raise TypeError("A loader with random_lengths=True has no len(): epochs differ in their number of batches")
        return self.num_batches

    def __iter__(self) -> Iterator[TokenBatch]:
        ends = self._ends(self.epoch)
        for index in range(self._position.begin(self.epoch), len(ends)):
            self._position.draw(index + 1)
            step = slice(ends[index - 1] if index else 0, ends[index])
            yield _time_first(self._inputs[:, step]), _time_first(self._targets[:, step])

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the number of batches used in it, and the settings that they depend on."""
        return self._position.state_dict(self.epoch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the batches that had been used when the state was saved.

        Raises:
            ValueError: If the text, the columns or the lengths differ; it names the setting.
        """
        self._position.load_state_dict({"max_length": None} | state_dict)  # not in states of earlier versions
        self.epoch = state_dict["epoch"]

    @property
    def _longest(self) -> int:
        return self.length + _LONGEST_SURPLUS if self.max_length is None else self.max_length

    def _ends(self, epoch: int) -> list[int]:
        """Return the step at which each batch of an epoch ends (exclusive), in rising order."""
        steps = self.num_steps
        if not self.random_lengths:
            return [*range(self.length, steps, self.length), steps]
        generator = np.random.default_rng([self.seed, epoch])
        count = steps // _SHORTEST + 1  # as many as can be needed
        half = generator.random(count) < _PROBABILITY_OF_HALF
        around = np.where(half, self.length / 2, float(self.length))
        lengths = generator.normal(around, _DEVIATION).astype(np.int64)
        ends = lengths.clip(_SHORTEST, self._longest).cumsum()
        return [*ends[ends < steps].tolist(), steps]


def _checked_tokens(tokens: Tensor | npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return tokens ``(N,)`` as an array of integers."""
    text = tokens.cpu().numpy() if isinstance(tokens, Tensor) else np.asarray(tokens)
    if text.ndim != 1:
        raise ValueError(f"tokens must be a vector (N,), got the shape {text.shape}")
    if not np.issubdtype(text.dtype, np.integer):
        raise TypeError(f"tokens must be integers, got the type {text.dtype}")
    return text


def _columns(part: npt.NDArray[Any], columns: int, steps: int, filler: int) -> npt.NDArray[Any]:
    """Cut a text into columns ``(columns, steps)``: a view, if none needs to be filled up."""
    if (missing := columns * steps - len(part)) > 0:
        part = np.concatenate([part.astype(np.int64), np.full(missing, filler)])
    return part[: columns * steps].reshape(columns, steps)


def _time_first(part: npt.NDArray[Any]) -> Tensor:
    # Always a copy: a batch may be changed, the text may not.
    return torch.from_numpy(np.array(part.T, dtype=np.int64, order="C"))  # (T, B)
