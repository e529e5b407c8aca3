"""Choose the figures of a report: those that the runs logged values for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from lightning_advdrop.mask_shares import MASKS_FILE, MaskShares
from lightning_advdrop.report.errors import RunError
from lightning_advdrop.report.groups import Group
from lightning_advdrop.report.histories import read_masks
from lightning_advdrop.report.metrics import axis_label, direction, listed
from lightning_advdrop.report.pages import Picture
from lightning_advdrop.report.plots import ADVERSARIAL, RANDOM, draw_curves, draw_gaps, draw_masks, has_curves
from lightning_advdrop.report.runs import Run

_MOST_PANELS = 12
_CURVES = "{label} over the epochs: mean over the seeds; the band is one standard deviation to either side.{lower}"
_GAP = (
    "How far masks of one budget move the prediction of the network without dropout: the mean over random masks, which"
    " is the gap between dropout's training and inference phases; the worst of these masks for each example, and the"
    " adversarial value, which estimate the largest change from below; and the change of the mean prediction under the"
    " random masks. Mean over the seeds; bands are one standard deviation to either side."
)
_MASKS = (
    "How often each unit is disconnected, as share of the masks that the regularizer found in an epoch; one run of each"
    " method, that with the lowest seed."
)


def choose_figures(
    groups: Sequence[Group], curves: Mapping[str, str], baseline: str, folder: Path
) -> tuple[list[tuple[Picture, Callable[[], None]]], list[str]]:
    """Choose the figures that can be drawn of some runs, without writing anything.

    Args:
        groups: Runs by experiment and method.
        curves: By experiment, the name of the metric whose curves are drawn.
        baseline: The method that is drawn in black.
        folder: Where the pictures are to be; it need not exist yet.

    Returns:
        The pictures in their order, each with the call that draws it; and a note for each run that one of them leaves
        out.
    """
    figures: list[tuple[Picture, Callable[[], None]]] = []
    drawn, notes = _split(groups, "figure", lambda run: [curves[run.experiment]])
    if drawn:
        metrics = list(dict.fromkeys(curves[group.experiment] for group in drawn))
        first, *others = [axis_label(metric) for metric in metrics]
        label = listed([first, *(f"{other[:1].lower()}{other[1:]}" for other in others)], "and")
        caption = _CURVES.format(label=label, lower=direction(metrics))
        picture = Picture(folder / "curves.png", label, caption)
        figures.append((picture, partial(draw_curves, drawn, curves, picture.path, baseline)))
    with_gap, gap_notes = _split(groups, "gap plot", lambda _: [RANDOM, ADVERSARIAL])
    if with_gap:
        picture = Picture(folder / "gap.png", "Gap between dropout's training and inference phases", _GAP)
        figures.append((picture, partial(draw_gaps, with_gap, picture.path, baseline)))
        notes += gap_notes
    panels, mask_notes = _mask_panels(groups)
    if panels:
        picture = Picture(folder / "masks.png", "How often each unit is disconnected", _MASKS)
        figures.append((picture, partial(draw_masks, panels[:_MOST_PANELS], picture.path)))
    return figures, notes + mask_notes


def _split(
    groups: Iterable[Group], where: str, needed: Callable[[Run], Sequence[str]]
) -> tuple[list[Group], list[str]]:
    """Keep the runs that logged the needed metrics by epoch, and name the others."""
    kept, notes = [], []
    for group in groups:
        runs = tuple(one for one in group.runs if has_curves(one, needed(one)))
        notes += [
            f"{one.folder} is not in the {where}: it did not log {listed([*map(repr, needed(one))], 'and')} by epoch"
            for one in group.runs
            if one not in runs
        ]
        if runs:
            kept.append(Group(group.experiment, group.method, runs))
    return kept, notes


def _mask_panels(groups: Iterable[Group]) -> tuple[list[tuple[str, MaskShares]], list[str]]:
    """Make a panel for each site, of the first run of each group that has a whole file."""
    panels: list[tuple[str, MaskShares]] = []
    notes = []
    for group in groups:
        for one in group.runs:
            if not (one.folder / MASKS_FILE).exists():
                continue
            try:
                found = read_masks(one.folder / MASKS_FILE)
            except RunError as error:
                notes.append(f"{one.folder} is not in the heat map: {error}")
                continue
            panels += [(f"{group.experiment}, {group.method}\n{site}", shares) for site, shares in found.items()]
            break
    if len(panels) > _MOST_PANELS:
        notes.append(
            f"the heat map shows the first {_MOST_PANELS} of {len(panels)} sites; report on fewer runs at once"
        )
    return panels, notes
