"""Fetching a published file from the first mirror that has it."""

import hashlib
import http.client
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from tqdm import tqdm

_CHUNK = 1 << 18
# Some hosts refuse the default user agent of urllib.
_USER_AGENT = "lightning-advdrop (data set download)"


class DownloadError(RuntimeError):
    """No mirror delivered the file; the message names each one with its reason."""


class _MirrorError(Exception):
    """Why one mirror failed: the next one is tried."""


def check_mirrors(mirrors: Sequence[str]) -> tuple[str, ...]:
    """Check base addresses before anything is fetched from them.

    Args:
        mirrors: Base addresses, each starting with ``http://`` or ``https://``.

    Returns:
        The addresses, each with one slash at its end.

    Raises:
        ValueError: If there is none, if a plain string is given, or if one is no HTTP address.

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


def download(
    target: Path,
    mirrors: Sequence[str],
    checksum: str,
    algorithm: Literal["md5", "sha256"] = "md5",
    timeout: float = 30.0,
) -> Path:
    """Fetch ``target.name`` from the first mirror that delivers it unharmed.

    The bytes go to a temporary name beside ``target``, which takes its place only after the checksum was found right:
    whatever happens, ``target`` is whole or absent, and two processes may fetch it at the same time.

    Args:
        target: Where to put the file; its name is appended to each mirror. Missing folders are made.
        mirrors: Base addresses (``http://`` or ``https://``), tried in this order.
        checksum: Published checksum of the file, hexadecimal.
        algorithm: What the checksum was made with: ``"md5"`` or ``"sha256"``.
        timeout: Seconds to wait for an answer of a mirror, more than 0.

    Returns:
        ``target``.

    Raises:
        ValueError: If ``mirrors`` is empty or holds something that is no HTTP address, or if ``algorithm`` or
            ``timeout`` is out of its range.
        DownloadError: If no mirror delivered the file: it names each mirror with its reason, and where to put the file.
        OSError: If the file cannot be written.

    Example:
        >>> download(Path("labels.gz"), ["labels.org"], checksum="d53e105ee54ea40749a09fcbcd1e9432")
        Traceback (most recent call last):
        ...
        ValueError: mirrors must start with http:// or https://, got 'labels.org'
    """
    addresses = check_mirrors(mirrors)
    if algorithm not in ("md5", "sha256"):
        raise ValueError(f"algorithm must be 'md5' or 'sha256', got {algorithm!r}")
    if timeout <= 0:
        raise ValueError(f"timeout must be more than 0 seconds, got {timeout!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for address in addresses:
        try:
            _fetch(address + target.name, target, checksum.lower(), algorithm, timeout)
        except _MirrorError as error:
            reasons.append(f"  {address}: {error}")
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


def _fetch(url: str, target: Path, checksum: str, algorithm: str, timeout: float) -> None:
    """Fetch one file from one mirror, leaving nothing behind if that fails."""
    # Not tempfile: its files can be read by their owner only, which is wrong in a shared data folder.
    partial = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with partial.open("xb") as file:
            for chunk in _chunks(url, timeout):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != checksum:
            raise _MirrorError(f"wrong {algorithm} checksum: found {digest.hexdigest()}, expected {checksum}")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _chunks(url: str, timeout: float) -> Iterator[bytes]:
    """Yield what an address holds, turning every failure of the network into a reason."""
    request = urllib.request.Request(url, headers={"User-Agent": _USER_AGENT})
    received = 0
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            stated = response.headers.get("Content-Length")
            total = int(stated) if stated and stated.isdigit() else None
            # disable=None: no bar where the output is a file or a pipe.
            with tqdm(total=total, unit="B", unit_scale=True, desc=url.rpartition("/")[2], disable=None) as progress:
                while chunk := response.read(_CHUNK):
                    received += len(chunk)
                    progress.update(len(chunk))
                    yield chunk
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            raise _MirrorError(f"HTTP status {error.code} ({error.reason})") from None
    except urllib.error.URLError as error:
        raise _MirrorError(f"cannot be reached ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorError(f"connection broke after {received} bytes ({error!r})") from error
    # http.client ends a short body like a whole one.
    if total is not None and received != total:
        raise _MirrorError(f"truncated: found {received} bytes, expected {total}")
