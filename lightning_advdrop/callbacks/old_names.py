"""Old names of arguments and attributes that several callbacks have."""

from __future__ import annotations

from typing import Any

from lightning_advdrop._deprecation import warn_renamed
from lightning_advdrop.masking import SiteSpecs
from lightning_advdrop.regularizers.predictions import Target


def padding_mask_of(callback: Any, padding_mask: Target | None, mask: Target | None) -> Target | None:
    """Return the argument ``padding_mask``, which may have been given under its old name.

    Args:
        callback: named in messages.
        padding_mask: the argument.
        mask: the same under its old name; None where that was not used.

    Raises:
        ValueError: if both are given.
    """
    if mask is None:
        return padding_mask
    warn_renamed(f"The argument 'mask' of {type(callback).__name__}", "'padding_mask'", stacklevel=4)
    if padding_mask is not None:
        raise ValueError(f"padding_mask={padding_mask!r} was given twice, once under its old name mask={mask!r}.")
    return mask


class OldNames:
    """Old names of attributes, with a warning."""

    site_specs: SiteSpecs
    padding_mask: Target | None

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
