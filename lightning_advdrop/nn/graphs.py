"""Replay the many small kernels of a recurrence as one CUDA graph, where the same shapes come again.

On a GPU a loop over time steps is bound by the launches of its kernels, about ten for each step. A CUDA graph launches
all of them at once. It reads and writes fixed memory, so inputs are copied in and outputs copied out, which costs
little beside the launches.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

Tensors = Sequence[Tensor | None]

# Shapes that come once are run as they are; each graph is captured at the second call.
_CALLS_BEFORE_CAPTURE = 1
_MAX_GRAPHS = 16
# The share of the device's memory that graphs may hold; without room for a graph, kernels are launched one by one.
_MAX_SHARE = 0.1
# Keys of shapes whose calls are counted; text of random lengths has many.
_MAX_COUNTED = 1024


class _Graph(NamedTuple):
    """A captured graph with the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor | None]
    outputs: list[Tensor | None]
    size: int
    """The memory that the capture took from the device, bytes."""

    def replay(self, tensors: Tensors) -> list[Tensor | None]:
        """Run the graph on other inputs of the same shapes; the outputs are copies."""
        for own, given in zip(self.inputs, tensors, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        self.graph.replay()
        return [None if output is None else output.clone() for output in self.outputs]


class GraphCache:
    """Run functions of tensors, and replay them as CUDA graphs from the second call with the same shapes on.

    On the CPU, and while another graph is being captured, functions are just called.

    Attributes:
        enabled: False to call every function as it is.

    Example:
        >>> cache = GraphCache()
        >>> cache("double", lambda x: [2 * x], [torch.ones(2)])
        [tensor([2., 2.])]
    """

    def __init__(self) -> None:
        self.enabled = True
        self._graphs: OrderedDict[Hashable, _Graph | None] = OrderedDict()  # None where it can't be captured
        self._counts: OrderedDict[Hashable, int] = OrderedDict()
        self._pools: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def __call__(
        self, name: Hashable, function: Callable[..., Sequence[Tensor | None]], tensors: Tensors
    ) -> Sequence[Tensor | None]:
        """Return what ``function(*tensors)`` returns.

        Args:
            name: identifies the function: two functions of one name must compute the same.
            function: computes tensors from tensors on one device, and nothing else. Its outputs must not be views of
                its inputs.
            tensors: its arguments.
        """
        first = next(tensor for tensor in tensors if tensor is not None)
        if not (self.enabled and first.is_cuda) or torch.cuda.is_current_stream_capturing():
            return function(*tensors)
        stream = torch.cuda.current_stream(first.device)
        # A graph keeps the kernels of the precision that was set when it was captured.
        what = name, torch.get_float32_matmul_precision()
        key = what, (stream.device, stream.cuda_stream), tuple(map(_layout, tensors))
        with self._lock:
            graph = self._graph(key, function, tensors)
            if graph is not None:
                return graph.replay(tensors)
        return function(*tensors)

    def clear(self) -> None:
        """Forget all graphs, and free their memory."""
        with self._lock:
            self._graphs.clear()
            self._counts.clear()
            self._pools.clear()

    def _graph(
        self, key: tuple[Hashable, Hashable, Hashable], function: Callable[..., Tensors], tensors: Tensors
    ) -> _Graph | None:
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key]
        calls = self._counts.pop(key, 0)
        self._counts[key] = calls + 1
        _limit(self._counts, _MAX_COUNTED)
        if calls < _CALLS_BEFORE_CAPTURE:
            return None
        _limit(self._graphs, _MAX_GRAPHS - 1)  # before the capture, which needs the memory
        graph = self._graphs[key] = self._fitting(_capture(function, tensors, self._pool(key[1])), tensors)
        return graph

    def _pool(self, stream: Hashable) -> Any:
        """Return the memory pool of a stream, whose graphs run one after the other and can share scratch memory."""
        if stream not in self._pools:
            self._pools[stream] = torch.cuda.graph_pool_handle()
        return self._pools[stream]

    def _fitting(self, graph: _Graph | None, tensors: Tensors) -> _Graph | None:
        """Return the graph, or None if all graphs together would take too much of the device's memory."""
        if graph is None:
            return None
        device = next(tensor.device for tensor in tensors if tensor is not None)
        total = torch.cuda.get_device_properties(device).total_memory
        held = sum(each.size for each in self._graphs.values() if each is not None)
        return graph if held + graph.size <= _MAX_SHARE * total else None


def _layout(tensor: Tensor | None) -> Hashable:
    return None if tensor is None else (tuple(tensor.shape), tensor.dtype, tensor.device)


def _limit(entries: OrderedDict[Hashable, Any], count: int) -> None:
    while len(entries) > count:
        entries.popitem(last=False)


def _capture(function: Callable[..., Tensors], tensors: Tensors, pool: Any) -> _Graph | None:
    """Capture the graph of a function; None if a graph can't do what it does, or there is no memory for it."""
    try:
        before = torch.cuda.memory_reserved()
        graph = torch.cuda.CUDAGraph()
        inputs = [None if tensor is None else tensor.detach().clone() for tensor in tensors]
        # Other threads, such as those that pin memory for a data loader, may call CUDA meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            outputs = list(function(*inputs))
    except RuntimeError:
        return None
    return _Graph(graph, inputs, outputs, max(0, torch.cuda.memory_reserved() - before))


GRAPHS = GraphCache()
"""The graphs of all masked layers of this process."""


@contextmanager
def cuda_graphs(enabled: bool) -> Iterator[None]:
    """A context in which masked layers on a GPU replay CUDA graphs, or launch each kernel.

    Graphs are on by default. They hold memory for the inputs and outputs of each shape that comes again.

    Args:
        enabled: whether graphs are used.

    Example:
        >>> with cuda_graphs(False):
        ...     GRAPHS.enabled
        False
    """
    before, GRAPHS.enabled = GRAPHS.enabled, enabled
    if not enabled:
        GRAPHS.clear()
    try:
        yield
    finally:
        GRAPHS.enabled = before
