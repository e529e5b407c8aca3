"""Which figures a report has: those that the runs hold values for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lightning_advdrop.report.errors import RunError
from lightning_advdrop.report.gaps import ADVERSARIAL, RANDOM, draw_gaps
from lightning_advdrop.report.groups import Group
from lightning_advdrop.report.masks import MASKS_FILE, MaskShares, draw_masks, read_masks
from lightning_advdrop.report.metrics import direction, listed
from lightning_advdrop.report.pages import Picture
from lightning_advdrop.report.plots import axis_label, draw_curves
from lightning_advdrop.report.runs import Run

CURVES_FILE, GAP_FILE, MASKS_PICTURE = "curves.png", "gap.png", "masks.png"
_MOST_PANELS = 12
_CURVES = "{label} over the epochs: mean over the seeds; the band is one standard deviation to either side.{lower}"
_GAP = (
    "How far masks of one budget move the prediction of the network without dropout: the adversarial value, and the"
    " mean over random masks, which is the gap between dropout's training and inference phases. Mean over the seeds;"
    " the band is one standard deviation to either side."
)
_MASKS = (
    "How often each unit is disconnected, as share of the masks that the regularizer found in an epoch; one run of each"
    " method, that with the lowest seed."
)

# Draws a picture into a folder, which must exist, and says what to put beside it.
Figure = Callable[[Path], Picture]


def has_curves(candidate: Run, names: Iterable[str]) -> bool:
    """Whether a run logged everything of these names by epoch."""
    return all(name in candidate.history and bool(candidate.history[name].by_epoch) for name in names)


def choose_figures(groups: Sequence[Group], curves: Mapping[str, str], baseline: str) -> tuple[list[Figure], list[str]]:
    """Find out what can be drawn of some runs, without writing anything.

    Args:
        groups: Runs by experiment and method.
        curves: By experiment, the name of the metric whose curves are drawn.
        baseline: The method that is drawn in black.

    Returns:
        What draws the figures, in their order; and a note for each run that is missing in one of them.
    """
    figures: list[Figure] = []
    drawn, notes = _split(groups, "figure", lambda run: [curves[run.experiment]])
    if drawn:
        figures.append(_curves(drawn, curves, baseline))
    with_gap, gap_notes = _split(groups, "gap plot", lambda _: [RANDOM, ADVERSARIAL])
    if with_gap:
        figures.append(_gap(with_gap, baseline))
        notes += gap_notes
    panels, mask_notes = _panels(groups)
    if panels:
        figures.append(_masks(panels[:_MOST_PANELS]))
    return figures, notes + mask_notes


def _curves(groups: Sequence[Group], curves: Mapping[str, str], baseline: str) -> Figure:
    def draw(folder: Path) -> Picture:
        draw_curves(groups, curves, folder / CURVES_FILE, baseline)
        metrics = list(dict.fromkeys(curves[group.experiment] for group in groups))
        first, *others = [axis_label(metric) for metric in metrics]
        label = listed([first, *(f"{other[:1].lower()}{other[1:]}" for other in others)], "and")
        return Picture(folder / CURVES_FILE, label, _CURVES.format(label=label, lower=direction(metrics)))

    return draw


def _gap(groups: Sequence[Group], baseline: str) -> Figure:
    def draw(folder: Path) -> Picture:
        draw_gaps(groups, folder / GAP_FILE, baseline)
        return Picture(folder / GAP_FILE, "Gap between dropout's training and inference phases", _GAP)

    return draw


def _masks(panels: Sequence[tuple[str, MaskShares]]) -> Figure:
    def draw(folder: Path) -> Picture:
        draw_masks(panels, folder / MASKS_PICTURE)
        return Picture(folder / MASKS_PICTURE, "How often each unit is disconnected", _MASKS)

    return draw


def _split(
    groups: Iterable[Group], where: str, needed: Callable[[Run], Sequence[str]]
) -> tuple[list[Group], list[str]]:
    """Keep the runs that logged by epoch what is needed of them, and name the others."""
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


def _panels(groups: Iterable[Group]) -> tuple[list[tuple[str, MaskShares]], list[str]]:
    """A panel for each site, of the first run of each group that has a whole file."""
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
