"""The registry: a set is prepared whole or not at all, loaded as it was, and replaced by its sample if need be."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mixup_modalities.lab import datasets, storage
from mixup_modalities.lab.datasets import DataCard, DataError, Dataset, Source, Split, list_datasets, load, prepare


def make(rows: int, title: str) -> Dataset:
    def split(first):
        y = torch.arange(first, first + rows)
        return Split((y * 3 % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4), y % 3)

    card = DataCard(title, f"{rows} rows", "CC0", checksums={"toy.bin": "md5:0"}, notes=("A toy.",))
    return Dataset("toy", split(0), split(rows), split(2 * rows), ("a", "b", "c"), card)


def download(folder: Path, progress: bool) -> None:
    (folder / "toy.txt").write_text("20")


def read(path: Path, progress: bool) -> Dataset:
    return make(int((path / "toy.txt").read_text()), "Toy")


def sample() -> Dataset:
    return make(5, "sample of toy")


TOY = Source("toy", "Toy", "image", "CC0", download, read, sample, download_bytes=2)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(datasets, "_registered", {})
    datasets.register(TOY)


def use(monkeypatch, **changes):
    datasets.register(datasets.replace(TOY, **changes))


def everything_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_prepared_then_loaded(tmp_path, device):
    path = prepare("toy", root=tmp_path)
    assert everything_in(tmp_path) == ["toy.safetensors"]
    data = load("toy", root=tmp_path, device=device)
    expected = make(20, "Toy")
    assert not data.is_sample
    assert data.classes == ("a", "b", "c")
    assert data.card.counts == {"train": 20, "validation": 20, "test": 20}
    for name, split in data.splits.items():
        assert split.device.type == device.type
        assert split.x.dtype == torch.uint8
        assert torch.equal(split.x.cpu(), expected.splits[name].x)
        assert torch.equal(split.y.cpu(), expected.splits[name].y)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["source"] == "20 rows"
    assert metadata["licence"] == "CC0"
    assert metadata["lossy"] == "false"
    assert json.loads(metadata["checksums"]) == {"toy.bin": "md5:0"}
    assert json.loads(metadata["counts"]) == {"train": 20, "validation": 20, "test": 20}
    assert metadata["sha256"] == data.card.sha256


def test_a_local_copy_gives_the_same_file_as_the_download(tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "toy.txt").write_text("20")
    prepare("toy", root=tmp_path / "a")
    prepare("toy", root=tmp_path / "b", source=tmp_path / "copy")
    assert (tmp_path / "a/toy.safetensors").read_bytes() == (tmp_path / "b/toy.safetensors").read_bytes()
    assert everything_in(tmp_path / "copy") == ["toy.txt"]


def test_a_sound_set_is_not_prepared_again_unless_told_to(tmp_path, monkeypatch):
    prepare("toy", root=tmp_path)
    calls = []

    def again(folder, progress):
        calls.append(folder)
        download(folder, progress)

    use(monkeypatch, download=again)
    prepare("toy", root=tmp_path)
    assert calls == []
    prepare("toy", root=tmp_path, force=True)
    assert len(calls) == 1
    (tmp_path / "toy.safetensors").write_bytes(b"rubbish")
    prepare("toy", root=tmp_path)
    assert len(calls) == 2
    load("toy", root=tmp_path, sample=False)


def test_without_the_real_set_the_sample_is_loaded_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "mixup_modalities"):
        data = load("toy", root=tmp_path)
    assert data.is_sample
    assert data.card.counts == {"train": 5, "validation": 5, "test": 5}
    assert "using its offline sample" in caplog.text
    assert "data prepare toy" in caplog.text
    assert not tmp_path.joinpath("toy.safetensors").exists()


def test_in_a_notebook_the_box_replaces_the_log_line(tmp_path, caplog, monkeypatch):
    class Shell:
        kernel = object()

    class IPython:
        get_ipython = staticmethod(lambda: Shell)

    monkeypatch.setitem(sys.modules, "IPython", IPython)
    with caplog.at_level(logging.INFO, "mixup_modalities"):
        assert load("toy", root=tmp_path).is_sample
    assert caplog.text == ""


def test_sample_true_and_false(tmp_path):
    with pytest.raises(DataError, match="run: python -m mixup_modalities data prepare toy"):
        load("toy", root=tmp_path, sample=False)
    prepare("toy", root=tmp_path)
    assert load("toy", root=tmp_path, sample=True).is_sample
    assert not load("toy", root=tmp_path, sample=False).is_sample
    assert not load("toy", root=tmp_path).is_sample


def test_two_loads_share_nothing(tmp_path):
    load("toy", root=tmp_path).train.y.zero_()
    assert load("toy", root=tmp_path).train.y.any()


def test_equal_content_has_an_equal_fingerprint_and_a_sample_has_one_too(tmp_path):
    prepare("toy", root=tmp_path / "a")
    prepare("toy", root=tmp_path / "b")
    a, b = (load("toy", root=tmp_path / name).card.sha256 for name in "ab")
    c, d = (load("toy", root=tmp_path, sample=True).card.sha256 for _ in range(2))
    assert a == b != c == d
    assert len(c) == 64


def test_a_damaged_set_is_refused_with_the_command_that_mends_it(tmp_path):
    path = prepare("toy", root=tmp_path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 255
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged.* python -m mixup_modalities data prepare toy --force"):
        load("toy", root=tmp_path)


@pytest.mark.parametrize("change", [{"format": "0"}, {"name": "other"}])
def test_a_file_of_another_set_or_format_is_refused(tmp_path, change):
    path = prepare("toy", root=tmp_path)
    tensors, metadata, _ = storage.read(path)
    storage.write(path, tensors, metadata | change)
    with pytest.raises(DataError, match=r"holds .* but 'toy', format '1' was expected"):
        load("toy", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("tot", "did you mean toy"), ("Toy", "did you mean toy"), ("zzz", "there are"), ("../toy", "no data set")],
)
def test_an_unknown_name_offers_the_nearest(name, hint, tmp_path):
    for call in (load, prepare):
        with pytest.raises(DataError, match=hint):
            call(name, root=tmp_path)


def test_nothing_at_the_local_path(tmp_path):
    with pytest.raises(DataError, match="there is nothing at"):
        prepare("toy", root=tmp_path, source=tmp_path / "nowhere")


def test_an_unreadable_local_copy_is_not_blamed_on_the_data_folder(tmp_path):
    with pytest.raises(DataError, match=r"copy cannot be read"):
        (tmp_path / "copy").mkdir()
        prepare("toy", root=tmp_path / "data", source=tmp_path / "copy")
    assert everything_in(tmp_path / "data") == []


@pytest.mark.parametrize("where", ["download", "write", "replace"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_says_so_and_harms_nothing(tmp_path, monkeypatch, where, existing):
    if existing:
        prepare("toy", root=tmp_path)
    before = {path: (tmp_path / path).read_bytes() for path in everything_in(tmp_path)}

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "download":
        use(monkeypatch, download=full)
    elif where == "write":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"is full.*MIXUP_DATA"):
        prepare("toy", root=tmp_path, force=True)
    assert {path: (tmp_path / path).read_bytes() for path in everything_in(tmp_path)} == before


def test_a_file_where_the_data_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a file is in the way"):
        prepare("toy", root=tmp_path / "file")
    with pytest.raises(DataError, match="a file is in the way"):
        prepare("toy", root=tmp_path / "file" / "deeper")


@pytest.mark.parametrize("resumable", [False, True])
def test_a_broken_download_keeps_only_what_can_be_resumed(tmp_path, monkeypatch, resumable):
    def broken(folder, progress):
        (folder / "toy.txt.part").write_text("2")
        raise storage.Interrupted("the download of toy.txt broke off")

    use(monkeypatch, download=broken, resumable=resumable)
    with pytest.raises(DataError, match="run the same command again" if resumable else "nothing was kept"):
        prepare("toy", root=tmp_path)
    assert everything_in(tmp_path) == ([".toy.download", ".toy.download/toy.txt.part"] if resumable else [])


IN_ANOTHER_PROCESS = """
import signal, sys
sys.path.insert(0, sys.argv[1])
import test_datasets
from mixup_modalities.__main__ import terminate
from mixup_modalities.lab import datasets

