"""One safetensors file for each data set: where it lies, how it is written, and how damage is noticed.

The file is written here, header first, and read with the safetensors library. That library keeps metadata in a hash
map and so writes it in another order each time; a prepared file has to be the same, byte for byte, wherever it is made.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from mixup_modalities.lab.errors import LabError

DTYPES = {torch.uint8: "U8", torch.int16: "I16", torch.int64: "I64", torch.float32: "F32"}
CHUNK = 1 << 24

logger = logging.getLogger("mixup_modalities")


class DataError(LabError):
    """A data set is missing, damaged, or could not be prepared; the message says what to do."""


class Interrupted(DataError):
    """A download broke off; what has arrived is sound and worth keeping."""


def data_root(root: str | os.PathLike | None = None) -> Path:
    """Return the folder of prepared data: `root`, else `$MIXUP_DATA`, else the user's cache folder."""
    if root is not None or os.environ.get("MIXUP_DATA"):
        return Path(root if root is not None else os.environ["MIXUP_DATA"]).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        cache = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
    else:
        cache = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    return cache.expanduser() / "mixup-modalities"


def fingerprint(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return a sha256 over metadata and tensors (names, types, shapes, bytes): equal content, equal fingerprint."""
    digest = hashlib.sha256(json.dumps(dict(sorted(metadata.items())), ensure_ascii=False).encode())
    for name, rows in sorted(tensors.items()):
        digest.update(f"{name} {rows.dtype} {tuple(rows.shape)}\n".encode())
        digest.update(_bytes(rows))
    return digest.hexdigest()


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file and force it to disk. The same tensors and metadata give the same bytes."""
    header, end = {"__metadata__": dict(sorted((metadata | {"sha256": fingerprint(tensors, metadata)}).items()))}, 0
    # Wide types first, as the safetensors library does it, so that every tensor starts at a multiple of its item size.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    for name, rows in ordered:
        start, end = end, end + rows.numel() * rows.element_size()
        header[name] = {"dtype": DTYPES[rows.dtype], "shape": list(rows.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, rows in ordered:
            data = _bytes(rows)
            for start in range(0, len(data), CHUNK):
                file.write(data[start : start + CHUNK])
        file.flush()
        os.fsync(file.fileno())


def read_metadata(path: Path) -> dict[str, str]:
    """Return a file's metadata without reading its tensors.

    Raises:
        DataError: the file is damaged, or is not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise DataError(f"{path} is damaged ({error})") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error})") from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Return a file's tensors, metadata and fingerprint, after checking that they are what was written.

    Raises:
        DataError: the file is damaged.
    """
    from safetensors import safe_open

    metadata = read_metadata(path)
    expected = metadata.pop("sha256", "none")
    with safe_open(path, "pt") as file:
        # Tensors of the library are a window on the file: cut the file short, and reading them kills the process.
        tensors = {name: file.get_tensor(name).clone() for name in sorted(file.keys())}
    found = fingerprint(tensors, metadata)
    if found != expected:
        raise DataError(f"{path} is damaged: its content should have sha256 {expected}, but has {found}")
    return tensors, metadata, found


@contextmanager
def locked(path: Path, *, wait: bool = True, notice: str = "") -> Iterator[None]:
    """Hold a lock file. When the process dies, the system lets go of it; at the end it is removed.

    Args:
        path: of the lock file, beside what it protects: all who use that must agree on it.
        wait: for another process that holds it.
        notice: a warning for a user who has waited for a second.

    Raises:
        Timeout: another process holds it, and `wait` is false.
        OSError: the file cannot be made.
    """
    lock = FileLock(path)
    try:
        held = lock.acquire(timeout=1 if wait else 0)
    except Timeout:
        if not wait:
            raise
        if notice:
            logger.warning(notice)
        held = lock.acquire()
    with held:
        try:
            yield
        finally:
            if os.name == "posix":  # while it is held: a waiting process sees that the file is gone, and makes anew
                path.unlink(missing_ok=True)


@contextmanager
def workspace(root: Path, name: str, *, resumable: bool = False) -> Iterator[Path]:
    """Hold the lock on data set `name` under `root`, and give a folder to work in that is removed at the end.

    A second process that prepares the same set waits. What a killed one left behind is removed first. With `resumable`
    the folder is the same each time, and stays if the work was interrupted (a broken connection, Ctrl-C, a kill).

    Raises:
        DataError: the folder cannot be made or written, or the disk is full; the message says which.
    """
    notice = f"another process is preparing {name}: waiting for it"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f".{name}.lock", notice=notice):
            for stale in root.glob(f".{name}.*.tmp"):
                shutil.rmtree(stale)
            folder = root / f".{name}.download"
            if resumable:
                folder.mkdir(exist_ok=True)
            else:
                folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".tmp", dir=root))
            keep = False
            try:
                yield folder
            except (Interrupted, KeyboardInterrupt, SystemExit):
                keep = resumable
                raise
            finally:
                if not keep:
                    shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise DataError(explain(error, root)) from error


def explain(error: OSError, folder: Path) -> str:
    """Return what an error of the file system means for the user, and what to do about it."""
    elsewhere = "choose another folder with the environment variable MIXUP_DATA"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {folder} is full: free some space there, or {elsewhere}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{folder} cannot be written ({error.strerror}): {elsewhere}"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{folder} cannot be made, because a file is in the way: {elsewhere}"
    return f"{folder} cannot be used ({error}): {elsewhere}"


def replace(made: Path, final: Path) -> None:
    """Put a finished file in its place in one step, and force the folder's entry to disk."""
    os.replace(made, final)
    if os.name == "posix":
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _bytes(rows: Tensor) -> memoryview:
    return memoryview(rows.contiguous().numpy()).cast("B") if rows.numel() else memoryview(b"")
