"""Log metrics of our own under names that the module doesn't log itself."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.utilities import rank_zero_info

from lightning_advdrop._lightning import attached_trainer
from lightning_advdrop._lightning_metrics import rename_metric
from lightning_advdrop.callbacks.replacing import replaced

# The attribute of a module's watched `log` that has its `_Names`.
_NAMES = "_advdrop_names"


class _Names:
    """Which names a module logs itself, and which we do.

    Args:
        pl_module: the module.
    """

    def __init__(self, pl_module: LightningModule) -> None:
        self.served: list[Callback] = []
        self.watching = ExitStack()
        self._module = pl_module
        self._theirs: set[str] = set()
        self._ours: dict[str, str] = {}
        self._own = False

    @contextmanager
    def own(self) -> Iterator[None]:
        """Count what is logged inside this context as ours."""
        before, self._own = self._own, True
        try:
            yield
        finally:
            self._own = before

    def logged(self, name: str) -> None:
        """Take notice of a name before something is logged under it; ours make way."""
        if self._own or name in self._theirs:
            return
        self._theirs |= {name, f"{name}_step", f"{name}_epoch"}  # as Lightning forks it
        for own, current in list(self._ours.items()):
            if current in self._theirs:
                rename_metric(attached_trainer(self._module), current, self.free(own))

    def free(self, own: str) -> str:
        """Return the name under which a metric of ours is logged."""
        name = own
        while name in self._theirs:
            name = f"advdrop/{name.removeprefix('train/')}"
        if name != self._ours.setdefault(own, own):
            rank_zero_info(f"{type(self._module).__name__} logs {own!r} itself; ours is {name!r} from here on.")
        self._ours[own] = name
        return name


def watch_log(pl_module: LightningModule, callback: Callback) -> None:
    """Watch under which names a module logs, for a callback; several share one watch.

    Args:
        pl_module: the module.
        callback: what logs by `log_own`, until `unwatch_log`.
    """
    names: _Names | None = getattr(pl_module.log, _NAMES, None)
    if names is None:
        names, log = _Names(pl_module), pl_module.log
        noticed = names.logged

        @functools.wraps(log)
        def watched(*args: Any, **kwargs: Any) -> None:
            noticed(args[0] if args else kwargs.get("name", ""))
            log(*args, **kwargs)

        watched = torch.compiler.disable(watched)  # type: ignore[no-untyped-call]
        setattr(watched, _NAMES, names)
        names.watching.enter_context(replaced([(pl_module, "log", watched)]))
    if callback not in names.served:
        names.served.append(callback)


def unwatch_log(pl_module: LightningModule, callback: Callback) -> None:
    """Undo `watch_log`, if it was done."""
    names: _Names | None = getattr(pl_module.log, _NAMES, None)
    if names is not None and callback in names.served:
        names.served.remove(callback)
        if not names.served:
            names.watching.close()


def own_name(pl_module: LightningModule, name: str) -> str:
    """Return the name under which `log_own` logs one of our metrics.

    It is another than it should be where the module logs something under that name itself: ``train/penalty`` is then
    ``advdrop/penalty``, and any other name gets ``advdrop/`` before it.

    Args:
        pl_module: the module.
        name: how the metric should be called.

    Example:
        >>> own_name(LightningModule(), "train/penalty")
        'train/penalty'
    """
    names: _Names | None = getattr(pl_module.log, _NAMES, None)
    return name if names is None else names.free(name)


def log_own(pl_module: LightningModule, values: Mapping[str, Any], **how: Any) -> None:
    """Log metrics of ours by ``pl_module.log_dict``, under the names of `own_name`.

    Args:
        pl_module: the module.
        values: the metrics by name.
        how: the other arguments of ``log_dict``.
    """
    names: _Names | None = getattr(pl_module.log, _NAMES, None)
    if names is None:
        pl_module.log_dict(values, **how)
        return
    with names.own():
        pl_module.log_dict({names.free(name): value for name, value in values.items()}, **how)
