"""Fetching a file from one mirror, by pooch and requests."""

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pooch  # type: ignore[import-untyped]
import requests

_CHUNK = 1 << 18
# Some hosts refuse the default user agents of libraries, and the files are compressed already.
_HEADERS = {"User-Agent": "lightning-advdrop (data set download)", "Accept-Encoding": "identity"}


def is_private(address: str) -> bool:
    """Return whether nobody on the way can change what comes from an address."""
    return address.startswith("https://") or urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")


def fetch(url: str, target: Path, known_hash: str | None, timeout: float) -> str | None:
    """Download one file from one mirror, leaving nothing behind if that fails.

    Args:
        url: Address of the file.
        target: Path of the file, whose folder exists.
        known_hash: Checksum as pooch takes it; ``None`` if none is known.
        timeout: Seconds to wait for an answer, more than 0.

    Returns:
        ``None``, or the reason why the mirror failed.

    Raises:
        OSError: If the file cannot be written.
    """
    try:
        _retrieve(url, target, known_hash, timeout)
    except (ValueError, requests.RequestException) as error:  # pooch reports a wrong checksum as a ValueError
        return _reason(error)
    return None


def _retrieve(url: str, target: Path, known_hash: str | None, timeout: float) -> None:
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
    if response.is_redirect and not is_private(target):
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
