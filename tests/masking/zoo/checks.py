"""The two checks of a model with a callback: masks that do nothing cost nothing, and training leaves no trace."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from functools import lru_cache

import torch

from lightning_advdrop.callbacks import flush_denormals
from lightning_advdrop.regularizers import PerturbationRegularizer
from tests.masking.zoo.methods import METHODS, MONITOR, callbacks_of, measured_gap
from tests.masking.zoo.registry import BATCHES, Entry
from tests.masking.zoo.snapshot import differences
from tests.masking.zoo.training import fit

_OWN = ("train/penalty", "advdrop/", "gap/", *(f"{method.log_prefix}/" for method in METHODS.values()))


@dataclass
class Outcome:
    """What came of a model with a callback.

    Attributes:
        zero: the largest change that masks made which do nothing; None where it was not measured.
        trace: where training differs from plain training.
        refusal: the message of the one who refused it.
        error: what went wrong where it should not: another error, or a refusal too late.
    """

    zero: float | None = None
    trace: tuple[str, ...] = ()
    refusal: str = ""
    error: str = ""

    def faults(self, words: tuple[str, ...] | None, rounding: float) -> list[str]:
        """List what is wrong, for a model that must be refused in these words or else must work."""
        if self.error:
            return [self.error]
        if words is not None:
            missing = [word for word in words if word not in self.refusal]
            return [f"must be refused by {missing}: {self.refusal or 'it is not'}"] if missing else []
        if self.refusal:
            return [f"refused: {self.refusal}"]
        found = [f"masks that do nothing change {self.zero}"] if self.zero is None or self.zero > rounding else []
        if self.trace:
            first = sorted(self.trace, key=lambda where: "_parameters" in where or "optimizer" in where)
            found.append(f"training differs in {len(self.trace)} places: {'; '.join(first[:4])}")
        return found


def check(entry: Entry, name: str) -> Outcome:
    """Train a model with a callback, in the first epoch under masks that do nothing, and compare it with itself."""
    plain = _plain(entry)
    changes: list[float] = []
    try:
        with measured_gap(changes):
            callbacks = callbacks_of(entry, name, changes)
            found = fit(entry, *callbacks)
    except Exception as error:
        return _failed(error, entry, name)
    trace = [
        f"{part} {difference}"
        for part in plain
        for difference in differences(plain[part], {n: v for n, v in found[part].items() if not _is_own(part, n)})
    ]
    return Outcome(max(changes, default=None), tuple(trace))


def words_of(entry: Entry, name: str) -> tuple[str, ...] | None:
    """Return the words by which a model is refused, if it must be."""
    method = METHODS.get(name)
    groups = ["perturbations"] if method and issubclass(method, PerturbationRegularizer) else []
    targets = method is not None and method().needs_target
    return entry.refusal(name, *(["targets"] if targets else []), *groups)


def _is_own(part: str, name: str) -> bool:
    return part == "metrics" and name.startswith(_OWN)


@lru_cache
def _plain_of(name: str) -> dict[str, dict[str, str]]:
    from tests.masking.zoo.table import ZOO

    flush_denormals(torch.device("cpu"))
    return fit(ZOO[name])


def _plain(entry: Entry) -> dict[str, dict[str, str]]:
    return _plain_of(entry.name)


def _failed(error: Exception, entry: Entry, name: str) -> Outcome:
    where = traceback.extract_tb(error.__traceback__)[-1]
    message = f"{error}"
    steps = BATCHES + 1 if name == MONITOR else 0
    ours = "/lightning_advdrop/" in where.filename and (where.line or "").startswith("raise")
    if not ours or "\n" in message:
        return Outcome(error=f"{type(error).__name__} of {where.name}, line {where.lineno}: {message}")
    if getattr(error, "steps", 0) > steps:
        return Outcome(error=f"refused too late, after {getattr(error, 'steps', 0)} steps: {message}")
    return Outcome(refusal=message)
