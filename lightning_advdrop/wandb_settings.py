"""What somebody said to Weights & Biases: by variables, by `wandb offline`, by logging in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning_advdrop._extras import needed

_HOST = "api.wandb.ai"  # the service; recent releases call it by another name, too, and find the keys of both
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
    if said == "online" and not has_key():
        raise ValueError(
            "WANDB_MODE is 'online' but Weights & Biases has no key: run `wandb login` once, set WANDB_API_KEY, or "
            "leave WANDB_MODE unset to log offline (`wandb sync` uploads such runs later)."
        )
    if said is not None or wandb.setup().settings.mode != "online" or has_key():
        return said
    return "offline"


def has_key() -> bool:
    """Return whether somebody is logged in to the server of Weights & Biases; nothing is asked, of the network neither.

    The server is that of ``WANDB_BASE_URL``, else that of ``wandb login --host``, which its settings file remembers.
    """
    with needed("Logging to Weights & Biases"):
        import wandb
    settings = wandb.setup().settings
    if settings.api_key or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    paths = [Path(named).expanduser()] if named else [Path.home() / name for name in (".netrc", "_netrc")]
    hosts = [urlsplit(settings.base_url).netloc, *([_HOST] if settings.base_url == wandb.Settings().base_url else [])]
    for path in paths:
        try:
            known = netrc(path)
        except (OSError, NetrcParseError):
            continue
        if any(found[2] for found in map(known.authenticators, hosts) if found is not None):
            return True
    return False
