"""Running a forward pass under given masks, once or again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from lightning_advdrop.masking.mode import MaskingMode, Masks
from lightning_advdrop.masking.module_state import ModuleState
from lightning_advdrop.masking.prefix import Prefix, PrefixMismatchError
from lightning_advdrop.masking.random_state import RandomState, isolated
from lightning_advdrop.masking.sites import MaskSite


@contextmanager
def apply(module: nn.Module, masks: Masks) -> Iterator[None]:
    """A context in which a module's forward runs under masks, and everything else random is replayed.

    The masks are multiplied as they are (see `lightning_advdrop.functional.rescale_mask`). Each context begins with the
    random state and the module state of the moment before it, and leaves both as they were: two contexts in a row see
    the same dropout elsewhere, and buffers, attributes and ``state_dict()`` of the module do not change.

    Args:
        module: the module whose forward is called inside the context; it is not changed.
        masks: a mask for each site, in the shape that ``site.shape(batch_size)`` tells; for recurrent sites also with a
            leading time dimension. Their rows follow the batch as the layer gets it; in a packed sequence that is the
            order of packing, longest first. Masks that require a gradient get one.

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
    own = {id(parameter) for parameter in module.parameters()}
    for site in masks:
        if id(site.weight) not in own:
            raise ValueError(f"masks: the site {site.name} does not belong to this {type(module).__name__}.")
    with isolated(), ModuleState(module).borrowed(), MaskingMode(list(masks), masks):
        yield


class RecordedForward:
    """A forward pass that runs once as it is and can then be run again under masks.

    Another run starts from the module state that the first one started from, and leaves no trace: not in buffers, not
    in attributes, not in the global random generators. What it computes before the first mask acts is handed back from
    an earlier run where that run saw the same noise.

    Args:
        module: the module whose state is kept, at least the one whose forward runs.
        sites: where masks may act.
        share_noise: whether other runs draw the first run's noise again, or noise of their own (the same in all).

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> lstm = nn.LSTM(4, 3)
        >>> x, sites = torch.randn(5, 2, 4), find_sites(lstm, "recurrent")
        >>> recorded = RecordedForward(lstm, sites, share_noise=True)
        >>> with recorded.first_run():
        ...     base, _ = lstm(x)
        >>> masks = {site: site.ones(recorded.batch_sizes[site]) for site in sites}
        >>> again, _ = recorded.run(lambda: lstm(x), masks)
        >>> torch.allclose(base, again, atol=1e-6)
        True
    """

    def __init__(self, module: nn.Module, sites: Sequence[MaskSite], *, share_noise: bool) -> None:
        self.sites = list(sites)
        self.share_noise = share_noise
        self.batch_sizes: dict[MaskSite, int] = {}
        self._module = module
        self._prefix = Prefix()
        self._noise: RandomState | None = None
        self._state: ModuleState | None = None

    @contextmanager
    def first_run(self) -> Iterator[None]:
        """The context in which the forward runs as it is."""
        self._state = ModuleState(self._module)
        mode = MaskingMode(self.sites, prefix=self._prefix if self.share_noise else None)
        if self.share_noise:
            self._noise = RandomState.now()
        with mode:
            yield
        mode.stop_prefix()
        self.batch_sizes = mode.batch_sizes

    def draw_noise(self, seed: int) -> None:
        """Fixes the noise of the runs to come where it is not shared with the first; all of them draw the same."""
        if not self.share_noise:
            self._noise = RandomState.seeded(seed)

    def run(self, forward: Callable[[], Any], masks: Masks, *, needs_parameter_gradients: bool = True) -> Any:
        """Runs the forward again.

        Args:
            forward: does what was done inside `first_run`.
            masks: the masks, see `apply`.
            needs_parameter_gradients: False where only the masks' gradients will be asked for, which saves work.

        Returns:
            What ``forward`` returns.

        Raises:
            RuntimeError: if the first run has not been made.
        """
        if self._state is None:
            raise RuntimeError("RecordedForward.run needs a first run: call the forward inside first_run() before.")
        if not self._prefix.valid:
            self._prefix = Prefix()
        try:
            return self._run(self._state, forward, masks, needs_parameter_gradients)
        except PrefixMismatchError:
            # The forward branches on something other than its inputs, noise and state; nothing can be handed back.
            self._prefix = Prefix()
            return self._run(self._state, forward, masks, needs_parameter_gradients)

    def _run(
        self, state: ModuleState, forward: Callable[[], Any], masks: Masks, needs_parameter_gradients: bool
    ) -> Any:
        mode = MaskingMode(self.sites, masks, prefix=self._prefix, needs_parameter_gradients=needs_parameter_gradients)
        with ExitStack() as stack:
            stack.enter_context(isolated())
            stack.enter_context(state.borrowed())
            if self._noise is not None:
                self._noise.restore()
            # Weights cast by autocast in a pass without gradients must not be taken for those of the next pass.
            torch.clear_autocast_cache()
            stack.callback(torch.clear_autocast_cache)
            stack.enter_context(mode)
            return forward()
