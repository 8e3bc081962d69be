"""CIFAR-10 and CIFAR-100: the official python archives, or (CIFAR-10) a copy as folders of image files.

The official batches are pickles, and unpickling runs whatever the file says. So the files are verified first, and then
read by an unpickler that knows arrays, lists, numbers and bytes, and nothing that can be called.
"""

import hashlib
import io
import lzma
import pickle
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixup_modalities.lab.datasets import DataCard, DataError, Dataset, Source, Split
from mixup_modalities.lab.download import checksum, fetch, progress_bar, verify
from mixup_modalities.lab.samples import drawn

LICENCE = "none stated"
CITATION = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = {"train": 50_000, "test": 10_000}
VALIDATION = 5_000


@dataclass(frozen=True)
class Archive:
    """The keys under which the batches of one of the two sets hold what we read."""

    title: str
    torchvision: str
    label: bytes
    names: bytes
    coarse: bytes | None = None
    coarse_names: bytes | None = None


ARCHIVES = {
    "cifar10": Archive("CIFAR-10", "CIFAR10", b"labels", b"label_names"),
    "cifar100": Archive(
        "CIFAR-100", "CIFAR100", b"fine_labels", b"fine_label_names", b"coarse_labels", b"coarse_label_names"
    ),
}


def download(name: str, folder: Path, progress: bool) -> None:
    """Fetch the official archive into `folder`."""
    official = _official(name)
    fetch(official.url, folder / official.filename, f"md5:{official.tgz_md5}", progress=progress)


def read(name: str, path: Path, progress: bool) -> Dataset:
    """Make the data set from the official archive, its unpacked folder, or (CIFAR-10) folders of image files.

    Args:
        name: "cifar10" or "cifar100".
        path: the archive; a folder with the archive, or with the unpacked batches; or a folder with `train` and `test`,
            each a folder or a tar file (.tar, .tar.gz, .tar.xz) of `<class>/<number>.jpg` or `.png`.
        progress: show a progress bar.

    Returns:
        The data set. Validation is the last tenth of each class of the official training set (5,000 images in all).
    """
    official = _official(name)
    if path.name == official.filename:
        return _read_official(name, path, progress)
    for folder in (path, path / official.base_folder):
        if (folder / official.filename).is_file():
            return _read_official(name, folder / official.filename, progress)
        if (folder / official.test_list[0][0]).is_file():
            return _read_official(name, folder, progress)
    if name == "cifar10" and path.is_dir() and all(_member(path, part) for part in COUNTS):
        return _read_images(path, progress)
    forms = f"{official.filename}, its unpacked folder {official.base_folder}"
    forms += ", or train and test as folders or tar files of <class>/<number>.jpg" if name == "cifar10" else ""
    raise DataError(f"{path} holds no copy of {ARCHIVES[name].title}: expected {forms}")


def _official(name: str):
    from torchvision import datasets

    return getattr(datasets, ARCHIVES[name].torchvision)


# --- the official batches ---------------------------------------------------------------------------------------------


def _read_official(name: str, path: Path, progress: bool) -> Dataset:
    official, keys = _official(name), ARCHIVES[name]
    meta = (official.meta["filename"], official.meta["md5"])
    wanted = [*official.train_list, *official.test_list, meta]
    if path.is_dir():
        batches = {}
        for file, md5 in wanted:
            if not (path / file).is_file():
                raise DataError(f"{file} is not in {path}")
            verify(path / file, f"md5:{md5}")
            batches[file] = (path / file).read_bytes()
    else:
        verify(path, f"md5:{official.tgz_md5}")
        members = {f"{official.base_folder}/{file}": file for file, _ in wanted}
        bar = progress_bar(_members(path), desc=path.name, progress=progress)
        batches = {members[member]: data for member, data in bar if member in members}
    tables = {file: restricted_loads(data) for file, data in batches.items()}

    def part(files: Iterable[tuple[str, str]]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        chosen = [tables[file] for file, _ in files]
        x = torch.from_numpy(np.concatenate([table[b"data"] for table in chosen])).view(-1, 3, 32, 32)
        y, coarse = (
            torch.tensor([label for table in chosen for label in table[key]]) if key else None
            for key in (keys.label, keys.coarse)
        )
        return x, y, {} if coarse is None else {"coarse": coarse}

    labels = tables[meta[0]]
    notes = []
    if keys.coarse:
        names = ", ".join(label.decode() for label in labels[keys.coarse_names])
        notes = [f"extra['coarse'] holds the superclass, one of: {names}."]
    return _dataset(
        name,
        part(official.train_list),
        part(official.test_list),
        tuple(label.decode() for label in labels[keys.names]),
        source=f"the official python archive, {official.url}",
        checksums={official.filename: f"md5:{official.tgz_md5}"},
        notes=notes,
    )


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): _array,
            ("numpy._core.multiarray", "_reconstruct"): _array,
            ("numpy", "ndarray"): None,  # an argument of _reconstruct; it is not to be called
            ("numpy", "dtype"): _dtype,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in allowed:
            raise DataError(f"a batch file asks for {module}.{name}, which no batch of CIFAR needs: it is not read")
        return allowed[module, name]


