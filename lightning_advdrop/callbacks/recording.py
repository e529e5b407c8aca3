"""Watching the forward passes that a training step makes, so that they can be run again under masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lightning_advdrop.callbacks.replacing import replaced
from lightning_advdrop.masking import MaskSite, RecordedForward


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    """Stands in for ``self.log`` where a forward runs once more."""


@dataclass(frozen=True)
class RecordedCall:
    """One forward pass of the module whose prediction is compared.

    Attributes:
        recorded: the pass, ready to be run again.
        forward: does what was done in the first run and returns the module's whole output.
        output: the whole output of the first run.
        root: the LightningModule, which must log nothing in other runs.
        weight: weights of examples and time steps, see `lightning_advdrop.regularizers.Passes`.
    """

    recorded: RecordedForward
    forward: Callable[[], Any]
    output: Any
    root: nn.Module
    weight: Tensor | None = None

    def again(self) -> Any:
        """Runs the forward again, and returns the module's whole output; what it logs is not logged a second time."""
        loggers = [part for part in self.root.modules() if hasattr(part, "log_dict")]
        with replaced((part, name, _log_nothing) for part in loggers for name in ("log", "log_dict")):
            return self.forward()


def candidates(sites: Sequence[MaskSite]) -> list[str]:
    """Paths of the modules that contain all sites, from the outermost, ``""``, to the innermost.

    Args:
        sites: at least one site.

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> model = nn.Sequential(nn.Sequential(nn.Identity(), nn.LSTM(2, 3)))
        >>> candidates(find_sites(model))
        ['', '0', '0.1']
    """
    common = sites[0].layer.split(".")
    for site in sites[1:]:
        parts = site.layer.split(".")
        while common and parts[: len(common)] != common:
            common.pop()
    common = [part for part in common if part]
    return [".".join(common[:depth]) for depth in range(len(common) + 1)]


def _layers(sites: Sequence[MaskSite]) -> set[str]:
    """The masked layers, whose own output is no prediction; what drops units itself may be a part of one that has."""
    return {site.layer for site in sites if site.kind != "dropout"}


class ForwardRecorder:
    """Records the forward passes of one module while a training step runs.

    Args:
        root: the module that was searched for sites.
        sites: where masks may act.
        record: makes the recorder of one forward of a module.
        module: the path of the module whose output is compared; None finds it: whatever contains all sites and is
            called. Of calls inside calls the outermost counts.
        call: which of several calls in one training step counts, from 0; None for each of them.

    Raises:
        ValueError: if ``module`` is not the path of a module around the masked layers.
    """

    def __init__(
        self,
        root: nn.Module,
        sites: Sequence[MaskSite],
        *,
        record: Callable[[nn.Module], RecordedForward],
        module: str | None = None,
        call: int | None = None,
    ) -> None:
        self._root = root
        self._call = call
        self._sites = sites
        self._record = record
        self._paths = candidates(sites)
        if module is not None:
            layers = _layers(sites)
            allowed = [path for path in self._paths if path not in layers]
            if module not in allowed:
                raise ValueError(
                    "module must be the path of a module around all masked layers, one of "
                    f"{', '.join(map(repr, allowed))}, got {module!r}."
                )
            self._paths = [module]
        self._calls: list[tuple[str, RecordedCall]] = []
        self._idle = True

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The context in which the training step runs."""
        parts = {path: self._root.get_submodule(path) for path in self._paths}
        # An attribute of the object, not a hook: modules also call self.forward(...) directly.
        watched = [(part, "forward", self._watched(path, part, part.forward)) for path, part in parts.items()]
        try:
            with replaced(watched):
                yield
        finally:
            self._idle = False

    @property
    def calls(self) -> list[RecordedCall]:
        """The passes that were recorded.

        Raises:
            ValueError: if there are none, only of the masked layer itself, or fewer than ``call`` asks for.
        """
        layers = _layers(self._sites)
        if any(path in layers for path, _ in self._calls) or not self._calls:
            called = "only the masked layer itself is called" if self._calls else "none is called"
            around = ", ".join(
                repr(path) if path else "the LightningModule" for path in self._paths if path not in layers
            )
            raise ValueError(
                "module: training_step must compute its prediction by calling a module that contains the masked layers "
                f"({', '.join(sorted(layers))}), but {called}; compute it in the forward of one of these: {around}."
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

    def _watched(self, path: str, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self._idle:
                return forward(*args, **kwargs)
            self._idle = False
            recorded = self._record(module)
            try:
                with recorded.first_run():
                    output = forward(*args, **kwargs)
            finally:
                self._idle = True
            call = RecordedCall(recorded, lambda: forward(*args, **kwargs), output, self._root)
            self._calls.append((path, call))
            return output

        return watched
