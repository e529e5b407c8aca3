"""What somebody said to Weights & Biases: by variables, by `wandb offline`, by logging in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning_advdrop._extras import needed

_HOST = "https://api.wandb.ai"
#: By argument of ``wandb.init``, the environment variable that comes before it.
VARIABLES: Mapping[str, str] = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "group": "WANDB_RUN_GROUP",
    "name": "WANDB_NAME",
    "id": "WANDB_RUN_ID",
    "job_type": "WANDB_JOB_TYPE",
    "notes": "WANDB_NOTES",
    "tags": "WANDB_TAGS",
    "mode": "WANDB_MODE",
}


def from_environment() -> dict[str, Any]:
    """Return the arguments of ``wandb.init`` that environment variables name, see `VARIABLES`.

    Weights & Biases itself reads the variables once in a process.

    Example:
        >>> sorted(set(from_environment()) - set(VARIABLES))
        []
    """
    found: dict[str, Any] = {name: os.environ[each] for name, each in VARIABLES.items() if os.environ.get(each)}
    if "tags" in found:
        found["tags"] = [each.strip() for each in found["tags"].split(",")]
    return found


def chosen_mode(said: str | None = None) -> str | None:
    """Return the mode in which runs are logged; None where Weights & Biases knows it itself.

    Args:
        said: the mode that somebody asked for.

    Raises:
        ValueError: if it is ``online`` and there is no key.
    """
    with needed("Logging to Weights & Biases"):
        import wandb
    if said == "online" and not wandb.login(prompt=False):
        raise ValueError(
            "WANDB_MODE is 'online' but Weights & Biases has no key: run `wandb login` once, set WANDB_API_KEY, or "
            "leave WANDB_MODE unset to log offline (`wandb sync` uploads such runs later)."
        )
    if said is not None or wandb.setup().settings.mode != "online" or has_key():
        return said
    return "offline"


def has_key() -> bool:
    """Return whether somebody is logged in to Weights & Biases; nothing is asked, over the network neither."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    paths = [Path(named)] if named else [Path.home() / name for name in (".netrc", "_netrc")]
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _HOST).netloc
    for path in paths:
        try:
            found = netrc(path).authenticators(host)
        except (OSError, NetrcParseError):
            continue
        if found is not None and found[2]:
            return True
    return False
