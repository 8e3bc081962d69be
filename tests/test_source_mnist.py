"""MNIST from idx files: packed or not, downloaded or local, the same file; wrong files refused by name and checksum."""

import gzip
import hashlib
import os
import struct
from pathlib import Path

import pytest
import torch
from local_server import serve
from torchvision.datasets import MNIST

from mixup_modalities.lab import source_mnist
from mixup_modalities.lab.datasets import DataError, load, prepare

TRAIN, TEST, HELD_OUT = 60, 20, 10


def idx(array: torch.Tensor) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.numpy().tobytes()


def fake_files() -> dict[str, bytes]:
    generator = torch.Generator().manual_seed(0)
    files = {}
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        images = torch.randint(256, (count, 28, 28), generator=generator, dtype=torch.uint8)
        files[f"{part}-images-idx3-ubyte"] = idx(images)
        files[f"{part}-labels-idx1-ubyte"] = idx((torch.arange(count) % 10).to(torch.uint8))
    return files


UNPACKED = fake_files()
PACKED = {name + ".gz": gzip.compress(data, mtime=0) for name, data in UNPACKED.items()}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.fixture(autouse=True)
def fake_mnist(monkeypatch):
    monkeypatch.setattr(MNIST, "resources", [(name, md5(data)) for name, data in PACKED.items()])
    monkeypatch.setattr(source_mnist, "UNPACKED", {name: md5(data) for name, data in UNPACKED.items()})
    monkeypatch.setattr(source_mnist, "VALIDATION", HELD_OUT)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("MIXUP_OFFLINE")
    with serve(dict(PACKED)) as running:
        monkeypatch.setattr(MNIST, "mirrors", [running.url])
        monkeypatch.setattr("mixup_modalities.lab.download.time.sleep", lambda seconds: None)
        yield running


def write_all(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def everything_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_download_and_every_local_form_give_the_same_file(server, tmp_path):
    copies = {
        "packed": write_all(tmp_path / "packed", PACKED),
        "unpacked": write_all(tmp_path / "unpacked", UNPACKED),
        "torchvision": write_all(tmp_path / "torchvision/MNIST/raw", PACKED).parents[1],
    }
    bytes_of = {name: prepare("mnist", root=tmp_path / "r", source=path).read_bytes() for name, path in copies.items()}
    bytes_of["download"] = prepare("mnist", root=tmp_path / "download", progress=False).read_bytes()
    assert len(set(bytes_of.values())) == 1
    assert everything_in(tmp_path / "download") == ["mnist.safetensors"]


def test_images_labels_and_splits_are_the_official_ones_in_order(tmp_path):
    prepare("mnist", root=tmp_path / "data", source=write_all(tmp_path / "copy", PACKED))
    data = load("mnist", root=tmp_path / "data", sample=False)
    assert data.card.counts == {"train": TRAIN - HELD_OUT, "validation": HELD_OUT, "test": TEST}
    images = torch.frombuffer(bytearray(UNPACKED["train-images-idx3-ubyte"][16:]), dtype=torch.uint8)
    assert torch.equal(data.full_train.x, images.view(TRAIN, 1, 28, 28))
    assert torch.equal(data.full_train.y, torch.arange(TRAIN) % 10)
    assert torch.equal(data.test.y, torch.arange(TEST) % 10)
    assert data.card.checksums == {name: f"md5:{md5(data)}" for name, data in PACKED.items()}
    assert not data.card.lossy


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-7], lambda data: data[:40] + b"!" + data[41:], lambda data: b"no"]
)
def test_a_damaged_file_is_named_with_both_checksums(server, tmp_path, name, damage):
    wrong = damage(PACKED[name])
    copy = write_all(tmp_path / "copy", PACKED | {name: wrong})
    server.files[name] = wrong
    for source in (copy, None):
        with pytest.raises(DataError) as caught:
            prepare("mnist", root=tmp_path / "data", source=source, progress=False)
        assert name in str(caught.value)
        assert md5(wrong) in str(caught.value)
        assert md5(PACKED[name]) in str(caught.value)
        assert everything_in(tmp_path / "data") == []


def test_a_download_that_breaks_off_leaves_nothing(server, tmp_path):
    name = "train-images-idx3-ubyte.gz"
    server.cuts = [1000] + [0] * 20
    with pytest.raises(DataError, match=f"{name} broke off") as caught:
        prepare("mnist", root=tmp_path, progress=False)
    assert md5(PACKED[name]) in str(caught.value)
    assert md5(PACKED[name][:1000]) in str(caught.value)
    assert everything_in(tmp_path) == []


def test_a_download_that_breaks_once_is_completed(server, tmp_path):
    server.cuts = [1000]
    prepare("mnist", root=tmp_path, progress=False)
    assert not load("mnist", root=tmp_path).is_sample


def test_a_missing_file_is_named(tmp_path):
    files = {name: data for name, data in PACKED.items() if name != "t10k-labels-idx1-ubyte.gz"}
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz .*is not in"):
        prepare("mnist", root=tmp_path / "data", source=write_all(tmp_path / "copy", files))
    assert everything_in(tmp_path / "data") == []


def test_offline_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"MIXUP_OFFLINE is set.*--from"):
        prepare("mnist", root=tmp_path)
    assert everything_in(tmp_path) == []


# A folder with the four real idx files; the tests above stand for it where there is none.
REAL = os.environ.get("MIXUP_TEST_MNIST")

if REAL:

    def test_the_real_mnist(tmp_path, monkeypatch):
        monkeypatch.undo()
        prepare("mnist", root=tmp_path, source=REAL)
        data = load("mnist", root=tmp_path, sample=False)
        assert data.card.counts == {"train": 50_000, "validation": 10_000, "test": 10_000}
        # Class counts as LeCun et al. give them, and the well-known first labels.
        assert data.full_train.y.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        assert data.test.y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        assert data.train.y[:5].tolist() == [5, 0, 4, 1, 9]
        assert data.test.y[:5].tolist() == [7, 2, 1, 0, 4]
        # Mean and deviation that everyone normalises MNIST with.
        x = data.full_train.x.double() / 255
        assert (round(x.mean().item(), 4), round(x.std().item(), 4)) == (0.1307, 0.3081)
