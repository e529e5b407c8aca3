"""The runs of a search, in Optuna's storage: which are left, which were lost, and what was chosen."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from lightning_advdrop._extras import needed
from lightning_advdrop.files import writing
from lightning_advdrop.tuning import database
from lightning_advdrop.tuning.errors import TuneError
from lightning_advdrop.tuning.methods import Method
from lightning_advdrop.tuning.settings import Settings
from lightning_advdrop.tuning.trials import counts, errors, fail_stale, waits

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

Phase = Literal["search", "seeds"]
PHASES: tuple[Phase, ...] = ("search", "seeds")
_LONGEST = 120
_IDENTITY, _CHOSEN, _CLOSED, _AGAIN = "identity", "chosen", "closed", "again"
SEED, RESULT = "seed", "result"


class Store:
    """The studies of a search: two for each method, one for each phase.

    Args:
        settings: of the search.
        experiment: its description; a store is of one experiment.

    Attributes:
        was_complete: whether no run was left when a search began.

    Raises:
        TuneError: if the storage can't be opened, or is of another search.
    """

    def __init__(self, settings: Settings, experiment: str) -> None:
        with needed("Tuning"):
            import optuna
        with needed("Tuning"):
            # For the results, which are not to fail after hours.
            import matplotlib  # noqa: F401
            import scipy  # noqa: F401
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.settings, self.was_complete = settings, False
        with writing(settings.output):
            settings.output.mkdir(parents=True, exist_ok=True)
        # SQLite lets two processes make the tables at once, and take the same run.
        self.lock = FileLock(settings.output / "tune.lock")
        with self.lock:
            storage = database.open_database(settings.url)
            names = [(method.name, phase) for method in settings.methods for phase in PHASES]
            self.studies: dict[tuple[str, Phase], Study] = {
                (name, phase): self._study(storage, f"{name}: {phase}") for name, phase in names
            }
            own = [study.study_name for study in self.studies.values()]
            others = [name for name in optuna.get_all_study_names(storage) if name not in own]
            loaded = [optuna.load_study(study_name=name, storage=storage) for name in others]
            for study in self.studies.values():
                fail_stale(study)  # or a run that was killed would count as begun
            self._check_identity(loaded, settings.identity(experiment))
            self.studies = {key: self._in_direction(storage, study) for key, study in self.studies.items()}
            self._check_tested()

    def _study(self, storage: RDBStorage, name: str) -> Study:
        import optuna

        return optuna.create_study(
            storage=storage,
            study_name=name,
            direction="minimize" if self.settings.validated_mode == "min" else "maximize",
            pruner=optuna.pruners.MedianPruner() if self.settings.prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )

    def _in_direction(self, storage: RDBStorage, study: Study) -> Study:
        """The same study in the direction of the mode; one that has another direction has no run yet."""
        import optuna

        if study.direction.name.lower()[:3] == self.settings.validated_mode:
            return study
        name, known = study.study_name, study.user_attrs
        optuna.delete_study(study_name=name, storage=storage)
        found = self._study(storage, name)
        for attribute, value in known.items():
            found.set_user_attr(attribute, value)
        return found

    def _check_identity(self, others: Sequence[Study], wanted: dict[str, str]) -> None:
        # Runs of another experiment with other methods are not to stand beside ours either.
        theirs = [study for study in others if _IDENTITY in study.user_attrs]
        ours = {self.studies[each.name, phase]: each for each in self.settings.methods for phase in PHASES}
        # Before the first run has ended, wrong arguments can be set right.
        begun = any(counts(each) for study in [*ours, *theirs] for each in study.get_trials(deepcopy=False))
        told = {study: study.user_attrs.get(_IDENTITY, {}) for study in [*ours, *theirs]}
        for study, found in told.items():
            method = {f"method {ours[study].name}": ours[study].description} if study in ours else {}
            for name, value in {**wanted, **method}.items():
                if begun and found.get(name, value) != value:
                    was, now = _first_difference(found[name], value)
                    raise TuneError(
                        f"{self.where} has a search with another {name}: {was!r}, got {now!r}; name another one, or "
                        "give the same arguments to go on."
                    )
            told[study] = {**found, **wanted, **method}
        for study, identity in told.items():
            study.set_user_attr(_IDENTITY, identity)

    @property
    def where(self) -> str:
        """The argument that tells where the runs are, and its value."""
        storage, output = self.settings.storage, self.settings.output
        return f"output={str(output)!r}" if storage is None else f"storage={database.without_password(storage)!r}"

    def _check_tested(self) -> None:
        runs = [each for method in self.settings.methods for each in self.trials(method.name, "seeds")]
        found = {each.user_attrs.get(RESULT, {}).get("test_metric") for each in runs} - {None}
        if found - {self.settings.tested}:
            raise TuneError(
                f"test_metric must be that of the runs in {self.where}, {', '.join(sorted(found))}, got "
                f"{self.settings.tested!r}; name another one."
            )

    def trials(self, method: str, phase: Phase) -> list[FrozenTrial]:
        """Return the trials of a phase, in their order."""
        return self.studies[method, phase].get_trials(deepcopy=False)

    def counted(self, method: str, phase: Phase, before: int | None = None) -> list[FrozenTrial]:
        """Return the trials that count: all but those that wait, were killed or interrupted, or are to be made again.

        Args:
            method: the method's name.
            phase: the phase.
            before: count those with lower numbers only.
        """
        again: int = self.studies[method, phase].user_attrs.get(_AGAIN, 0)
        found = [each for each in self.trials(method, phase) if counts(each, again)]
        return found if before is None else [each for each in found if each.number < before]

    def wanted(self, method: Method, phase: Phase) -> int:
        """Return how many runs a method needs in a phase; without anything to search, and after failures, none."""
        if phase == "search":
            return self.settings.trials if method.space else 0
        chosen = self.chosen(method.name)
        return 0 if chosen is not None and chosen["values"] is None else self.settings.seeds

    def next_method(self, phase: Phase) -> Method | None:
        """Return the method that has the fewest runs, if one is left; seeds that no run has are put into the queue."""
        methods = [each for each in self.settings.methods if phase != "search" or not self.is_closed(each.name)]
        left = [(len(self.counted(each.name, phase)), each) for each in methods]
        left = [(count, each) for count, each in left if count < self.wanted(each, phase)]
        if not left:
            return None
        method = min(left, key=lambda pair: pair[0])[1]
        if phase == "seeds":
            self._enqueue_seeds(method.name)
        return method

    def _enqueue_seeds(self, method: str) -> None:
        there = [*self.counted(method, "seeds"), *filter(waits, self.trials(method, "seeds"))]
        present = {each.user_attrs.get(SEED) for each in there}
        for seed in self.settings.fresh_seeds:
            if seed not in present:
                self.studies[method, "seeds"].enqueue_trial({}, user_attrs={SEED: seed})

    def forget_failures(self) -> None:
        """Have the runs with fresh seeds that failed made again: what made them fail may have been mended since.

        Those of the search stay, since they may have failed by their values, unless all runs of a method did.
        """
        for name in (method.name for method in self.settings.methods):
            if errors(self.counted(name, "seeds")):
                self.studies[name, "seeds"].set_user_attr(_AGAIN, len(self.trials(name, "seeds")))
            searched = self.counted(name, "search")
            if searched and len(errors(searched)) == len(searched):
                again = {_AGAIN: len(self.trials(name, "search")), _CHOSEN: None, _CLOSED: False}
                for attribute, value in again.items():
                    self.studies[name, "search"].set_user_attr(attribute, value)

    def is_surplus(self, method: Method, phase: Phase, number: int, seed: int | None) -> bool:
        """Return whether another process was faster with the run that a trial is to make."""
        earlier = self.counted(method.name, phase, number)
        if phase == "search":
            return len(earlier) >= self.settings.trials or self.is_closed(method.name)
        return seed not in self.settings.fresh_seeds or seed in {each.user_attrs.get(SEED) for each in earlier}

    def is_idle(self, phase: Phase) -> bool:
        """Return whether no process has a run of a phase; runs of killed ones are failed, and put into the queue."""
        from optuna.trial import TrialState

        running = False
        for (_, of), study in self.studies.items():
            if of == phase:
                with self.lock:
                    fail_stale(study)
                running = running or bool(study.get_trials(deepcopy=False, states=[TrialState.RUNNING]))
        return not running

    def is_closed(self, method: str) -> bool:
        """Return whether a method's search is over, in all processes: complete, or ended by a time budget."""
        return bool(self.studies[method, "search"].user_attrs.get(_CLOSED))

    @property
    def is_tried(self) -> bool:
        """Whether each method that is to be searched has a run to choose from, or one that failed."""
        searched = [method.name for method in self.settings.methods if method.space]
        return all(any(each.state.is_finished() for each in self.counted(name, "search")) for name in searched)

    def close(self) -> None:
        """End the search in all processes; runs that are going on are finished."""
        for method in self.settings.methods:
            self.studies[method.name, "search"].set_user_attr(_CLOSED, True)

    def choose(self) -> None:
        """Choose the best values of each method, once and for all, among as many trials of each."""
        from optuna.trial import TrialState

        searched = [method.name for method in self.settings.methods if method.space]
        ended = {name: [each for each in self.counted(name, "search") if each.state.is_finished()] for name in searched}
        fair = min(map(len, ended.values()), default=0)
        sign = 1 if self.settings.validated_mode == "min" else -1
        for method in self.settings.methods:
            if self.chosen(method.name) is not None:
                continue
            tried = ended.get(method.name, [])[:fair]
            done = [each for each in tried if each.state == TrialState.COMPLETE and each.value is not None]
            best = min(done, key=lambda each: sign * float(each.value or 0.0), default=None)
            values = ({} if not method.space else None) if best is None else best.user_attrs[RESULT]["values"]
            number = None if best is None else best.number
            chosen = {"values": values, "trial": number, "of": len(tried)}
            self.studies[method.name, "search"].set_user_attr(_CHOSEN, json.dumps(chosen))

    def chosen(self, method: str) -> dict[str, Any] | None:
        """Return the ``values`` that were chosen for a method, the ``trial`` and ``of`` how many; None before that."""
        found = self.studies[method, "search"].user_attrs.get(_CHOSEN)
        return None if found is None else dict(json.loads(found))

    def progress(self) -> tuple[int, int]:
        """Return how many runs have ended, and how many there are to be."""
        done = total = 0
        for method in self.settings.methods:
            for phase in PHASES:
                ended = sum(each.state.is_finished() for each in self.counted(method.name, phase))
                over = phase == "search" and self.chosen(method.name) is not None
                done, total = done + ended, total + (ended if over else max(ended, self.wanted(method, phase)))
        return done, total


def _first_difference(was: str, now: str) -> tuple[str, str]:
    """The first line that differs, shortened; empty where a text has ended."""
    pairs = itertools.zip_longest(was.splitlines(), now.splitlines(), fillvalue="")
    first, second = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return first[:_LONGEST], second[:_LONGEST]
