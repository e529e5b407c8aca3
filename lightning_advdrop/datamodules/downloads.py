"""Downloading a published file from the first mirror that has it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pooch  # type: ignore[import-untyped]
import requests

from lightning_advdrop.files import writing

_CHUNK = 1 << 18
# Some hosts refuse the default user agents of libraries, and the files are compressed already.
_HEADERS = {"User-Agent": "lightning-advdrop (data set download)", "Accept-Encoding": "identity"}


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
        OSError: If the file cannot be written.

    Example:
        >>> download(Path("labels.gz"), ["labels.org"], checksum="d53e105ee54ea40749a09fcbcd1e9432")
        Traceback (most recent call last):
        ...
        ValueError: mirrors must start with http:// or https://, got 'labels.org'
    """
    addresses = check_mirrors(mirrors)
    if checksum is None and (open_ones := [address for address in addresses if not _is_private(address)]):
        raise ValueError(f"mirrors must start with https:// where no checksum is known, got {open_ones[0]!r}")
    if not timeout > 0:
        raise ValueError(f"timeout must be more than 0 seconds, got {timeout!r}")
    known_hash = None if checksum is None else f"md5:{checksum}"
    reasons = []
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for address in addresses:
            try:
                _fetch(address + target.name, target, known_hash, timeout)
            except (ValueError, requests.RequestException) as error:  # pooch reports a wrong checksum as a ValueError
                reasons.append(f"  {address}: {_reason(error)}")
            else:
                return target
    raise DownloadError(
        "\n".join(
            [
                f"No mirror delivered {target.name}:",
                *reasons,
                f"Try again later, name other mirrors, or fetch the file by hand and put it at {target}",
            ]
        )
    )


def _is_private(address: str) -> bool:
    """Tell whether nobody on the way can change what comes from an address."""
    return address.startswith("https://") or urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")


def _fetch(url: str, target: Path, known_hash: str | None, timeout: float) -> None:
    """Download one file from one mirror, leaving nothing behind if that fails."""
    received: list[requests.Response] = []

    def hook(response: requests.Response, **_: Any) -> None:
        received.append(response)
        _keep_compressed(response)
        if known_hash is None:
            _stay_private(response)

    http = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=_CHUNK,
        headers=_HEADERS,
        timeout=timeout,
        hooks={"response": hook},
    )

    def downloader(url: str, temporary: str, manager: Any) -> None:
        # pooch's temporary file is private to its owner, which is wrong in a shared data folder: create it anew.
        Path(temporary).unlink()
        http(url, temporary, manager)

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(url, known_hash, fname=target.name, path=target.parent, downloader=downloader)
    finally:
        for response in received:  # pooch leaves them open if it fails
            response.close()


def _keep_compressed(response: requests.Response) -> None:
    """Keep requests from decompressing a ``.gz`` file that a server declares as encoded."""
    response.raw.headers.discard("Content-Encoding")


def _stay_private(response: requests.Response) -> None:
    """Refuse a redirection to where the file could be changed on the way."""
    target = urljoin(response.url, response.headers.get("Location", ""))
    if response.is_redirect and not _is_private(target):
        raise requests.exceptions.InvalidURL(f"redirects to {target}, where no checksum is known and no https://")


def _reason(error: Exception) -> str:
    """Return the reason why a mirror failed, before the message of the library."""
    if isinstance(error, requests.HTTPError):
        return f"HTTP status {error}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"truncated: {error}"
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return f"cannot be reached, or stopped answering: {error}"
    return str(error)
