"""Training in two processes on the CPU."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any
from unittest.mock import patch

import torch.distributed
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

# Imports take most of the time that a process needs to start.
_IMPORTED = ["lightning.pytorch", "lightning_advdrop", "lightning_advdrop.callbacks", "lightning_advdrop.tasks"]


class _ForkedSpawn(_MultiProcessingLauncher):
    """Starts processes as by "spawn", but from a server that has imported everything: a tenth of the time."""

    def launch(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        self.environment = dict(os.environ)
        multiprocessing.set_forkserver_preload(_IMPORTED)
        server = multiprocessing.get_context("forkserver")
        with (
            patch.object(multiprocessing, "get_context", lambda method: server),
            patch.object(torch.multiprocessing, "get_context", lambda method: server),
        ):
            return super().launch(function, *args, **kwargs)

    def _wrapping_function(self, process_idx: int, *args: Any) -> None:
        os.environ.update(self.environment)  # the server's is older
        super()._wrapping_function(process_idx, *args)


class GlooStrategy(DDPStrategy):
    """DDP over gloo, whose processes leave their group before they end.

    A process that ends as a member of its group now and then aborts in gloo's threads, after all results are there.
    """

    def __init__(self, start_method: Any = "spawn", **kwargs: Any) -> None:
        super().__init__(start_method=start_method, process_group_backend="gloo", **kwargs)

    def _configure_launcher(self) -> None:
        super()._configure_launcher()
        if self._start_method == "spawn":
            self._launcher = _ForkedSpawn(self, start_method="spawn")

    def teardown(self) -> None:
        super().teardown()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
