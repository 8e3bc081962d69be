"""Download a file from the first mirror that has it, go on after a broken connection, and verify it by its checksum."""

import hashlib
import http.client
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from mixup_modalities.lab.storage import DataError, Interrupted

CHUNK = 1 << 18
TIMEOUT = 30.0  # seconds without a byte
NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


def checksum(path: Path, algorithm: str) -> str:
    """Return the hexadecimal md5, sha256, ... of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def verify(path: Path, expected: str) -> None:
    """Check a file against a checksum such as "md5:d41d8cd98f00b204e9800998ecf8427e".

    Raises:
        DataError: it differs; the message names the file, its size and both checksums.
    """
    algorithm, _, digest = expected.partition(":")
    found = checksum(path, algorithm)
    if found != digest:
        name, size = path.name.removesuffix(".part"), f"{path.stat().st_size:,} bytes"
        raise DataError(f"{name} ({size}) is not the official file: expected {algorithm} {digest}, got {found}")


def fetch(
    urls: str | Sequence[str],
    target: Path,
    expected: str,
    *,
    progress: bool = True,
    attempts: int = 5,
    pause: float = 1.0,
) -> Path:
    """Download a file.

    Bytes are collected in `target` + ".part" and moved to `target` when they are complete and verified. A `.part` that
    is there already is continued (HTTP range); should the result be wrong, it is fetched once more from the start.

    Args:
        urls: where the file is; further ones are mirrors, tried when one before fails.
        target: where to put it.
        expected: its checksum, "md5:..." or "sha256:...".
        progress: show a progress bar once two seconds have passed.
        attempts: connections to one mirror that may break off in a row without bringing anything new.
        pause: seconds before the second of these connections; doubled before each further one.

    Returns:
        `target`.

    Raises:
        Interrupted: connections broke off; what has arrived stays in the `.part`.
        DataError: `MIXUP_OFFLINE` is set, no mirror has the file, or what they have is wrong; nothing stays.
    """
    if is_offline():
        raise DataError(f"{target.name} has to be downloaded, but MIXUP_OFFLINE is set: unset it, or use --from PATH")
    part, failures = target.with_name(target.name + ".part"), []
    for url in [urls] if isinstance(urls, str) else urls:
        try:
            _fetch_from(url, part, expected, progress, attempts, pause)
            os.replace(part, target)
            return target
        except DataError as error:
            failures.append(f"{urllib.parse.urlsplit(url).netloc}: {error}")
    reasons = "; ".join(failures)
    algorithm, _, digest = expected.partition(":")
    if size := _size(part):
        arrived = f"{size:,} bytes arrived with {algorithm} {checksum(part, algorithm)}, expected {digest}"
        raise Interrupted(f"the download of {target.name} broke off: {arrived} ({reasons})")
    part.unlink(missing_ok=True)
    wanted = f"expected {algorithm} {digest}; a local copy will do: --from PATH"
    raise DataError(f"{target.name} could not be downloaded ({reasons}); {wanted}")


def progress_bar(iterable: Iterable | None = None, *, progress: bool = True, **settings) -> tqdm:
    """Return a progress bar that appears once two seconds have passed, and writes little where it cannot be redrawn."""
    redrawn = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(iterable, delay=2, mininterval=0.1 if redrawn else 10, disable=not progress, **settings)


def is_offline() -> bool:
    """Whether the environment variable `MIXUP_OFFLINE` forbids the network."""
    return os.environ.get("MIXUP_OFFLINE", "0") not in ("", "0")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_from(url: str, part: Path, expected: str, progress: bool, attempts: int, pause: float) -> None:
    """Complete `part` from one mirror, over as many connections as it takes while each brings something new."""
    best, left = _size(part), attempts
    while True:
        resumed = _size(part) > 0
        try:
            _transfer(url, part, progress)
            verify(part, expected)
            return
        except urllib.error.HTTPError as error:
            error.close()
            failure = f"{error.code} {error.reason}"
            if error.code == 416:  # there is no rest: the part is complete, or it is not of this file
                try:
                    return verify(part, expected)
                except DataError:
                    part.unlink()
            elif error.code < 500 and error.code not in (408, 429):
                raise DataError(failure) from error
        except NETWORK_ERRORS as error:
            failure = str(getattr(error, "reason", error))
            if not _size(part):  # never connected: the next mirror is sooner tried than waited for
                raise DataError(failure) from error
        except DataError as error:
            part.unlink()
            if not resumed:
                raise
            failure = str(error)
        left = attempts if _size(part) > best else left - 1
        best = max(best, _size(part))
        if left <= 0:
            raise DataError(failure)
        time.sleep(pause * 2 ** max(attempts - left - 1, 0))


def _transfer(url: str, part: Path, progress: bool) -> None:
    """Append to `part` what it lacks of the file at `url`."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "mixup-modalities", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        if response.status != 206:  # the server sends all of it, asked for the rest or not
            have = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        name = part.name.removesuffix(".part")
        bar = progress_bar(desc=name, total=total, initial=have, unit="B", unit_scale=True, progress=progress)
        with bar, open(part, "ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
    if total is not None and have < total:
        raise ConnectionError(f"the connection closed after {have:,} of {total:,} bytes")
