"""Log runs to Weights & Biases, with what the service needs to compare them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from lightning_advdrop._extras import needed
from lightning_advdrop._lightning import drop_wandb_argument
from lightning_advdrop.metric_names import STEP, better
from lightning_advdrop.wandb_settings import chosen_mode, from_environment

_STEP_METRIC = "trainer/global_step"


class WandbRunLogger(WandbLogger):
    """Lightning's logger for Weights & Biases, with rules for a project of many runs.

    - The environment variables of `VARIABLES` come before the arguments. A run is online where ``WANDB_MODE``, ``wandb
      offline`` and ``wandb disabled`` say nothing else and somebody is logged in; else it is offline. Nobody is asked
      for a key.
    - The run opens with the first value that is logged or what else uses it, so that a start that fails leaves none.
    - The summary of metrics whose better side is known by their name (accuracy, error, loss, perplexity) has their best
      value beside the last, and so has the metric that a ``ModelCheckpoint`` monitors.
    - The hyperparameters are logged once: after `log_configuration`, the module's own are not logged again.
    - With ``log_model``, the best checkpoint of a ``ModelCheckpoint`` that monitors a metric has the alias ``best``,
      any other that of its file's name (``last``), and the newest ``latest``.

    Args:
        name: the run's name; None lets the service choose one.
        save_dir: the folder in which the folder ``wandb`` is made.
        version: the run's id, to go on with a run; None for a new one. Checkpoints are in a folder of this name.
        project: the project.
        log_model: whether checkpoints are logged as artifacts: False, True for the end of the fit, ``all`` for each one
            when it is saved.
        prefix: what comes before the names of metrics, with a ``-``.
        checkpoint_name: the name of the artifact; None for ``model-`` and the run's id.
        kwargs: further arguments of Lightning's logger and of ``wandb.init``, such as ``group`` and ``tags``.

    Raises:
        ValueError: if the mode is ``online`` and there is no key.

    Example:
        >>> logger = WandbRunLogger(project="digits", group="quickstart", mode="offline")
        >>> logger.name
        'digits'
    """

    def __init__(
        self,
        name: str | None = None,
        save_dir: str | Path = ".",
        version: str | None = None,
        project: str | None = None,
        log_model: Literal["all"] | bool = False,
        prefix: str = "",
        checkpoint_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        given = {"name": name, "project": project, **kwargs, "id": version or kwargs.get("id")}
        if given.pop("offline", False):
            given["mode"] = "offline"
        given |= from_environment()
        given["mode"] = chosen_mode(given.get("mode"))
        # Lightning asks for the id, to name the folder of the checkpoints, before the run is open.
        given["id"] = given.get("id") or secrets.token_hex(4)
        known = {key: value for key, value in given.items() if value is not None}
        super().__init__(save_dir=save_dir, log_model=log_model, prefix=prefix, **known)
        drop_wandb_argument(self, "anonymous")
        self._log_checkpoints: Literal["all"] | bool = log_model
        self._artifact_name = checkpoint_name
        self._metric_prefix = f"{prefix}{self.LOGGER_JOIN_CHAR}" if prefix else ""
        self._pending: dict[str, Any] = {}
        self._configured = self._opened = False
        self._defined: set[str] = set()
        self._kept: list[ModelCheckpoint] = []
        self._logged: dict[str, float] = {}

    # The run.

    @property
    def experiment(self) -> Any:
        """The run, which opens when something of it is used: Lightning itself asks for it before a fit is set up."""
        return super().experiment if self._opened else _Unopened(self.open)

    def __getstate__(self) -> dict[str, Any]:
        """Open the run, in which the processes that are spawned go on."""
        self.open()
        state: dict[str, Any] = super().__getstate__()
        return state

    def open(self) -> Any:
        """Open the run if it is not open yet, and return it."""
        run = super().experiment
        self._opened = True
        pending, self._pending = self._pending, {}
        if pending:
            super().log_hyperparams(pending)
        return run

    # What is logged.

    def log_configuration(self, config: Mapping[str, Any]) -> None:
        """Log a whole configuration: the hyperparameters of the module and the data are part of it.

        Args:
            config: the configuration, in plain types.
        """
        self._pending = dict(config)
        self._configured = True

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log hyperparameters, unless the whole configuration is known; see `log_configuration`."""
        if not self._configured:
            self._pending |= vars(params) if not isinstance(params, Mapping) else params
            if self._opened:
                self.open()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics; the first time that a name comes, define its summary."""
        for name in metrics:
            if not name.endswith(STEP):
                self._define(name, better(name))
        super().log_metrics(metrics, step)

    def _define(self, name: str, summary: str | None) -> None:
        if name not in self._defined and summary is not None:
            self._defined.add(name)
            how = {"step_metric": _STEP_METRIC, "step_sync": True, "summary": f"{summary},last"}
            self.experiment.define_metric(f"{self._metric_prefix}{name}", **how)

    # Checkpoints.

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Log a checkpoint, or remember it until the end of the fit."""
        if checkpoint_callback.monitor is not None:
            self._define(checkpoint_callback.monitor, checkpoint_callback.mode)
        every = self._log_checkpoints == "all" or (self._log_checkpoints and checkpoint_callback.save_top_k == -1)
        if every:
            self._log_artifacts(checkpoint_callback)
        elif self._log_checkpoints and not any(each is checkpoint_callback for each in self._kept):
            self._kept.append(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Log the checkpoints of a fit that ended well, those that monitor a metric first."""
        kept, self._kept = self._kept, []  # weak references: what they name may be gone by the next fit
        if status == "success" and self._opened:
            for callback in sorted(kept, key=lambda each: each.monitor is None):
                self._log_artifacts(callback)
        super().finalize(status)

    @rank_zero_only
    def _log_artifacts(self, callback: ModelCheckpoint) -> None:
        with needed("Logging checkpoints"):
            import wandb
        for path, score, aliases in checkpoint_aliases(callback):
            changed = Path(path).stat().st_mtime
            if self._logged.get(path) == changed:
                continue
            metadata = {"score": score, "monitor": callback.monitor, "mode": callback.mode, "file": Path(path).name}
            artifact = wandb.Artifact(self._artifact_name or f"model-{self.experiment.id}", "model", metadata=metadata)
            # Lightning before 2.6 has no such argument.
            artifact.add_file(path, name="model.ckpt", policy=getattr(self, "add_file_policy", "mutable"))
            self.experiment.log_artifact(artifact, aliases=aliases)
            self._logged[path] = changed


class _Unopened:
    """Stand for a run that opens with the first use of anything of it.

    Args:
        opened: opens the run and returns it.
    """

    def __init__(self, opened: Callable[[], Any]) -> None:
        object.__setattr__(self, "_run", opened)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_run")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_run")(), name, value)


def checkpoint_aliases(callback: ModelCheckpoint) -> Iterator[tuple[str, float | None, list[str]]]:
    """Yield the existing checkpoints of a callback with their scores and aliases, the worst first.

    Only what is best by a monitored metric is ``best``: without one, a ``ModelCheckpoint`` calls its newest file so.

    Args:
        callback: keeps the checkpoints.

    Example:
        >>> list(checkpoint_aliases(ModelCheckpoint(monitor="val/loss")))
        []
    """
    scores: dict[str, float | None] = {path: float(score) for path, score in callback.best_k_models.items()}
    if callback.mode == "min":
        scores = dict(sorted(scores.items(), key=lambda item: -(item[1] or 0.0)))
    else:
        scores = dict(sorted(scores.items(), key=lambda item: item[1] or 0.0))
    best = callback.best_model_path if callback.monitor is not None else None
    for path in (callback.best_model_path, callback.last_model_path):
        scores.setdefault(path, None)
    for path, score in scores.items():
        if path and Path(path).is_file():
            named = [] if callback.monitor is not None and path != callback.last_model_path else [Path(path).stem]
            yield path, score, ["latest", *(["best"] if path == best else named)]
