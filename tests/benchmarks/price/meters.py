"""What a step is measured by: time, and the growth of memory to its peak.

On the CPU the peak is the kernel's own: Linux sets it back to the memory in use when 5 is written to
``/proc/self/clear_refs``. The allocator keeps freed memory for later; `RETURNING` makes a process give it back, so that
the memory in use before a step is what the step finds there.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_NO_HUGE_PAGES = 41  # PR_SET_THP_DISABLE: a page of 2 MiB would count where 4 KiB are used
#: One arena, whose blocks from 32 KiB on are given back to the system as soon as they are freed.
RETURNING = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "131072"}

ClockName = Literal["wall", "process"]


class Meter(Protocol):
    """Measures what happens between two calls."""

    def start(self) -> None: ...

    def stop(self) -> float: ...


class Clock:
    """Seconds: of the clock on the wall, or of this process on all of its cores.

    Args:
        name: which of the two.
        device: waits for the work of a CUDA device.
    """

    def __init__(self, name: ClockName, device: str = "cpu") -> None:
        self.read = {"wall": time.perf_counter, "process": time.process_time}[name]
        self.on_gpu = device != "cpu"

    def _now(self) -> float:
        if self.on_gpu:
            torch.cuda.synchronize()
        return self.read()

    def start(self) -> None:
        self.began = self._now()

    def stop(self) -> float:
        return self._now() - self.began


class PeakMemory:
    """Bytes by which this process's memory grows at most.

    Raises:
        OSError: when it starts, where the system can't tell the peak of a time span.
    """

    def start(self) -> None:
        if not _CLEAR.exists():
            raise OSError(
                f"The peak memory of a step needs {_CLEAR}, which this system lacks; measure on Linux, or leave memory "
                "out with --no-memory."
            )
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        _CLEAR.write_text("5")
        self.before = self._status("VmRSS")

    def stop(self) -> float:
        return self._status("VmHWM") - self.before

    @staticmethod
    def _status(name: str) -> int:
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024


class GPUPeakMemory:
    """Bytes by which the tensors on the current CUDA device grow at most."""

    def start(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self.before = torch.cuda.memory_allocated()

    def stop(self) -> float:
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - self.before)


def no_huge_pages() -> None:
    """Make the kernel give this process pages of 4 KiB only."""
    ctypes.CDLL(None).prctl(_NO_HUGE_PAGES, 1, 0, 0, 0)


def started(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a module of Python in a process with one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> Any:
    """Wait for a process, and return the JSON of its last line.

    Raises:
        RuntimeError: if it failed.
    """
    output, errors = process.communicate()
    if process.returncode:
        last = (errors.strip() or "no message").splitlines()[-1]
        raise RuntimeError(last)
    return json.loads(output.splitlines()[-1])
