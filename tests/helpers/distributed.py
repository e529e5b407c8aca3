"""Training in two processes on the CPU."""

from __future__ import annotations

from typing import Any

import torch.distributed
from lightning.pytorch.strategies import DDPStrategy


class GlooStrategy(DDPStrategy):
    """DDP over gloo, whose processes leave their group before they end.

    A process that ends as a member of its group now and then aborts in gloo's threads, after all results are there.
    """

    def __init__(self, start_method: Any = "spawn", **kwargs: Any) -> None:
        super().__init__(start_method=start_method, process_group_backend="gloo", **kwargs)

    def teardown(self) -> None:
        super().teardown()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
