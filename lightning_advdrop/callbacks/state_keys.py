"""Under which name the state of a callback is saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_advdrop._lightning import state_key, trainer_callbacks
from lightning_advdrop.masking import SiteSpecs
from lightning_advdrop.regularizers.predictions import Output


class KeyedBySettings(Callback):
    """A callback of which a trainer may have several."""

    site_specs: SiteSpecs
    module: str | None
    call: int | None
    output: Output

    @property
    def method_name(self) -> str | None:
        """The name of the method; None where that of the class tells it."""
        return None

    @property
    def state_key(self) -> str:
        """Tell several callbacks of one class apart: by sites, ``module``, ``call``, ``output`` and method.

        Of callbacks that are alike in all of them, Lightning refuses to train with more than one. An ``output`` that is
        a callable has no name that would be the same in another process, and doesn't count.
        """
        return self._key(output=None if callable(self.output) else self.output, **self._method)

    @property
    def _method(self) -> dict[str, str]:
        return {} if self.method_name is None else {"regularizer": self.method_name}

    def _key(self, *, output: int | str | None = None, **settings: str) -> str:
        told = {"module": self.module, "call": self.call, "output": output}
        given = {name: value for name, value in told.items() if value is not None}
        return state_key(self, **settings, sites=self.site_specs, **given)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Mapping[str, Any]) -> None:
        """Find the state under its names of earlier releases, too: without ``output``, and without the method."""
        states = checkpoint.get("callbacks", {})
        others = {each.state_key for each in trainer_callbacks(trainer) if each is not self}
        for earlier in (self._key(**self._method), self._key()):
            if earlier in states and earlier not in others:
                states.setdefault(self.state_key, states[earlier])
        super().on_load_checkpoint(trainer, pl_module, dict(checkpoint))
