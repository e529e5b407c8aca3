"""What the package uses of torch's internals: with them, and in a release that lacks them."""

from __future__ import annotations

import io
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_advdrop import _torch
from lightning_advdrop.nn import MaskedLSTM
from tests.helpers.releases import release_refused
from tests.helpers.scripted import Carrying


class Lacking:
    """Something with some attributes gone."""

    def __init__(self, whole: Any, *gone: str) -> None:
        self._whole, self._gone = whole, gone

    def __getattr__(self, name: str) -> Any:
        if name in self._gone:
            raise AttributeError(name)
        return getattr(self._whole, name)


def lacking(monkeypatch: pytest.MonkeyPatch, path: str, *gone: str) -> None:
    """Takes attributes of torch away from `_torch` alone."""
    fake: Any = Lacking(torch)
    inner = fake
    for name in path.split("."):
        setattr(inner, name, Lacking(getattr(inner, name)))
        inner = getattr(inner, name)
    inner._gone = gone
    monkeypatch.setattr(_torch, "torch", fake)


# Activation checkpointing.


@pytest.fixture(params=["with", "without"])
def code_of_checkpoint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without":  # as if it were not written in Python
        monkeypatch.setattr(_torch, "checkpoint", types.SimpleNamespace(__module__=checkpoint.__module__))


@pytest.fixture(params=["with", "without"])
def hooks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    with_hooks = request.param == "with" and hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks")
    if request.param == "without":
        lacking(monkeypatch, "_C._autograd", "_top_saved_tensors_default_hooks")
    return with_hooks


def asked(question: Callable[[], bool], reentrant: bool) -> list[bool]:
    """The answer before, inside and after a checkpointed part, and in its recomputation."""
    answers: list[bool] = []

    def part(x: Tensor) -> Tensor:
        answers.append(question())
        return x.sin()

    answers.append(question())
    result: Any = checkpoint(part, torch.ones(2, requires_grad=True), use_reentrant=reentrant)
    answers.append(question())
    result.sum().backward()
    return answers


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.usefixtures("code_of_checkpoint")
def test_checkpoints_are_told_by_who_calls(reentrant: bool) -> None:
    assert asked(_torch.in_checkpoint, reentrant)[:3] == [False, True, False]


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_is_recomputed_is_told_by_hooks_or_by_who_calls(hooks: bool, reentrant: bool) -> None:
    assert asked(_torch.is_recomputed, reentrant)[:3] == [False, not (hooks and reentrant), False]


def test_other_hooks_recompute_nothing(hooks: bool) -> None:
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        assert not _torch.is_recomputed()


# Autograd.


def gradients_asked_for(inputs: Callable[[Tensor, Tensor], list[Tensor]]) -> list[bool]:
    """What is told of the nodes behind a function of two tensors, the second of them a leaf."""
    told: list[bool] = []

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
            return x * y

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
            told.extend(_torch.will_run(node) for node, _ in ctx.next_functions)
            return grad, grad

    leaf, other = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    result: Tensor = Function.apply(leaf * 2, other)  # type: ignore[no-untyped-call]
    torch.autograd.grad(result.sum(), inputs(leaf, other))
    return told


def test_gradients_that_nobody_asks_for_are_told() -> None:
    assert gradients_asked_for(lambda x, y: [x, y]) == [True, True]
    assert gradients_asked_for(lambda x, y: [y]) == [False, True]


def test_without_being_told_all_gradients_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "_C", "_will_engine_execute_node")
    assert gradients_asked_for(lambda x, y: [y]) == [True, True]


def kept_graphs() -> list[bool]:
    """What is told of two backward passes, the first of which keeps the graph."""
    told: list[bool] = []

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.sum()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            told.append(_torch.keeps_graph())
            return grad.expand(2)

    result: Any = Function.apply(torch.ones(2, requires_grad=True))  # type: ignore[no-untyped-call]
    result.backward(retain_graph=True)
    result.backward()
    return told


@pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"), reason="this torch doesn't tell"
)
def test_a_graph_that_is_kept_is_told() -> None:
    assert kept_graphs() == [True, False]


def test_without_being_told_a_graph_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "_C._autograd", "_get_current_graph_task_keep_graph")
    assert kept_graphs() == [True, True]


def test_versions() -> None:
    tensor = torch.zeros(3)
    before = _torch.version_of(tensor)
    tensor[1:].add_(1)
    assert _torch.version_of(tensor) != before
    with torch.inference_mode():
        assert _torch.version_of(torch.zeros(3)) is None


def test_without_versions_the_release_is_named() -> None:
    lacking_it: Any = Lacking(torch.zeros(2), "_version")
    with release_refused("Tensor._version"):
        _torch.version_of(lacking_it)


