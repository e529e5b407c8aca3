"""Where masks act in a network: sites, finding them, and running a forward under given masks."""

from lightning_advdrop.masking.acting import Acting, Masks, Shift
from lightning_advdrop.masking.coverage import NotCovered, not_covered
from lightning_advdrop.masking.finding import SiteSpecs, check_sites, find_sites
from lightning_advdrop.masking.module_state import ModuleState
from lightning_advdrop.masking.passes import RecordedForward, apply
from lightning_advdrop.masking.random_state import RandomState, isolated
from lightning_advdrop.masking.sites import MaskSite, Observation

__all__ = [
    "Acting",
    "MaskSite",
    "Masks",
    "ModuleState",
    "NotCovered",
    "Observation",
    "RandomState",
    "RecordedForward",
    "Shift",
    "SiteSpecs",
    "apply",
    "check_sites",
    "find_sites",
    "isolated",
    "not_covered",
]
