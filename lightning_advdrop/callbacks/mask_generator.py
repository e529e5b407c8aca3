"""The random generator of a callback: one in each process, saved and restored with checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor


def go_on(generator: torch.Generator, states: Tensor, rank: int) -> None:
    """Restore this rank's generator state.

    Args:
        generator: a generator of the CPU.
        states: the state of each process's generator, ``(processes, bytes)``, of uint8.
        rank: the rank of this process. One without a saved state draws random numbers of its own.

    Example:
        >>> generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        >>> states = torch.stack([generator.get_state() for generator in generators])
        >>> again = torch.Generator()
        >>> go_on(again, states, rank=1)
        >>> torch.equal(torch.rand(2, generator=again), torch.rand(2, generator=generators[1]))
        True
    """
    if rank < len(states):
        generator.set_state(states[rank].clone())
        return
    generator.set_state(states[0].clone())
    generator.manual_seed(int(torch.randint(2**62, (), generator=generator)) + rank)


class OwnGenerator(Callback):
    """A callback with a random generator of its own, by which a resumed run goes on as an uninterrupted one."""

    def __init__(self) -> None:
        self._generator = torch.Generator()
        self._rank = 0

    def seed_generator(self, trainer: Trainer) -> None:
        """Seed the generator from torch's seed, differently in each process."""
        self._rank = trainer.global_rank
        self._generator.manual_seed(torch.initial_seed() % 2**63 + self._rank)

    def __getstate__(self) -> dict[str, Any]:
        # As bytes, since torch can't send a generator to a process that it spawns.
        return {**vars(self), "_generator": self._generator.get_state().numpy().tobytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._generator = torch.Generator()
        self._generator.set_state(torch.frombuffer(bytearray(state["_generator"]), dtype=torch.uint8))

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state; the schedule follows the trainer's epoch."""
        return {"generator": self._generator.get_state()}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the other processes' generators, since one process writes the checkpoint."""
        if trainer.world_size > 1:
            own = self._generator.get_state().to(trainer.strategy.root_device)
            checkpoint["callbacks"][self.state_key]["generators"] = trainer.strategy.all_gather(own).cpu()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore this process's generator."""
        states = state_dict.get("generators", state_dict["generator"].unsqueeze(0))
        go_on(self._generator, states, self._rank)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Mapping[str, Any]) -> None:
        """Warn when a checkpoint was written without this callback."""
        if trainer.state.fn == "fit" and self.state_key not in checkpoint.get("callbacks", {}):
            rank_zero_warn(
                f"The checkpoint holds no state of {self.state_key}; its random generator starts afresh, so the run "
                "will not be the same as one that was never interrupted."
            )
