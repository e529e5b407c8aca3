"""Where masks act in a network: sites, finding them, and running a forward under given masks."""

from lightning_advdrop.masking.mode import Masks
from lightning_advdrop.masking.module_state import ModuleState
from lightning_advdrop.masking.passes import RecordedForward, apply
from lightning_advdrop.masking.random_state import RandomState, isolated
from lightning_advdrop.masking.sites import MaskSite, check_site_kinds, find_sites

__all__ = [
    "MaskSite",
    "Masks",
    "ModuleState",
    "RandomState",
    "RecordedForward",
    "apply",
    "check_site_kinds",
    "find_sites",
    "isolated",
]
