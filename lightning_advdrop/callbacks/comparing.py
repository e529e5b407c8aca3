"""What all callbacks have that compare the predictions of passes under masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info

from lightning_advdrop._deprecation import warn_renamed
from lightning_advdrop.callbacks.batches import SteppedBatch
from lightning_advdrop.callbacks.shown import ShownWithArguments
from lightning_advdrop.masking import MaskSite, SiteSpecs, check_sites
from lightning_advdrop.regularizers import Comparison, Passes
from lightning_advdrop.regularizers.predictions import Output, Target, place_of, select_weight

_MOST_NAMES = 6


class ComparingCallback(ShownWithArguments, Callback):
    """A callback that compares predictions: where masks act, and what is compared.

    The arguments are those of its subclasses.

    Raises:
        ValueError: if a kind of site is unknown, ``call`` is negative, or ``padding_mask`` is given under both names.
    """

    def __init__(
        self,
        sites: SiteSpecs,
        module: str | None,
        output: Output,
        call: int | None,
        padding_mask: Target | None,
        mask: Target | None,
        class_dim: int | None = None,
    ) -> None:
        super().__init__()
        check_sites(sites)
        if call is not None and call < 0:
            raise ValueError(f"call must be at least 0, or None for all calls, got {call}.")
        if mask is not None:
            warn_renamed(f"The argument 'mask' of {type(self).__name__}", "'padding_mask'", stacklevel=4)
            if padding_mask is not None:
                raise ValueError(
                    f"padding_mask={padding_mask!r} was given twice, once under its old name mask={mask!r}."
                )
        self.site_specs = sites
        self.module = module
        self.output = output
        self.call = call
        self.padding_mask = padding_mask if mask is None else mask
        self.class_dim = class_dim
        #: How predictions are compared; None until that is decided, in the first step that compares any.
        self.comparison: Comparison | None = None
        self._told = False

    @property
    def site_names(self) -> SiteSpecs:
        """The old name of ``site_specs``."""
        warn_renamed(f"{type(self).__name__}.site_names", f"{type(self).__name__}.site_specs")
        return self.site_specs

    @property
    def mask(self) -> Target | None:
        """The old name of ``padding_mask``."""
        warn_renamed(f"{type(self).__name__}.mask", f"{type(self).__name__}.padding_mask")
        return self.padding_mask

    def forget_comparison(self) -> None:
        """Decide anew, in another fit."""
        self.comparison, self._told = None, False

    def with_padding(self, passes: Passes, batch: SteppedBatch) -> Passes:
        """Give passes the weights that tell padding in their batch, where ``padding_mask`` says where these are.

        Raises:
            ValueError: if they are not there, or have another shape than the prediction.
        """
        place = self.padding_mask
        if place is None:
            return passes
        read = self.comparison
        base = passes.base.detach() if read is None else read.read(passes.base.detach())
        weight = batch.read(lambda each: select_weight(each, place, base))
        if read is not None and read.kind != "numbers" and weight.dim() >= base.dim():
            raise ValueError(
                f"padding_mask={place!r} must have the shape of the prediction {tuple(base.shape)} before its last "
                f"dimension, which is read as {read.kind}, got {tuple(weight.shape)}; if it holds time steps, return "
                "(batch, time, 1) from the forward."
            )
        return replace(passes, sample_weight=weight)

    def tell(self, sites: Sequence[MaskSite], name: str, passes: Passes | None) -> None:
        """Say once in a fit where masks act, and what is compared.

        Args:
            sites: where masks act.
            name: the class of the module whose output is compared.
            passes: the passes whose prediction is compared, None where nothing is.
        """
        if self._told:
            return
        self._told = True
        what = "nothing is compared"
        if passes is not None:
            place = place_of(passes.result, self.output, passes.base)
            how = "" if self.comparison is None else f" {self.comparison}"
            what = f"comparing {name} output{place} {tuple(passes.base.shape)}{how}"
        rank_zero_info(f"{type(self).__name__}: {_named(sites)}; {what}")


def _named(sites: Sequence[MaskSite]) -> str:
    """Name sites, without their kind where it is the same for all, and of many the first and the last."""
    names = [site.name for site in sites]
    if len({site.kind for site in sites}) == 1:
        names = [name.rpartition(":")[0] or name for name in names]
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 2], "...", names[-1]]
    return f"{len(sites)} site{'s' * (len(sites) != 1)}: {', '.join(names)}"
