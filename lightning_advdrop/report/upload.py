"""Log a report to Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from lightning_advdrop._extras import needed
from lightning_advdrop.report.tables import Row
from lightning_advdrop.wandb_settings import chosen_mode, from_environment


def upload_report(project: str, rows: Mapping[str, Sequence[Row]], pictures: Sequence[Path], folder: Path) -> None:
    """Log the tables of a report as ``wandb.Table``s and its figures as images, in a run of its own.

    The numbers are those of `Row`, not rounded. Variables such as ``WANDB_NAME`` come before what is made up here, but
    the project is the one that was asked for, whatever ``WANDB_PROJECT`` says.

    Args:
        project: the project.
        rows: by metric, the rows of its table.
        pictures: the files of the figures.
        folder: where the run is written.

    Raises:
        ValueError: if ``WANDB_MODE`` is ``online`` and there is no key.
    """
    with needed("Logging a report to Weights & Biases"):
        import wandb
    experiments = dict.fromkeys(row.experiment for lines in rows.values() for row in lines)
    said: dict[str, Any] = {"job_type": "report", "name": f"report {', '.join(experiments)}"}
    said |= from_environment() | {"project": project}
    said["mode"] = chosen_mode(said.get("mode"))
    if hasattr(wandb.util, "_get_max_cli_version"):
        # Early releases ask the server whether it takes references to tables, offline too, and wait for its answer.
        said["settings"] = wandb.Settings(allow_offline_artifacts=False)
    columns: list[str | int] = [each.name for each in fields(Row)]
    with wandb.init(dir=str(folder), **said) as run:
        tables = {
            f"results/{metric}": wandb.Table(columns=columns, data=[list(astuple(row)) for row in lines])
            for metric, lines in rows.items()
        }
        run.log({**tables, **{f"figures/{path.stem}": wandb.Image(str(path)) for path in pictures}})
