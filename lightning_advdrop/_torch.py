"""What the package uses of torch's internals, one function for each.

A function either does without the internal part where a release of torch lacks it, or raises a `RuntimeError` that
names the release. Tried with torch 2.6, 2.13 and 2.15.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint


def unknown_release(what: str) -> NoReturn:
    """Raise a `RuntimeError` that names this release of torch, says what it lacks, and names those that were tried."""
    raise RuntimeError(
        f"torch {torch.__version__} {what}; lightning_advdrop was tried with torch 2.6 to 2.15. Install one of these."
    )


# Activation checkpointing.


def in_checkpoint() -> bool:
    """Tell whether `torch.utils.checkpoint.checkpoint`, of either variant, called the code that is running."""
    code = getattr(inspect.unwrap(checkpoint), "__code__", None)
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if frame.f_code is code or (code is None and frame.f_globals.get("__name__") == checkpoint.__module__):
            return True
        frame = frame.f_back
    return False


def is_recomputed() -> bool:
    """Tell quickly whether activation checkpointing will run this part of the forward again in the backward pass.

    The reentrant variant may go unseen. It switches gradients off first, which is a torch call that can be noticed.
    """
    try:
        hooks: Any = torch._C._autograd._top_saved_tensors_default_hooks(False)
    except (AttributeError, TypeError):  # torch 2.6 and 2.7 don't tell
        return in_checkpoint()
    return hooks is not None and getattr(hooks[0], "__module__", None) == checkpoint.__module__


# Autograd.


@contextmanager
def without_tensor_hooks(tensors: Sequence[Tensor]) -> Iterator[None]:
    """A context in which the backward hooks of tensors don't run.

    Args:
        tensors: leaves of a graph.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> handle = x.register_hook(lambda gradient: 2 * gradient)
        >>> with without_tensor_hooks([x]):
        ...     torch.autograd.grad(x.sum(), x)[0].tolist()
        [1.0, 1.0]
        >>> torch.autograd.grad(x.sum(), x)[0].tolist()
        [2.0, 2.0]
    """
    # The dictionary that torch reads at each call; None where there are no hooks.
    found = [hooks for tensor in tensors if (hooks := getattr(tensor, "_backward_hooks", None))]
    before = [dict(hooks) for hooks in found]
    for hooks in found:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, own in zip(found, before, strict=True):
            hooks.update(own)


def is_leaf(node: Any) -> bool:
    """Tell whether a node of a graph accumulates the gradient of a leaf, its ``variable``."""
    return type(node).__name__ == "AccumulateGrad"


def parametrizations_are_cached() -> bool:
    """Tell whether `torch.nn.utils.parametrize.cached` is in use, by which several passes share computed weights."""
    return bool(getattr(parametrize, "_cache_enabled", 0))


def will_run(node: Any) -> bool:
    """Tell whether the backward pass that is running will reach a node of the graph; True where torch doesn't tell."""
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except (AttributeError, RuntimeError):  # a RuntimeError for a leaf whose gradient is handed out
        return True


def keeps_graph() -> bool:
    """Tell whether the backward pass that is running keeps its graph for another one; True where torch doesn't tell."""
    try:
        return bool(torch._C._autograd._get_current_graph_task_keep_graph())
    except AttributeError:
        return True


def version_of(tensor: Tensor) -> int | None:
    """Return how often a tensor has been written to in place; None for tensors of inference mode, which don't count it.

    Raises:
        RuntimeError: if this release of torch doesn't count.

    Example:
        >>> version_of(torch.zeros(2).add_(1))
        1
    """
    if tensor.is_inference():
        return None
    try:
        return tensor._version
    except AttributeError:
        unknown_release("has no Tensor._version")


# Transforms of functions.


def in_transform() -> bool:
    """Tell whether `torch.vmap` or another transform of `torch.func` runs, or a level of forward-mode differentiation.

    Raises:
        RuntimeError: if this release of torch doesn't tell.

    Example:
        >>> torch.vmap(lambda row: row + in_transform())(torch.zeros(2)).tolist(), in_transform()
        ([1.0, 1.0], False)
    """
    try:
        return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    except AttributeError:
        unknown_release("doesn't tell whether a transform of torch.func runs")


