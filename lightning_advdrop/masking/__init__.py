"""Mask sites: find them in any module, and run its forward under given masks."""

from lightning_advdrop._deprecation import renamed_attributes
from lightning_advdrop.masking.coverage import NotCovered, not_covered
from lightning_advdrop.masking.finding import SiteSpecs, check_sites, find_sites
from lightning_advdrop.masking.module_state import ModuleState
from lightning_advdrop.masking.observation import Observation
from lightning_advdrop.masking.passes import RecordedForward, apply
from lightning_advdrop.masking.random_state import RandomState, isolated
from lightning_advdrop.masking.site_values import Masks, Perturbation, SiteValue
from lightning_advdrop.masking.sites import MaskSite

__all__ = [
    "MaskSite",
    "Masks",
    "ModuleState",
    "NotCovered",
    "Observation",
    "Perturbation",
    "RandomState",
    "RecordedForward",
    "SiteSpecs",
    "SiteValue",
    "apply",
    "check_sites",
    "find_sites",
    "isolated",
    "not_covered",
]

__getattr__ = renamed_attributes(__name__, {"Acting": "SiteValue", "Shift": "Perturbation"})
