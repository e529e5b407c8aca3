"""Find out which method pays for a model and its data."""

from lightning_advdrop.tuning.api import DEFAULT_METHODS, Objects, run_search, tune
from lightning_advdrop.tuning.errors import RunFailedError, TuneError
from lightning_advdrop.tuning.methods import Method, find_method, find_methods, read_yaml
from lightning_advdrop.tuning.results import Interval, Result, Row, confidence_interval, paired_difference
from lightning_advdrop.tuning.settings import Experiment, Parts, Settings, parse_duration
from lightning_advdrop.tuning.spaces import Space, check_space, suggest

__all__ = [
    "DEFAULT_METHODS",
    "Experiment",
    "Interval",
    "Method",
    "Objects",
    "Parts",
    "Result",
    "Row",
    "RunFailedError",
    "Settings",
    "Space",
    "TuneError",
    "check_space",
    "confidence_interval",
    "find_method",
    "find_methods",
    "paired_difference",
    "parse_duration",
    "read_yaml",
    "run_search",
    "suggest",
    "tune",
]