# Transforms of functions.


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # by which torch differentiates forward
def test_transforms_are_told_while_they_run() -> None:
    told: list[bool] = []

    def note(x: Tensor) -> Tensor:
        told.append(_torch.in_transform())
        return x.sum()

    x, function = torch.ones(2, 2), torch.autograd.functional
    note(x)
    torch.vmap(note)(x)
    torch.func.grad(note)(x)
    torch.func.jvp(note, (x,), (x,))
    with torch.autograd.forward_ad.dual_level():
        note(x)
    function.jacobian(note, x, vectorize=True, strategy="forward-mode")  # type: ignore[no-untyped-call]
    note(x)
    assert told == [False, True, True, True, True, True, False]


def test_wrapped_tensors_are_told() -> None:
    told: list[bool] = []

    def note(x: Tensor) -> Tensor:
        told.append(_torch.is_wrapped(x))
        return x.sum()

    for call in (note, torch.vmap(note), torch.vmap(torch.func.grad(note))):
        call(torch.ones(2, 2))
    assert told == [False, True, True]


def test_without_being_told_of_transforms_the_release_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "_C._functorch", "peek_interpreter_stack", "is_functorch_wrapped_tensor")
    with release_refused("whether a transform of torch.func runs"):
        _torch.in_transform()
    with release_refused("which tensors a transform of torch.func wraps"):
        _torch.is_wrapped(torch.ones(2))


# Products on the CPU.


@pytest.mark.skipif(not _torch.has_packed_product(), reason="this torch has no packed product")
@pytest.mark.parametrize(("out", "width", "rows"), [(1, 1, 1), (5, 3, 4), (1024, 256, 9)])
def test_packed_products_are_those_of_the_weight(out: int, width: int, rows: int) -> None:
    weight, x = torch.randn(out, width), torch.randn(rows, width)
    product = _torch.packed_product(weight, rows)
    assert product is not None
    expected = x.double() @ weight.double().t()
    torch.testing.assert_close(product(x).double(), expected, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("gone", ["_reorder_linear_weight", "_linear_pointwise", "changed", "built without"])
def test_without_its_operators_nothing_is_packed(monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    lacking(monkeypatch, "ops.mkldnn", gone)
    fake: Any = vars(_torch)["torch"]
    if gone == "changed":
        fake.ops.mkldnn._linear_pointwise = lambda x, weight: x @ weight.t()
    if gone == "built without":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    _torch.has_packed_product.cache_clear()
    try:
        assert _torch.packed_product(torch.ones(2, 2), 2) is None
    finally:
        _torch.has_packed_product.cache_clear()


# Modules.


def test_the_parameters_of_a_module_are_what_acts_for_them() -> None:
    module, weight = nn.Linear(1, 1), torch.ones(1, 1)
    assert _torch.parameters_of(module)["bias"] is module.bias
    vars(module)["_parameters"]["weight"] = weight  # as torch.func.functional_call does
    assert _torch.parameters_of(module)["weight"] is weight


def test_a_module_that_keeps_its_parameters_elsewhere_names_the_release() -> None:
    module = nn.Linear(1, 1)
    del vars(module)["_parameters"]
    with release_refused("_parameters"):
        _torch.parameters_of(module)


def test_hooks_are_found_whatever_their_kind() -> None:
    module: Any = nn.Linear(1, 1)
    module.register_forward_hook(print)
    module.register_full_backward_hook(print)
    module.register_load_state_dict_post_hook(print)
    assert sum(len(hooks) for hooks in _torch.hooks_of(module)) == 3


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_names_of_a_scripted_module() -> None:
    module: Any = torch.jit.script(Carrying())
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    load: Any = torch.jit.load
    for each in (module, load(file)):
        assert set(_torch.scripted_names(each)) >= {"carried", "counted", "calls"}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("projected", [0, 2])
def test_weights_are_those_of_the_stock_layer_in_its_order(bias: bool, projected: int) -> None:
    layer = MaskedLSTM(2, 3, 2, bias=bias, bidirectional=True, proj_size=projected)
    listed = [weight for weights in layer.all_weights for weight in weights]
    assert [id(weight) for weight in listed] == [id(weight) for weight in layer._flat_weights]


def test_the_warning_of_single_layers_is_silenced() -> None:
    _torch.accept_split_weights.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _torch.accept_split_weights()
        warnings.warn("RNN module weights are not part of single contiguous chunk of memory.", stacklevel=1)
        warnings.warn("another one", stacklevel=1)
    assert [str(each.message) for each in caught] == ["another one"]


def test_dropout_of_stacked_layers_is_torchs_own_on_the_cpu() -> None:
    assert not _torch.draws_own_dropout(torch.zeros(1))