signal.signal(signal.SIGTERM, terminate)

def download(folder, progress):
    test_datasets.download(folder, progress)
    print("downloading", flush=True)
    sys.stdin.readline()

datasets.register(datasets.replace(test_datasets.TOY, download=download))
print(datasets.prepare("toy", root=sys.argv[2]))
"""


def start(root: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(Path(__file__).parent), str(root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_make_one_sound_file(tmp_path):
    with start(tmp_path) as first, start(tmp_path) as second:
        for process in (first, second):
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [first.communicate()[0], second.communicate()[0]]
    assert first.returncode == second.returncode == 0
    assert sum("downloading" in output for output in outputs) == 1
    assert everything_in(tmp_path) == ["toy.safetensors"]
    assert not load("toy", root=tmp_path).is_sample


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killed_in_the_middle_there_is_no_set_and_the_next_run_makes_it(tmp_path, sent):
    with start(tmp_path) as process:
        assert process.stdout.readline() == "downloading\n"
        process.send_signal(sent)
    assert process.returncode != 0
    if sent != signal.SIGKILL:  # which gives no chance to tidy up; the next run does
        assert everything_in(tmp_path) == []
    assert load("toy", root=tmp_path).is_sample
    prepare("toy", root=tmp_path)
    assert everything_in(tmp_path) == ["toy.safetensors"]


def test_the_list_tells_prepared_from_not_prepared_from_damaged(tmp_path):
    def status():
        return {status.name: status for status in list_datasets(tmp_path)}["toy"]

    assert (status().state, status().size, status().licence) == ("not prepared", 2, "CC0")
    path = prepare("toy", root=tmp_path)
    assert (status().state, status().path, status().size) == ("prepared", path, path.stat().st_size)
    assert status().source == "20 rows"
    path.write_bytes(path.read_bytes()[:-1])
    assert status().state == "damaged"


@pytest.mark.parametrize("name", datasets.MODULES)
def test_every_module_named_in_the_registry_keeps_its_promise(name):
    source = datasets.find_source(name)
    assert source.name == name
    assert source.modality in {"image", "audio", "text"}
    assert source.licence
    assert source.download_bytes > 0


@pytest.mark.parametrize("name", datasets.MODULES)
def test_every_sample_is_small_and_sound(name, tmp_path):
    data = load(name, root=tmp_path)
    assert data.is_sample
    assert data.name == name
    assert data.card.licence
    assert 900 <= sum(data.card.counts.values()) <= 10_000
    assert data.validation is not None
    for split in data.splits.values():
        assert set(split.y.tolist()) == set(range(len(data.classes)))
