"""Print the zoo's table: ``python -m tests.masking.zoo [words of names]``."""

from __future__ import annotations

import logging
import sys
import time
import warnings

import torch

from tests.masking.zoo.checks import check, words_of
from tests.masking.zoo.methods import MONITOR, NAMES
from tests.masking.zoo.table import ZOO, Entry


def _notes(entry: Entry, faults: dict[str, list[str]]) -> list[str]:
    """Tell what is wrong with a model: once for all callbacks with which it is wrong in the same way."""
    told: dict[str, list[str]] = {}
    for name, found in faults.items():
        if found:
            told.setdefault(", ".join(fault.partition(":")[0][:20] for fault in found), []).append(name)
    whom = ("all" if len(names) == len(faults) else ", ".join(names) for names in told.values())
    what = ("; ".join(faults[names[0]])[:600] for names in told.values())
    return [f"{entry.name} [{who}]: {fault}" for who, fault in zip(whom, what, strict=True)]


def main(words: list[str], *, callbacks: list[str]) -> int:
    start, failed, refused = time.process_time(), 0, 0
    chosen = [each for each in ZOO.values() if not words or any(word in (each.kind, each.name) for word in words)]
    if not chosen:
        print(f"no model or kind is called {' or '.join(map(repr, words))}")
        return 2
    width = max(len(entry.name) for entry in chosen)
    print(f"{'model':{width}}  zero      trace  monitor  refused by")
    notes = []
    for entry in chosen:
        outcomes = {name: check(entry, name) for name in callbacks}
        faults = {name: outcome.faults(words_of(entry, name), entry.rounding) for name, outcome in outcomes.items()}
        bad = {name for name, found in faults.items() if found}
        notes += _notes(entry, faults)
        methods = [outcome for name, outcome in outcomes.items() if name != MONITOR and not outcome.refusal]
        zero = max((outcome.zero for outcome in methods if outcome.zero is not None), default=None)
        shown = "-" if zero is None else f"{zero:.0e}"
        trace = "-" if not methods else str(sum(bool(o.trace or o.error) for o in methods) or "none")
        seen = outcomes.get(MONITOR)
        monitor = "-" if seen is None or seen.refusal else "FAIL" if MONITOR in bad else "ok"
        by = [name.removesuffix("Callback") for name, outcome in outcomes.items() if outcome.refusal]
        refusers = "all" if len(by) == len(callbacks) else ", ".join(by)
        mark = f"  FAIL {len(bad)}" if bad else ""
        print(f"{entry.name:{width}}  {shown:8}  {trace:5}  {monitor:7}  {refusers}{mark}", flush=True)
        failed += len(bad)
        refused += len(by)
    print(*notes, sep="\n")
    cases = len(chosen) * len(callbacks)
    print(
        f"{len(chosen)} models, {cases} cases: {cases - failed} as expected (of these {refused} refusals), {failed} not"
    )
    print(f"{time.process_time() - start:.0f} s of one core")
    return int(failed > 0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for logger in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    sys.exit(main(sys.argv[1:], callbacks=NAMES))
