"""Under which name the state of a callback is saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_advdrop._lightning import state_key
from lightning_advdrop.masking import SiteSpecs


class KeyedBySettings(Callback):
    """A callback of which a trainer may have several."""

    site_specs: SiteSpecs
    module: str | None
    call: int | None

    @property
    def method_name(self) -> str | None:
        """The name of the method; None where that of the class tells it."""
        return None

    @property
    def state_key(self) -> str:
        """Tell several callbacks of one class apart: by their sites, by ``module`` and by ``call``, and by the method.

        Of callbacks that are alike in all of them, Lightning refuses to train with more than one.
        """
        return self._key() if self.method_name is None else self._key(regularizer=self.method_name)

    def _key(self, **settings: str) -> str:
        told = {name: value for name, value in {"module": self.module, "call": self.call}.items() if value is not None}
        return state_key(self, **settings, sites=self.site_specs, **told)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Mapping[str, Any]) -> None:
        """Find the state under the name without the method, too, which it had in earlier releases."""
        states = checkpoint.get("callbacks", {})
        if self._key() in states:
            states.setdefault(self.state_key, states[self._key()])
        super().on_load_checkpoint(trainer, pl_module, dict(checkpoint))
