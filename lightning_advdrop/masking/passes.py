"""Running a forward pass under given masks, once or again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_advdrop.masking.examples import BatchEvidence
from lightning_advdrop.masking.handlers import HANDLERS
from lightning_advdrop.masking.handlers.composing import begin_among_others
from lightning_advdrop.masking.mode import Choose, MaskingMode
from lightning_advdrop.masking.module_state import ModuleState
from lightning_advdrop.masking.observation import Observation
from lightning_advdrop.masking.prefix import Prefix, PrefixMismatchError
from lightning_advdrop.masking.random_state import RandomState, isolated
from lightning_advdrop.masking.running import RunningModules
from lightning_advdrop.masking.site_values import Masks
from lightning_advdrop.masking.sites import ComputedWeight, MaskSite

StandIns = Iterable[tuple[Tensor, Tensor]]


@contextmanager
def apply(module: nn.Module, masks: Masks) -> Iterator[None]:
    """A context in which a module's forward runs under masks, and everything else random is replayed.

    The masks are multiplied as they are (see `lightning_advdrop.functional.rescale_mask`). Each context begins with the
    random state and the module state of the moment before it, and leaves both as they were: two contexts in a row see
    the same dropout elsewhere, and buffers, attributes and ``state_dict()`` of the module do not change.

    Args:
        module: the module whose forward is called inside the context; it is not changed.
        masks: a mask for each site, in the shape that ``site.shape(batch_size)`` tells; for recurrent sites also with a
            leading time dimension, for embeddings and inputs also a `Perturbation`. Their rows follow the batch as the
            layer gets it; in a packed sequence that is the order of packing, longest first. Masks that require a
            gradient get one.

    Raises:
        ValueError: if a site does not belong to the module, or, inside the context, a mask has the wrong shape.

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> lstm = nn.LSTM(4, 3)
        >>> site, = find_sites(lstm, "recurrent")
        >>> x = torch.randn(5, 2, 4)
        >>> with apply(lstm, {site: torch.zeros(2, 3)}):
        ...     without_memory, _ = lstm(x)
        >>> torch.equal(without_memory, lstm(x)[0])
        False
    """
    own = {id(part) for parts in (module.parameters(), module.modules()) for part in parts}
    for site in masks:
        held = site.anchor.layer if isinstance(site.anchor, ComputedWeight) else site.anchor
        if id(held) not in own:
            raise ValueError(f"masks: the site {site.name} does not belong to this {type(module).__name__}.")
    running = RunningModules(module)
    mode = MaskingMode(HANDLERS, list(masks), lambda seen: masks.get(seen.site), running)
    with isolated(), ModuleState(module).borrowed() as stand_ins, running, mode:
        _register(mode, stand_ins)
        yield


def _register(mode: MaskingMode, stand_ins: StandIns) -> None:
    """Let a mode recognise parameters by what takes their place in this pass."""
    for stand_in, parameter in stand_ins:
        mode.anchors.register_alias(stand_in, parameter)


def _nothing(seen: Observation) -> None:
    """Leave every site as it is."""


def _grad_mode() -> tuple[bool, bool]:
    """Return what decides whether results have a graph; those of another mode can't be handed back."""
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled()


