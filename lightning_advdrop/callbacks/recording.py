"""Record the forward passes that a training step makes, so that they can run again under masks."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from lightning_advdrop.callbacks.replacing import replaced
from lightning_advdrop.masking import MaskSite, RecordedForward
from lightning_advdrop.regularizers import Passes
from lightning_advdrop.regularizers.predictions import Output


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    """Take the place of ``self.log`` where a forward runs once more."""


def quietly(root: nn.Module, forward: Callable[[], Any]) -> Callable[[], Any]:
    """Make a forward log nothing: it has done so in its first run.

    Args:
        root: the LightningModule.
        forward: what a regularizer runs again.
    """

    def again() -> Any:
        loggers = [part for part in root.modules() if hasattr(part, "log_dict")]
        with replaced((part, name, _log_nothing) for part in loggers for name in ("log", "log_dict")):
            return forward()

    return again


def candidates(sites: Sequence[MaskSite]) -> list[str]:
    """Return the paths of the modules that contain all sites, from the outermost, ``""``, to the innermost.

    Args:
        sites: at least one site.

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> model = nn.Sequential(nn.Sequential(nn.Identity(), nn.LSTM(2, 3)))
        >>> candidates(find_sites(model))
        ['', '0', '0.1']
    """
    paths = [site.layer.split(".") if site.layer else [] for site in sites]
    steps = zip(*paths, strict=False)  # as far as the shortest goes
    common = [names[0] for names in itertools.takewhile(lambda names: len(set(names)) == 1, steps)]
    return [".".join(common[:depth]) for depth in range(len(common) + 1)]


def _layers(sites: Sequence[MaskSite]) -> set[str]:
    """Return the masked layers, whose own output is no prediction. A dropout module may be inside one that has."""
    return {site.layer for site in sites if site.kind != "dropout"}


def around(sites: Sequence[MaskSite]) -> list[str]:
    """Return the `candidates` whose output may be a prediction: all but the masked layers.

    Args:
        sites: at least one site.
    """
    return [path for path in candidates(sites) if path not in _layers(sites)]


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
            if module not in around(sites):
                raise ValueError(
                    "module must be the path of a module around all masked layers, one of "
                    f"{', '.join(map(repr, around(sites)))}, got {module!r}."
                )
            self._paths = [module]
        self._idle = True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Return the context in which a step runs."""
        parts = {path: self._root.get_submodule(path) for path in self._paths}
        # An attribute of the object, not a hook: modules also call self.forward(...) directly.
        watched = [(part, "forward", self._watched(path, part, part.forward)) for path, part in parts.items()]
        try:
            with replaced(watched):
                yield
        finally:
            self._idle = False

    def _watched(self, path: str, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self._idle:
                return forward(*args, **kwargs)
            self._idle = False
            try:
                return self._called(path, module, functools.partial(forward, *args, **kwargs))
            finally:
                self._idle = True

        return watched


class ForwardRecorder(ForwardWatch):
    """Record the forward passes of one module while a training step runs.

    Args:
        root: see `ForwardWatch`, as ``sites`` and ``module``.
        sites: where masks may act.
        module: the path of the module whose output is compared, or None.
        record: makes the recorder of one forward of a module.
        output: which part of a forward's output is the prediction.
        call: which of several calls in one training step counts, from 0; None for each of them.
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
    ) -> None:
        super().__init__(root, sites, module, self._record_call)
        self._sites = sites
        self._record = record
        self._output = output
        self._call = call
        self._calls: list[tuple[str, Passes]] = []

    def _record_call(self, path: str, module: nn.Module, forward: functools.partial[Any]) -> Any:
        recorded = self._record(module)
        with recorded.first_run(forward):
            result = forward()
        again = quietly(self._root, forward)
        self._calls.append((path, Passes(recorded, again, result, output=self._output)))
        return result

    @property
    def calls(self) -> list[Passes]:
        """Return the recorded passes.

        Raises:
            ValueError: if there are none, only of the masked layer itself, or fewer than ``call`` asks for.
        """
        layers = _layers(self._sites)
        if any(path in layers for path, _ in self._calls) or not self._calls:
            called = "only the masked layer itself is called" if self._calls else "none is called"
            places = [repr(path) if path else "the LightningModule" for path in self._paths if path not in layers]
            raise ValueError(
                "module: training_step must compute its prediction by calling a module that contains the masked layers "
                f"({', '.join(sorted(layers))}), but {called}; compute it in the forward of one of these: "
                f"{', '.join(places)}."
            )
        calls = [call for _, call in self._calls]
        if self._call is None:
            return calls
        if self._call >= len(calls):
            raise ValueError(
                f"call must be below the number of forward passes in training_step, counted from 0, got {self._call} "
                f"where there are {len(calls)}."
            )
        return [calls[self._call]]


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
