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
    experiments = dict.fromkeys(row.experiment for lines in rows.values() for row in lines)
    columns = [each.name for each in fields(Row)]
    tables = {metric: [columns, *(list(astuple(row)) for row in lines)] for metric, lines in rows.items()}
    upload_tables(project, f"report {', '.join(experiments)}", tables, pictures, folder)


def upload_tables(
    project: str,
    name: str,
    tables: Mapping[str, Sequence[Sequence[Any]]],
    pictures: Sequence[Path],
    folder: Path,
    kind: str = "report",
) -> None:
    """Log tables as ``wandb.Table``s below ``results/``, and figures as images below ``figures/``, in a run of its own.

    Args:
        project: the project.
        name: of the run, unless ``WANDB_NAME`` names it.
        tables: by name, the names of the columns and then the rows.
        pictures: the files of the figures.
        folder: where the run is written.
        kind: the job type.

    Raises:
        ValueError: if ``WANDB_MODE`` is ``online`` and there is no key.
    """
    with needed("Logging a report to Weights & Biases"):
        import wandb
    said: dict[str, Any] = {"job_type": kind, "name": name}
    said |= from_environment() | {"project": project}
    said["mode"] = chosen_mode(said.get("mode"))
    if hasattr(wandb.util, "_get_max_cli_version"):
        # Early releases ask the server whether it takes references to tables, offline too, and wait for its answer.
        said["settings"] = wandb.Settings(allow_offline_artifacts=False)
    with wandb.init(dir=str(folder), **said) as run:
        logged: dict[str, Any] = {f"figures/{path.stem}": wandb.Image(str(path)) for path in pictures}
        for title, (columns, *rows) in tables.items():
            logged[f"results/{title}"] = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        run.log(logged)
