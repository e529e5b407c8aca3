"""Run something in a process that is killed in the middle of writing a file."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def killed_while_saving(run: Callable[[], Any], save: int) -> None:
    """Run a function in a process that is killed by ``SIGKILL`` when half of a call of `torch.save` is written.

    Args:
        run: the function.
        save: the number of the call, from 1.
    """
    child = os.fork()
    if not child:  # of all that follows nothing ends up in the tests' own process
        try:
            _die_in(save)
            run()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the process ended before"
    assert os.WTERMSIG(status) == signal.SIGKILL


def _die_in(save: int) -> None:
    original, calls = torch.save, []

    def dying(content: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(file)
        if len(calls) < save:
            original(content, file, *args, **kwargs)
            return
        buffer = io.BytesIO()
        original(content, buffer)
        half = buffer.getvalue()[: buffer.tell() // 2]
        if isinstance(file, Path):
            file.write_bytes(half)
        else:
            file.write(half)
            file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = dying  # type: ignore[assignment]
