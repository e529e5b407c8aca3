"""Downloading a published file from the first mirror that has it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pooch  # type: ignore[import-untyped]
import requests

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
    if isinstance(mirrors, str) or not mirrors:
        raise ValueError(f"mirrors must be a list of at least one base address, got {mirrors!r}")
    for mirror in mirrors:
        if not mirror.startswith(("http://", "https://")):
            raise ValueError(f"mirrors must start with http:// or https://, got {mirror!r}")
    return tuple(f"{mirror.rstrip('/')}/" for mirror in mirrors)


def download(target: Path, mirrors: Sequence[str], checksum: str | None, timeout: float = 30.0) -> Path:
    """Download ``target.name`` from the first mirror that delivers it intact.

    The file is written under a temporary name and renamed after its checksum has been verified: ``target`` is complete
    or absent, and two processes may download it at the same time. A ``target`` with the right checksum is kept.

    Args:
        target: Path of the file; its name is appended to each mirror. Missing folders are created.
        mirrors: Base addresses (``http://`` or ``https://``), tried in this order.
        checksum: Published MD5 of the file, hexadecimal. ``None`` if none is published: the file is not verified then.
        timeout: Seconds to wait for an answer of a mirror, more than 0.

    Returns:
        ``target``.

    Raises:
        ValueError: If ``mirrors`` is empty or contains something else than HTTP addresses, or ``timeout`` is not more
            than 0.
        DownloadError: If no mirror delivered the file; it names the reason of each, and the path of the file.
        OSError: If the file cannot be written.

    Example:
        >>> download(Path("labels.gz"), ["labels.org"], checksum="d53e105ee54ea40749a09fcbcd1e9432")
        Traceback (most recent call last):
        ...
        ValueError: mirrors must start with http:// or https://, got 'labels.org'
    """
    addresses = check_mirrors(mirrors)
    if timeout <= 0:
        raise ValueError(f"timeout must be more than 0 seconds, got {timeout!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    known_hash = None if checksum is None else f"md5:{checksum}"
    reasons = []
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


def _fetch(url: str, target: Path, known_hash: str | None, timeout: float) -> None:
    """Download one file from one mirror, leaving nothing behind if that fails."""
    http = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=_CHUNK,
        headers=_HEADERS,
        timeout=timeout,
        hooks={"response": _keep_compressed},
    )

    def downloader(url: str, temporary: str, manager: Any) -> None:
        # pooch's temporary file is private to its owner, which is wrong in a shared data folder: create it anew.
        Path(temporary).unlink()
        http(url, temporary, manager)

    pooch.get_logger().setLevel("WARNING")
    pooch.retrieve(url, known_hash, fname=target.name, path=target.parent, downloader=downloader)


def _keep_compressed(response: requests.Response, **_: Any) -> None:
    """Keep requests from decompressing a ``.gz`` file that a server declares as encoded."""
    response.raw.headers.discard("Content-Encoding")


def _reason(error: Exception) -> str:
    """Return the reason why a mirror failed, before the message of the library."""
    if isinstance(error, requests.HTTPError):
        return f"HTTP status {error}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"truncated: {error}"
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return f"cannot be reached, or stopped answering: {error}"
    return str(error)
