"""Record the forward passes that a training step makes, so that they can run again under masks."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_advdrop.callbacks.around_sites import (
    around,
    branches,
    candidates,
    check_one,
    masked_layers,
    nothing_called,
    possibly_around,
)
from lightning_advdrop.callbacks.batches import copied
from lightning_advdrop.callbacks.copied_targets import model_input
from lightning_advdrop.callbacks.counted_calls import Call, compared, trained, versions_in
from lightning_advdrop.callbacks.replacing import replaced
from lightning_advdrop.masking import MaskSite, RecordedForward
from lightning_advdrop.regularizers import Passes
from lightning_advdrop.regularizers.predictions import Output

# The attribute of a LightningModule that tells its watches that further passes run, which are no calls of the step.
_UNWATCHED = "_advdrop_unwatched"


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    """Take the place of ``self.log`` where a forward runs once more."""


def quietly(root: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Make a forward log nothing: it has done so in its first run.

    Args:
        root: the LightningModule.
        forward: what a regularizer runs again.
    """

    def again(*args: Any) -> Any:
        loggers = [part for part in root.modules() if hasattr(part, "log_dict")]
        with replaced((part, name, _log_nothing) for part in loggers for name in ("log", "log_dict")):
            return forward(*args)

    return again


def unwatched(root: nn.Module) -> AbstractContextManager[None]:
    """Return the context for passes in the middle of a step that no `ForwardWatch` of a module may see.

    Args:
        root: the LightningModule.
    """
    return replaced([(root, _UNWATCHED, True)])


# What a call of a watched module becomes: of the module's path, the module, and its forward with the arguments.
Called = Callable[[str, nn.Module, "functools.partial[Any]"], Any]