def is_wrapped(tensor: Tensor) -> bool:
    """Tell whether a transform wraps a tensor, which then has no memory of its own.

    Args:
        tensor: any tensor; also one that an earlier form of vmap wraps, as ``torch.autograd.functional`` does.

    Raises:
        RuntimeError: if this release of torch doesn't tell.
    """
    try:
        functorch = torch._C._functorch
        return functorch.is_functorch_wrapped_tensor(tensor) or functorch.is_legacy_batchedtensor(tensor)
    except AttributeError:
        unknown_release("doesn't tell which tensors a transform of torch.func wraps")


# Packed sequences.


def packing_functions() -> tuple[list[Callable[..., Any]], list[Callable[..., Any]]]:
    """Return torch's functions that pack padded sequences, and those that pad packed ones; none where torch has others.

    The first return rows and their batch sizes, the second take these as their first two arguments.
    """
    names = "_pack_padded_sequence", "_pad_packed_sequence"
    pack, pad = ([getattr(torch, name)] if hasattr(torch, name) else [] for name in names)
    return pack, pad


# Products on the CPU.


def packed_product(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor] | None:
    """Prepare ``x @ weight.T`` for many calls by oneDNN, which rearranges the weight once.

    Args:
        weight: ``(out, in)``, float32 on the CPU. It must not change while the product is in use.
        rows: the number of rows that ``x`` typically has.

    Returns:
        A function of ``x``, ``(rows, in) -> (rows, out)``; None where this torch has no such product.
    """
    return _packed_product(weight, rows) if has_packed_product() else None


def _packed_product(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    linear = torch.ops.mkldnn._linear_pointwise
    return lambda x: linear(x, packed, None, "none", [], "")


@functools.cache
def has_packed_product() -> bool:
    """Tell whether `packed_product` works with this torch, on this machine."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    one = torch.ones(1, 1, device="cpu", dtype=torch.float32)
    try:
        _packed_product(one, 1)(one)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def draws_own_dropout(data: Tensor) -> bool:
    """Tell whether torch's recurrent functions draw the dropout between layers from a generator that can't be set back.

    CuDNN's does: it is seeded at its first use in a process and then goes on, whatever torch's generators are set to.

    Args:
        data: the input of the recurrent function.
    """
    return data.is_cuda and torch.backends.cudnn.enabled


@functools.cache
def accept_split_weights() -> None:
    """Silence, for this process, cuDNN's warning that the weights of a single layer are not one piece of memory.

    They are a part of the piece that holds all layers, and there is nothing that a user could do.
    """
    warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")


# Modules.


def parameters_of(module: nn.Module) -> dict[str, Any]:
    """Return what a module holds as its own parameters, which need not be parameters: other tensors may act for them.

    Raises:
        RuntimeError: if this release of torch keeps them elsewhere.

    Example:
        >>> sorted(parameters_of(nn.Linear(2, 2)))
        ['bias', 'weight']
    """
    found = vars(module).get("_parameters")
    if found is None:
        unknown_release(f"keeps no _parameters in {type(module).__name__}")
    return dict(found.items())


def hooks_of(module: nn.Module) -> list[dict[Any, Any]]:
    """Return the dictionaries in which a module keeps its hooks, as far as this release of torch has them so.

    Example:
        >>> module = nn.Identity()
        >>> _ = module.register_forward_hook(print)
        >>> [list(hooks.values()) for hooks in hooks_of(module) if hooks]
        [[<built-in function print>]]
    """
    return [value for name, value in vars(module).items() if "hooks" in name and isinstance(value, dict)]


def scripted_names(module: torch.jit.ScriptModule) -> list[str]:
    """Return the names of a scripted module's buffers and attributes.

    Args:
        module: a module that `torch.jit.script` or `torch.jit.load` returned.
    """
    names = [name for name, _ in module.named_buffers(recurse=False)]
    known: dict[str, Any] = getattr(vars(module).get("_concrete_type"), "get_attributes", dict)()
    parameters = {name for name, _ in module.named_parameters(recurse=False)}
    return [*names, *(name for name in known if name not in names and name not in parameters)]
