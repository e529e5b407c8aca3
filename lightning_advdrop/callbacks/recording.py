"""Watching the forward passes that a training step makes, so that they can be run again under masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from lightning_advdrop.masking import MaskSite, RecordedForward


@dataclass(frozen=True)
class RecordedCall:
    """One forward pass of the module whose prediction is compared.

    Attributes:
        recorded: the pass, ready to be run again.
        forward: runs it again and returns the module's whole output.
        output: the whole output of the first run.
    """

    recorded: RecordedForward
    forward: Callable[[], Any]
    output: Any


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


class ForwardRecorder:
    """Records the forward passes of one module while a training step runs.

    Args:
        root: the module that was searched for sites.
        sites: where masks may act.
        share_noise: see `lightning_advdrop.masking.RecordedForward`.
        module: the path of the module whose output is compared; None finds it: whatever contains all sites and is
            called. Of calls inside calls the outermost counts; of several calls in one training step, each.

    Raises:
        ValueError: if ``module`` is not the path of a module around the masked layers.
    """

    def __init__(
        self, root: nn.Module, sites: Sequence[MaskSite], *, share_noise: bool, module: str | None = None
    ) -> None:
        self._root = root
        self._sites = sites
        self._share_noise = share_noise
        self._paths = candidates(sites)
        if module is not None:
            layers = {site.layer for site in sites}
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
        patched = [(vars(part), vars(part).get("forward")) for part in map(self._root.get_submodule, self._paths)]
        for path in self._paths:
            part = self._root.get_submodule(path)
            # An attribute of the object, not a hook: modules also call self.forward(...) directly.
            part.forward = self._watched(path, part, part.forward)
        try:
            yield
        finally:
            self._idle = False
            for attributes, before in patched:
                del attributes["forward"]
                if before is not None:
                    attributes["forward"] = before

    @property
    def calls(self) -> list[RecordedCall]:
        """The passes that were recorded.

        Raises:
            ValueError: if there are none, or only of the recurrent layer itself.
        """
        layers = {site.layer for site in self._sites}
        if any(path in layers for path, _ in self._calls) or not self._calls:
            called = "only the masked layer itself is called" if self._calls else "none is called"
            around = ", ".join(
                repr(path) if path else "the LightningModule" for path in self._paths if path not in layers
            )
            raise ValueError(
                "module: training_step must compute its prediction by calling a module that contains the masked layers "
                f"({', '.join(sorted(layers))}), but {called}; compute it in the forward of one of these: {around}."
            )
        return [call for _, call in self._calls]

    def _watched(self, path: str, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self._idle:
                return forward(*args, **kwargs)
            self._idle = False
            recorded = RecordedForward(module, self._sites, share_noise=self._share_noise)
            try:
                with recorded.first_run():
                    output = forward(*args, **kwargs)
            finally:
                self._idle = True
            self._calls.append((path, RecordedCall(recorded, lambda: forward(*args, **kwargs), output)))
            return output

        return watched