def _array(kind: None, shape: tuple, code: bytes) -> np.ndarray:
    return np.empty(0, np.int8)  # as every pickled array starts; its shape, type and bytes follow


def _dtype(code: str | bytes, *flags: int) -> np.dtype:
    code = code.decode() if isinstance(code, bytes) else code
    if not re.fullmatch("[biuf][1248]", code):
        raise DataError(f"a batch file holds numbers of type {code!r}, which no batch of CIFAR does: it is not read")
    return np.dtype(code, copy=True)


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin1")  # how pickles of protocol 2 spell bytes


def restricted_loads(data: bytes) -> object:
    """Return what a pickle holds, if that is made of arrays, lists, dicts, numbers, strings and bytes.

    Raises:
        DataError: it asks for anything else, or is damaged.
    """
    try:
        return _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError) as error:
        raise DataError(f"a batch file is damaged ({error})") from error


# --- folders of image files -------------------------------------------------------------------------------------------


def _member(folder: Path, part: str) -> Path | None:
    places = [folder / part, *(folder / f"{part}{suffix}" for suffix in (".tar.xz", ".tar.gz", ".tgz", ".tar"))]
    return next((place for place in places if place.exists()), None)


def _read_images(folder: Path, progress: bool) -> Dataset:
    parts, checksums, suffixes = {}, {}, set()
    for part, count in COUNTS.items():
        place = _member(folder, part)
        rows, digest = [], hashlib.sha256()
        files = _files(place) if place.is_dir() else _members(place)
        for path, data in progress_bar(files, desc=place.name, total=count, progress=progress):
            *_, label, file = ("", *path.split("/"))
            if not re.fullmatch(r"[^.].*\.(jpg|jpeg|png)", file, re.IGNORECASE):
                continue
            if label not in CLASSES:
                raise DataError(f"{path} in {place} is of class {label!r}, but CIFAR-10 has {', '.join(CLASSES)}")
            rows.append((file, CLASSES.index(label), _decode(data, f"{path} in {place}")))
            digest.update(f"{label}/{file}\n".encode() + hashlib.sha256(data).digest())
            suffixes.add(Path(file).suffix.lower())
        if len(rows) != count:
            raise DataError(f"{place} holds {len(rows):,} images, but the {part} set of CIFAR-10 has {count:,}")
        # The first image of each class, then the second of each, ...: sorted by class, any prefix would be one class.
        rows.sort(key=lambda row: row[:2])
        x = torch.from_numpy(np.stack([pixels for _, _, pixels in rows]))
        parts[part] = (x, torch.tensor([label for _, label, _ in rows]), {})
        checksums[place.name] = f"sha256:{digest.hexdigest()}" if place.is_dir() else f"md5:{checksum(place, 'md5')}"
    lossy = suffixes != {".png"}
    kind = "JPEG files (lossy)" if lossy else "PNG files"
    notes = [f"A copy as {kind}, not verified against the official archive; the official order of images is lost."]
    if lossy:
        notes.append("Pixels differ from the official ones: accuracies do not compare with published ones.")
    source = f"a copy as {kind} in class folders"
    return _dataset("cifar10", parts["train"], parts["test"], CLASSES, source, checksums, notes, lossy)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.glob("*/*")):
        yield path.relative_to(folder).as_posix(), path.read_bytes()


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Give the name and the bytes of each file in a tar; nothing is unpacked to disk."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, archive.extractfile(member).read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise DataError(f"{path} is damaged or no tar file ({error})") from error


def _decode(data: bytes, where: str) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.size != (32, 32):
                raise DataError(f"{where} has {image.width} x {image.height} pixels, but 32 x 32 were expected")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{where} is no readable image ({error})") from error


def _dataset(name, train, test, classes, source, checksums, notes, lossy=False) -> Dataset:
    x, y, extra = train
    held = torch.zeros(len(y), dtype=torch.bool)
    for label in range(len(classes)):
        rows = (y == label).nonzero().flatten()
        held[rows[len(rows) - VALIDATION // len(classes) :]] = True
    everything = Split(x, y, extra=extra)
    notes = (f"Validation is the last {VALIDATION // len(classes)} training images of each class.", *notes)
    card = DataCard(ARCHIVES[name].title, source, LICENCE, CITATION, checksums, lossy, notes)
    training, validation = everything.take((~held).nonzero().flatten()), everything.take(held.nonzero().flatten())
    return Dataset(name, training, validation, Split(test[0], test[1], extra=test[2]), classes, card)


SOURCES = [
    Source(
        name,
        keys.title,
        "image",
        LICENCE,
        partial(download, name),
        partial(read, name),
        partial(drawn, name),
        download_bytes=size,
        resumable=True,
    )
    for (name, keys), size in zip(ARCHIVES.items(), (170_498_071, 169_001_437))
]
