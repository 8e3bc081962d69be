"""CIFAR from official archives and from image folders: read without trusting a pickle, flagged where it is lossy."""

import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from local_server import serve
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from mixup_modalities.lab import source_cifar
from mixup_modalities.lab.datasets import DataError, load, prepare
from mixup_modalities.lab.source_cifar import restricted_loads

TRAIN, TEST = 200, 100


class Python2Pickler(pickle._Pickler):
    """Writes strings as Python 2 did, which is what the official batches hold."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string


def python2(value) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


def pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(count, 3072), dtype=np.uint8)


def batches(kind) -> dict[str, bytes]:
    files = {}
    for number, (name, _) in enumerate([*kind.train_list, *kind.test_list]):
        count = TRAIN // len(kind.train_list) if number < len(kind.train_list) else TEST
        labels = {b"labels": [row % 10 for row in range(count)]}
        if kind is CIFAR100:
            labels = {b"fine_labels": [row % 100 for row in range(count)], b"coarse_labels": [7] * count}
        files[name] = python2({b"batch_label": b"some", **labels, b"data": pixels(count, number)})
    meta = {b"label_names": [label.encode() for label in source_cifar.CLASSES]}
    if kind is CIFAR100:
        meta = {b"fine_label_names": [b"fine%d" % n for n in range(100)], b"coarse_label_names": [b"fish", b"trees"]}
    files[kind.meta["filename"]] = python2(meta)
    return files


def tar(files: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.fixture(params=["cifar10", "cifar100"])
def official(request, monkeypatch, tmp_path):
    """A tiny set in the official form: its name, archive, and folder of batches, all known to torchvision."""
    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[request.param]
    files = batches(kind)
    archive = tar({f"{kind.base_folder}/{name}": data for name, data in files.items()}, "w:gz")
    monkeypatch.setattr(kind, "tgz_md5", md5(archive))
    monkeypatch.setattr(kind, "train_list", [[name, md5(files[name])] for name, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[name, md5(files[name])] for name, _ in kind.test_list])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(files[kind.meta["filename"]])})
    monkeypatch.setattr(source_cifar, "VALIDATION", 100)
    folder = tmp_path / "copy"
    (folder / kind.base_folder).mkdir(parents=True)
    for name, data in files.items():
        (folder / kind.base_folder / name).write_bytes(data)
    return request.param, kind, archive, folder


def everything_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_download_archive_and_folder_give_the_same_file(official, tmp_path, monkeypatch):
    name, kind, archive, folder = official
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / kind.filename).write_bytes(archive)
    sources = [folder, folder / kind.base_folder, tmp_path / "only", tmp_path / "only" / kind.filename]
    made = [prepare(name, root=tmp_path / "data", source=source).read_bytes() for source in sources]
    monkeypatch.delenv("MIXUP_OFFLINE")
    with serve({kind.filename: archive}) as server:
        # The address stands in the data card, and has to be the same; only the connection goes elsewhere.
        monkeypatch.setattr(source_cifar, "fetch", redirect(source_cifar.fetch, server.url_of(kind.filename)))
        made.append(prepare(name, root=tmp_path / "other", progress=False).read_bytes())
    assert len(set(made)) == 1
    assert everything_in(tmp_path / "other") == [f"{name}.safetensors"]


def redirect(fetch, url):
    return lambda official, *args, **settings: fetch(url, *args, **settings)


def test_official_images_and_labels_are_read_in_order(official, tmp_path):
    name, kind, _, folder = official
    prepare(name, root=tmp_path, source=folder)
    data = load(name, root=tmp_path, sample=False)
    classes = 10 if name == "cifar10" else 100
    count = TRAIN // len(kind.train_list)
    x = np.concatenate([pixels(count, number) for number in range(len(kind.train_list))]).reshape(-1, 3, 32, 32)
    y = torch.arange(TRAIN) % count % classes
    held = torch.zeros(TRAIN, dtype=torch.bool)
    for label in range(classes):
        held[(y == label).nonzero().flatten()[-100 // classes :]] = True
    assert torch.equal(data.train.x, torch.from_numpy(x)[~held])
    assert torch.equal(data.validation.x, torch.from_numpy(x)[held])
    assert torch.equal(data.train.y, y[~held])
    assert torch.equal(data.validation.y, y[held])
    assert torch.equal(data.test.y, torch.arange(TEST) % classes)
    assert data.validation.y.bincount().tolist() == [100 // classes] * classes
    assert len(data.classes) == classes
    assert not data.card.lossy
    assert data.card.checksums == {kind.filename: f"md5:{kind.tgz_md5}"}
    if name == "cifar100":
        assert data.train.extra["coarse"].unique().tolist() == [7]
        assert "fish, trees" in data.card.notes[1]


def test_a_wrong_archive_or_batch_is_named_with_both_checksums(official, tmp_path):
    name, kind, archive, folder = official
    (tmp_path / kind.filename).write_bytes(archive[:-1])
    batch = folder / kind.base_folder / kind.test_list[0][0]
    right = md5(batch.read_bytes())
    batch.write_bytes(python2({b"data": pixels(1, 0)}))
    cases = [(tmp_path / kind.filename, kind.filename, kind.tgz_md5), (folder, batch.name, right)]
    for source, file, expected in cases:
        with pytest.raises(DataError, match=f"{file} .*is not the official file") as caught:
            prepare(name, root=tmp_path / "data", source=source)
        assert expected in str(caught.value)
        found = source if source.is_file() else batch
        assert md5(found.read_bytes()) in str(caught.value)
    batch.unlink()
    with pytest.raises(DataError, match="expected cifar-10" if name == "cifar10" else "expected cifar-100"):
        prepare(name, root=tmp_path / "data", source=folder)
    assert everything_in(tmp_path / "data") == []


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_calls_something_is_refused_and_nothing_is_called(tmp_path, protocol):
    for function, arguments in [(os.mkdir, [str(tmp_path / "owned")]), (eval, ["1"]), (getattr, ["x", "upper"])]:
        with pytest.raises(DataError, match="it is not read"):
            restricted_loads(pickle.dumps({b"data": Evil(function, *arguments)}, protocol))
    assert not (tmp_path / "owned").exists()


def test_arrays_of_objects_and_damage_are_refused():
    with pytest.raises(DataError, match="type 'O8'"):
        restricted_loads(pickle.dumps(np.array([None, {}]), 2))
    with pytest.raises(DataError, match="damaged"):
        restricted_loads(pickle.dumps([1, 2, 3])[:-4])
    with pytest.raises(DataError, match="damaged"):
        restricted_loads(b"cnumpy\nndarray\n(I1\ntR.")  # numpy.ndarray(1)


@pytest.mark.parametrize("write", [python2, lambda value: pickle.dumps(value, 2), pickle.dumps])
def test_what_a_batch_holds_is_read_from_any_protocol(write):
    array = pixels(4, 1)
    loaded = restricted_loads(write({b"labels": [1, 2], b"data": array, b"x": np.float32([1, 2]), b"name": b"caf\xe9"}))
    assert loaded[b"labels"] == [1, 2]
    assert loaded[b"name"] == b"caf\xe9"
    np.testing.assert_array_equal(loaded[b"data"], array)
    assert loaded[b"data"].dtype == np.uint8
    np.testing.assert_array_equal(loaded[b"x"], np.float32([1, 2]))


# --- folders of image files -------------------------------------------------------------------------------------------


def picture(label: int, number: int, suffix: str) -> tuple[np.ndarray, bytes]:
    array = np.full((32, 32, 3), (20 * label, number, 99), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, {"jpg": "JPEG", "png": "PNG"}[suffix])
    return array.transpose(2, 0, 1), buffer.getvalue()


def class_folders(suffix: str, per_class: int) -> dict[str, bytes]:
    names = enumerate(source_cifar.CLASSES)
    return {f"{c}/{n:04}.{suffix}": picture(label, n, suffix)[1] for label, c in names for n in range(per_class)}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(source_cifar, "COUNTS", {"train": 50, "test": 20})
    monkeypatch.setattr(source_cifar, "VALIDATION", 20)


def put(folder: Path, suffix: str, mode: str | None, change: dict[str, bytes | None] | None = None) -> Path:
    for part, per_class in (("train", 5), ("test", 2)):
        files = class_folders(suffix, per_class)
        for name, data in (change or {}).items():
            if data is None:
                files.pop(name, None)
            else:
                files[name] = data
        if mode:
            folder.mkdir(exist_ok=True)
            (folder / f"{part}.tar{mode}").write_bytes(tar(files, f"w:{mode[1:]}"))
        for name, data in {} if mode else files.items():
            (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / part / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("mode", [".xz", ".gz", "", None])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_image_files_are_read_and_flagged(tiny, tmp_path, suffix, mode):
    prepare("cifar10", root=tmp_path / "data", source=put(tmp_path / "copy", suffix, mode))
    data = load("cifar10", root=tmp_path / "data", sample=False)
    assert data.card.lossy == (suffix == "jpg")
    assert data.card.counts == {"train": 30, "validation": 20, "test": 20}
    assert ("lossy copy" in repr(data.announce())) == (suffix == "jpg")
    # Interleaved: image 0 of each class, then image 1 of each; the last two of each class are for validation.
    assert data.train.y.tolist() == list(range(10)) * 3
    expected = np.stack([picture(label, number, suffix)[0] for number in (3, 4) for label in range(10)])
    torch.testing.assert_close(data.validation.x, torch.from_numpy(expected), rtol=0, atol=3 if suffix == "jpg" else 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cat/0001.jpg": None}, "train.tar.xz holds 49 images, but the train set of CIFAR-10 has 50"),
        ({"cow/0000.jpg": picture(0, 0, "jpg")[1]}, "cow/0000.jpg .*class 'cow'"),
        ({"cat/0001.jpg": b"not a picture"}, "cat/0001.jpg .*no readable image"),
        ({"cat/0001.jpg": picture(0, 0, "jpg")[1][:300]}, "cat/0001.jpg .*no readable image"),
    ],
)
def test_wrong_image_files_are_named(tiny, tmp_path, change, message):
    copy = put(tmp_path / "copy", "jpg", ".xz", change)
    with pytest.raises(DataError, match=message):
        prepare("cifar10", root=tmp_path / "data", source=copy, progress=False)
    assert everything_in(tmp_path / "data") == []


def test_an_image_of_another_size_is_named(tiny, tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (28, 28)).save(buffer, "PNG")
    copy = put(tmp_path / "copy", "png", None, {"dog/0000.png": buffer.getvalue()})
    with pytest.raises(DataError, match=r"dog/0000.png .*28 x 28 pixels, but 32 x 32"):
        prepare("cifar10", root=tmp_path / "data", source=copy)


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_a_damaged_tar_is_named(tiny, tmp_path, keep):
    copy = put(tmp_path / "copy", "jpg", ".xz")
    path = copy / "train.tar.xz"
    path.write_bytes(path.read_bytes()[:keep] if keep else b"")
    with pytest.raises(DataError, match=r"train\.tar\.xz is damaged"):
        prepare("cifar10", root=tmp_path / "data", source=copy)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_folder_without_a_copy_says_what_was_expected(tmp_path, name):
    with pytest.raises(DataError, match=r"holds no copy of CIFAR-.*python\.tar\.gz"):
        prepare(name, root=tmp_path / "data", source=tmp_path)
