"""MNIST: 70,000 handwritten digits, from torchvision's mirrors or a local copy of the four idx files."""

import gzip
import struct
from pathlib import Path

import numpy as np
import torch

from mixup_modalities.lab.datasets import DataCard, DataError, Dataset, Source, Split
from mixup_modalities.lab.download import fetch, verify
from mixup_modalities.lab.samples import digits

LICENCE = "CC BY-SA 3.0"
VALIDATION = 10_000
# md5 of the unpacked files; those of the archives are torchvision's.
UNPACKED = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def download(folder: Path, progress: bool) -> None:
    """Fetch the four archives into `folder`."""
    from torchvision.datasets import MNIST

    for name, md5 in MNIST.resources:
        fetch([mirror + name for mirror in MNIST.mirrors], folder / name, f"md5:{md5}", progress=progress)


def read(path: Path, progress: bool) -> Dataset:
    """Make the data set from a folder with the four idx files, packed (.gz) or not.

    Training images are the first 50,000 of the official training set, validation its last 10,000.
    """
    from torchvision.datasets import MNIST

    archives = dict(MNIST.resources)
    arrays = {name.removesuffix(".gz"): _read_idx(path, name, md5) for name, md5 in archives.items()}
    x, y = (torch.from_numpy(arrays[f"train-{part}-ubyte"]) for part in ("images-idx3", "labels-idx1"))
    test_x, test_y = (torch.from_numpy(arrays[f"t10k-{part}-ubyte"]) for part in ("images-idx3", "labels-idx1"))
    cut = len(y) - VALIDATION
    card = DataCard(
        title="MNIST",
        source=f"{len(y) + len(test_y):,} images from the official idx files",
        licence=LICENCE,
        citation="Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST database of handwritten digits, 1998",
        checksums={name: f"md5:{md5}" for name, md5 in sorted(archives.items())},
        notes=(f"Validation is the last {len(y) - cut:,} of the {len(y):,} official training images.",),
    )
    return Dataset(
        "mnist",
        train=Split(x[:cut, None], y[:cut].long()),
        validation=Split(x[cut:, None], y[cut:].long()),
        test=Split(test_x[:, None], test_y.long()),
        classes=tuple("0123456789"),
        card=card,
    )


def _read_idx(folder: Path, archive: str, md5: str) -> np.ndarray:
    """Return the array of one idx file, packed or unpacked, in `folder` or where torchvision puts it below."""
    bare = archive.removesuffix(".gz")
    for place in (folder, folder / "raw", folder / "MNIST" / "raw"):
        for name, expected in ((archive, md5), (bare, UNPACKED[bare])):
            if (place / name).is_file():
                verify(place / name, f"md5:{expected}")
                data = (place / name).read_bytes()
                return _parse_idx(gzip.decompress(data) if name == archive else data, bare)
    raise DataError(f"{archive} (or {bare}) is not in {folder}: the four idx files of MNIST are needed")


def _parse_idx(data: bytes, name: str) -> np.ndarray:
    kind, rank = data[2], data[3]
    if kind != 8:
        raise DataError(f"{name} holds idx type {kind}, but 8 (unsigned bytes) was expected")
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()


SOURCE = Source("mnist", "MNIST", "image", LICENCE, download, read, digits, download_bytes=11_594_722)
