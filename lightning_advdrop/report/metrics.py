"""Choose the metric that a report compares, and put its values into words."""

from collections.abc import Iterable, Sequence

from lightning_advdrop.metric_names import STEP, better, metric_name
from lightning_advdrop.report.runs import Run

PREFERRED = ("test/accuracy", "test/error", "test/perplexity", "test/loss")
"""The metrics of a report by default: in each experiment, the first of these that its runs logged."""
_PERCENT_ENDINGS = ("accuracy", "error_rate", "f1")
_STAGES = {"train": "training", "val": "validation", "test": "test"}


def choose_metrics(runs: Iterable[Run], candidates: Sequence[str] = PREFERRED) -> dict[str, str]:
    """Choose the metric by which each experiment is compared.

    Args:
        runs: Runs of any number of experiments.
        candidates: Names of metrics, the preferred one first.

    Returns:
        By experiment, the first candidate that at least one of its runs logged. Experiments whose runs logged none are
        not in it.

    Example:
        >>> choose_metrics([])
        {}
    """
    logged: dict[str, set[str]] = {}
    for run in runs:
        logged.setdefault(run.experiment, set()).update(run.history)
    chosen = {
        experiment: next((metric for metric in candidates if metric in names), None)
        for experiment, names in logged.items()
    }
    return {experiment: metric for experiment, metric in chosen.items() if metric is not None}


def validation_metric(metric: str) -> str:
    """Name the same metric on the validation data, which is logged in each epoch.

    Example:
        >>> validation_metric("test/error")
        'val/error'
    """
    return f"val/{metric_name(metric)}"


def is_percentage(metric: str) -> bool:
    """Return whether values of a metric are shown in per cent.

    Example:
        >>> is_percentage("test/accuracy"), is_percentage("test/error"), is_percentage("test/mean_squared_error")
        (True, True, False)
    """
    name = metric_name(metric)
    # Only by itself is an error one of classification, a share of the examples.
    return name == "error" or name.endswith(_PERCENT_ENDINGS)


def direction(metrics: Sequence[str]) -> str:
    """Name the metrics whose lower values are better, in a sentence with a space before it; empty if there is none.

    Example:
        >>> direction(["test/accuracy"]), direction(["test/loss"])
        ('', ' Lower is better.')
        >>> direction(["test/accuracy", "test/error", "test/perplexity"])
        ' Lower is better for `test/error` and `test/perplexity`.'
    """
    lower = [f"`{metric}`" for metric in metrics if better(metric) == "min"]
    if not lower:
        return ""
    return " Lower is better." if len(lower) == len(metrics) else f" Lower is better for {listed(lower, 'and')}."


def listed(words: Sequence[str], conjunction: str) -> str:
    """Join words to a list in a sentence.

    Args:
        words: At least one.
        conjunction: The word before the last one, if there are several.

    Example:
        >>> listed(["a"], "or"), listed(["a", "b", "c"], "or")
        ('a', 'a, b or c')
    """
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def axis_label(metric: str) -> str:
    """Name a metric in words, with its unit.

    Example:
        >>> axis_label("val/accuracy"), axis_label("train/loss_step"), axis_label("advdrop/flip_rate")
        ('Validation accuracy (%)', 'Training loss of single steps', 'Advdrop flip rate')
    """
    stage, _, name = metric.rpartition("/")
    words = f"{_STAGES.get(stage, stage)} {name.removesuffix(STEP)}".replace("_", " ").replace("/", " ").strip()
    steps = " of single steps" if name.endswith(STEP) else ""
    return f"{words[:1].upper()}{words[1:]}{steps}{' (%)' if is_percentage(metric) else ''}"