class ForwardWatch:
    """Let something happen at the outermost calls of the module whose output is compared.

    Args:
        root: the module that was searched for sites.
        sites: where masks may act.
        module: the path of the module whose output is compared; None finds it: whatever contains all sites and is
            called. Of calls inside calls the outermost counts.
        called: what a call becomes; calls inside it are not watched.

    Raises:
        ValueError: if ``module`` is not the path of a module around the masked layers.
    """

    def __init__(self, root: nn.Module, sites: Sequence[MaskSite], module: str | None, called: Called) -> None:
        self._root = root
        self._called = called
        self._paths = candidates(sites)
        if module is not None:
            allowed = [*around(sites), *possibly_around(sites)]
            if module not in allowed:
                raise ValueError(
                    "module must be the path of a module around all masked layers, one of "
                    f"{', '.join(map(repr, allowed))}, got {module!r}."
                )
            self._paths = [module]
        self._idle = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Return the context in which a step runs."""
        parts = {path: self._root.get_submodule(path) for path in self._paths}
        # An attribute of the object, not a hook: modules also call self.forward(...) directly.
        watched = [(part, "forward", self._watched(path, part, part.forward)) for path, part in parts.items()]
        self._idle = True
        try:
            with replaced(watched):
                yield
        finally:
            self._idle = False

    def watch(self, called: Called) -> ForwardWatch:
        """Return another watch of the same modules, in which something else happens at a call."""
        other = copy.copy(self)
        other._called = called
        return other

    def _watched(self, path: str, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self._idle or getattr(self._root, _UNWATCHED, False):
                return forward(*args, **kwargs)
            self._idle = False
            try:
                return self._called(path, module, functools.partial(forward, *args, **kwargs))
            finally:
                self._idle = True

        return watched


class ForwardRecorder(ForwardWatch):
    """Record the forward passes of one module while a training step runs.

    Of the modules that contain all sites, the outermost one that is called with a gradient counts. The first step
    tells which it is; later ones don't record calls of modules inside it. Where a module stands for functional dropout
    below it and is not called itself, that may be a child of it that was seen to drop units.

    Args:
        root: see `ForwardWatch`, as ``sites`` and ``module``.
        sites: where masks may act.
        module: the path of the module whose output is compared, or None.
        record: makes the recorder of one forward of a module.
        output: which part of a forward's output is the prediction.
        call: which of several calls in one training step counts, from 0; None for each that the loss depends on.
        counted: the path of the module that counted in earlier steps, if there were any.

    Attributes:
        counted: the path of the module that counts, after `take`.
        input: the input of its first call, after `take`.
        numbers: which of its calls the passes are from that `take` returned.
    """

    def __init__(
        self,
        root: nn.Module,
        sites: Sequence[MaskSite],
        module: str | None,
        *,
        record: Callable[[nn.Module], RecordedForward],
        output: Output = None,
        call: int | None = None,
        counted: str | None = None,
    ) -> None:
        super().__init__(root, sites, module, self._record_call)
        self.counted = counted
        self.input: Tensor | None = None
        self.numbers: list[int] = []
        self._sites = sites
        self._around = self._paths
        # What an earlier step has settled is not asked again.
        self._possible = possibly_around(sites) if module is None and counted not in self._around else []
        self._branches = branches(sites) if module is None and counted is None else {}
        self._called_branches: dict[str, bool] = {}
        self._paths = [*self._around, *self._possible, *self._branches]
        self._record = record
        self._output = output
        self._call = call
        self._calls: list[Call] = []

    def _record_call(self, path: str, module: nn.Module, forward: functools.partial[Any]) -> Any:
        if path in self._branches:
            self._called_branches.setdefault(path, False)
            self._called_branches[path] |= torch.is_grad_enabled()
            return forward()
        inside = self.counted is not None and len(path) > len(self.counted)
        if inside or self._is_beside(path) or not torch.is_grad_enabled():
            self._calls.append(Call(path, None))
            return forward()
        recorded = self._record(module)
        with recorded.first_run(forward):
            result = forward()
        again = quietly(self._root, forward)
        # The step may put other parts into the result.
        passes = Passes(recorded, again, copied(result), output=self._output)
        self._calls.append(Call(path, passes, model_input(forward.args, forward.keywords), versions_in(result)))
        return result

    def take(self, loss: Tensor | None) -> list[Passes]:
        """Return the passes of the step that count, and keep none of them.

        Args:
            loss: the loss of the step.

        Raises:
            ValueError: if there are none, only of the masked layer itself or without a gradient, or fewer than ``call``
                asks for.
        """
        calls, self._calls = [call for call in self._calls if self._has_sites(call)], []
        path = compared(calls) if calls else None
        if path is None or path in masked_layers(self._sites):
            raise ValueError(nothing_called(self._sites, self._around, path, self._called_branches))
        if self.counted is None and path in self._possible:
            check_one({call.path for call in calls if call.passes is not None})
        if self.counted is not None and len(path) > len(self.counted):
            raise ValueError(
                f"module: an earlier training_step called {self.counted!r}, whose output is compared, but this one only"
                f" calls {path!r} inside it; name the one that every step calls, as module={path!r}."
            )
        self.counted = path
        of_module = calls = [call for call in calls if call.path == path]
        if self._call is not None:
            calls = [self._chosen(calls, self._call)]
        for each in calls:
            each.check_unwritten()
        passes = trained(calls, loss)
        self.numbers = [number for each in passes for number, call in enumerate(of_module) if call.passes is each]
        self.input = calls[0].input
        if not passes:
            raise ValueError(
                "module: the prediction that is compared must have a gradient, got one without; it is computed under "
                "torch.no_grad(). Of several forward passes in one training_step, call= names the one that counts."
            )
        return passes

    def _is_beside(self, path: str) -> bool:
        """Tell whether a module may contain all sites, after one that does was called."""
        certain = (call for call in self._calls if call.path not in self._possible)
        return path in self._possible and any(call.passes is not None for call in certain)

    def _has_sites(self, call: Call) -> bool:
        """Tell whether a module that was called contains all sites, as far as the call can tell."""
        return call.path not in self._possible or call.passes is None or bool(call.passes.recorded.observed)

    @staticmethod
    def _chosen(calls: Sequence[Call], call: int) -> Call:
        if call >= len(calls):
            raise ValueError(
                f"call must be below the number of forward passes in training_step, counted from 0, got {call} where "
                f"there are {len(calls)}."
            )
        return calls[call]


def took_part(sites: Collection[MaskSite], observed: Collection[MaskSite]) -> set[MaskSite]:
    """Return those of some sites that took part in a pass.

    A dropout module whose rate the module around it uses, in a call of functional dropout, takes part in that call.

    Args:
        sites: the sites to choose from.
        observed: the sites that the pass met.
    """
    dropping = {site.layer for site in observed if site.kind == "dropout"}
    return {
        site
        for site in sites
        if site in observed or (site.kind == "dropout" and site.layer.rpartition(".")[0] in dropping)
    }