class RecordedForward:
    """A forward pass that runs once as it is and can then be run again under masks.

    Another run starts from the module state that the first one started from, and leaves no trace: not in buffers, not
    in attributes, not in the global random generators. What it computes before the first mask acts is handed back from
    an earlier run where that run saw the same noise.

    Args:
        module: the module whose state is kept, at least the one whose forward runs.
        sites: where masks may act.
        share_noise: whether other runs draw the first run's noise again, or noise of their own (the same in all).
        first_masks: what acts at the sites in the first run; None leaves them as they are.

    Attributes:
        observed: what each site met in the first run; sites that did not take part are missing, and dropout that no
            module stands for has been found.
        unrecognised: the functions that the first run called with weights that belong to no layer that was running.
        evidence: what the layers of the first run have shown of the batch.
        without_gradient: the keys of the sites that ran where gradients were switched off.

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> lstm = nn.LSTM(4, 3)
        >>> x, sites = torch.randn(5, 2, 4), find_sites(lstm, "recurrent")
        >>> recorded = RecordedForward(lstm, sites, share_noise=True)
        >>> with recorded.first_run():
        ...     base, _ = lstm(x)
        >>> masks = {site: seen.ones() for site, seen in recorded.observed.items()}
        >>> again, _ = recorded.run(lambda: lstm(x), masks)
        >>> torch.allclose(base, again, atol=1e-6)
        True
    """

    def __init__(
        self,
        module: nn.Module,
        sites: Sequence[MaskSite],
        *,
        share_noise: bool,
        first_masks: Choose | None = None,
    ) -> None:
        self.sites = list(sites)
        self.share_noise = share_noise
        self.observed: dict[MaskSite, Observation] = {}
        self.unrecognised: frozenset[str] = frozenset()
        self.evidence = BatchEvidence()
        self.without_gradient: frozenset[tuple[object, str]] = frozenset()
        self._first_masks = first_masks or _nothing
        self._module = module
        self._prefix, self._grad_mode = Prefix(), _grad_mode()
        self._noise: RandomState | None = None
        self._seed: int | None = None
        self._state: ModuleState | None = None
        self._end: RandomState | None = None
        self._own_end: Callable[[], None] = lambda: None

    @contextmanager
    def first_run(self, *others: Any) -> Iterator[None]:
        """The context in which the forward runs as it is, or under the first masks.

        Args:
            others: what else the forward may write to and other runs get as it was: the function that runs it again,
                with the arguments that it hands over.

        Raises:
            ValueError: at the end, if the forward did what can't be undone in other runs: it ran through an iterator
                that can't be copied, or wrote to a parameter that it did not write to in the first passes.
        """
        self._state, self._grad_mode = ModuleState(self._module, *others), _grad_mode()
        if self.share_noise:
            self._noise = RandomState.now()
        # Of a pass in which others have something act, too, nothing is handed back to runs without that.
        alone = not begin_among_others()
        with RunningModules(self._module) as running:
            mode = MaskingMode(
                HANDLERS,
                self.sites,
                self._first_masks,
                running,
                prefix=self._prefix if self.share_noise and alone else None,
                first=True,
                keep_masks=self.share_noise,
            )
            with mode:
                yield
        mode.stop_prefix()
        self._end, self._own_end = RandomState.now(), self._state.drawn()
        self.observed, self.unrecognised = mode.sums.told(mode.observed), frozenset(mode.anchors.unrecognised)
        self.evidence = mode.evidence
        self.without_gradient = frozenset(site.key for site in mode.observed) - mode.with_gradient
        self._state.check()

    @property
    def hands_over(self) -> list[Tensor]:
        """What further runs take as it is, with its graph: from the module, its arguments, and the first run."""
        held = [] if self._state is None else self._state.tensors
        return [*held, *self._prefix.results]

    def draw_noise(self, seed: int) -> None:
        """Seed the noise that all further runs draw alike, unless they share that of the first run."""
        if not self.share_noise:
            self._noise, self._seed = RandomState.seeded(seed), seed

    def run(
        self,
        forward: Callable[[], Any],
        masks: Masks,
        *,
        dropout: bool = True,
    ) -> Any:
        """Run the forward again.

        Args:
            forward: does what was done inside `first_run`.
            masks: what acts at the sites, see `apply`.
            dropout: False to switch off all dropout of the network, as for inference, and leave the rest in training.

        Returns:
            What ``forward`` returns.

        Raises:
            RuntimeError: if the first run has not been made.
        """
        if self._state is None:
            raise RuntimeError("RecordedForward.run needs a first run: call the forward inside first_run() before.")
        if not self._prefix.valid or self._grad_mode != _grad_mode():
            self._prefix, self._grad_mode = Prefix(), _grad_mode()
        again = functools.partial(self._run, self._state, forward, masks, dropout=dropout)
        try:
            return again(self._prefix if dropout else Prefix())
        except PrefixMismatchError:
            # The forward branches on something other than its inputs, noise and state; nothing can be handed back.
            self._prefix = Prefix()
            return again(self._prefix)

    def run_here(self, forward: Callable[[], Any], masks: Masks, stand_ins: StandIns = ()) -> Any:
        """Run the forward again with what it writes, inside something that is run again as a whole.

        Args:
            forward: does what was done inside `first_run`, with any arguments.
            masks: what acts at the sites, see `apply`.
            stand_ins: pairs of a tensor and the parameter in whose place the module has it.

        Raises:
            RuntimeError: if the first run has not been made.
        """
        if self._state is None or self._end is None:
            raise RuntimeError(
                "RecordedForward.run_here needs a first run: call the forward inside first_run() before."
            )
        if self._seed is not None:
            self._state.seed(self._seed)
        result = self._masked(forward, masks, Prefix(), stand_ins)
        self._end.restore()  # what comes next draws what it drew after the first run
        self._own_end()
        return result

    def _run(
        self, state: ModuleState, forward: Callable[[], Any], masks: Masks, prefix: Prefix, *, dropout: bool
    ) -> Any:
        with isolated(), state.borrowed(self._seed) as stand_ins:
            return self._masked(forward, masks, prefix, stand_ins, dropout=dropout)

    def _masked(
        self,
        forward: Callable[[], Any],
        masks: Masks,
        prefix: Prefix,
        stand_ins: StandIns,
        *,
        dropout: bool = True,
    ) -> Any:
        sites = [*self.observed, *(site for site in self.sites if site not in self.observed)]
        with ExitStack() as stack:
            if self._noise is not None:
                self._noise.restore()
            # Weights cast by autocast in a pass without gradients must not be taken for those of the next pass.
            torch.clear_autocast_cache()
            stack.callback(torch.clear_autocast_cache)
            running = stack.enter_context(RunningModules(self._module))
            mode = MaskingMode(
                HANDLERS, sites, lambda seen: masks.get(seen.site), running, prefix=prefix, dropout=dropout
            )
            _register(mode, stand_ins)
            with mode:
                result = forward()
                mode.check_prefix()
            return result
