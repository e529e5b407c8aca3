"""Downloading a published file from the first mirror that has it."""

from collections.abc import Sequence
from pathlib import Path

from lightning_advdrop._extras import needed
from lightning_advdrop.files import writing


class DownloadError(RuntimeError):
    """Failure of all mirrors; the message names each one with its reason."""


def check_mirrors(mirrors: Sequence[str]) -> tuple[str, ...]:
    """Check base addresses of mirrors.

    Args:
        mirrors: Base addresses, each starting with ``http://`` or ``https://``.

    Returns:
        The addresses, each with one trailing slash.

    Raises:
        ValueError: If there is none, one is no HTTP address, or ``mirrors`` is a string.

    Example:
        >>> check_mirrors(["https://example.org/mnist"])
        ('https://example.org/mnist/',)
    """
    if not isinstance(mirrors, (list, tuple)) or not mirrors:
        raise ValueError(f"mirrors must be a list of at least one base address, got {mirrors!r}")
    for mirror in mirrors:
        if not str(mirror).startswith(("http://", "https://")):
            raise ValueError(f"mirrors must start with http:// or https://, got {mirror!r}")
    return tuple(f"{mirror.rstrip('/')}/" for mirror in mirrors)


def download(target: Path, mirrors: Sequence[str], checksum: str | None, timeout: float = 30.0) -> Path:
    """Download ``target.name`` from the first mirror that delivers it intact.

    The file is written under a temporary name and renamed after its checksum has been verified: ``target`` is complete
    or absent, and two processes may download it at the same time. A ``target`` with the right checksum is kept.

    Args:
        target: Path of the file; its name is appended to each mirror. Missing folders are created.
        mirrors: Base addresses (``http://`` or ``https://``), tried in this order.
        checksum: Published MD5 of the file, hexadecimal. ``None`` if none is published: then the connection must be one
            that nobody can change on the way, ``https://`` or this computer, also where a mirror redirects to.
        timeout: Seconds to wait for an answer of a mirror, more than 0.

    Returns:
        ``target``.

    Raises:
        ValueError: If ``mirrors`` is empty or contains something else than HTTP addresses, or one that neither encrypts
            nor has a checksum, or ``timeout`` is not more than 0.
        DownloadError: If no mirror delivered the file; it names the reason of each, and the path of the file.
        MissingExtraError: If pooch is not installed, which the extra ``data`` brings.
        OSError: If the file cannot be written.

    Example:
        >>> download(Path("labels.gz"), ["labels.org"], checksum="d53e105ee54ea40749a09fcbcd1e9432")
        Traceback (most recent call last):
        ...
        ValueError: mirrors must start with http:// or https://, got 'labels.org'
    """
    addresses = check_mirrors(mirrors)
    with needed(f"Downloading {target.name}"):
        from lightning_advdrop.datamodules.fetching import fetch, is_private
    if checksum is None and (open_ones := [address for address in addresses if not is_private(address)]):
        raise ValueError(f"mirrors must start with https:// where no checksum is known, got {open_ones[0]!r}")
    if not timeout > 0:
        raise ValueError(f"timeout must be more than 0 seconds, got {timeout!r}")
    known_hash = None if checksum is None else f"md5:{checksum}"
    reasons = []
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for address in addresses:
            failure = fetch(address + target.name, target, known_hash, timeout)
            if failure is None:
                return target
            reasons.append(f"  {address}: {failure}")
    raise DownloadError(
        "\n".join(
            [
                f"No mirror delivered {target.name}:",
                *reasons,
                f"Try again later, name other mirrors, or fetch the file by hand and put it at {target}",
            ]
        )
    )
