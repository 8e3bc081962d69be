"""Prepared files: the same bytes every time, damage noticed, errors of the disk explained, nothing left behind."""

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mixup_modalities.lab import storage
from mixup_modalities.lab.storage import DataError, Interrupted, data_root, read, read_metadata, workspace, write

TENSORS = {
    "train.x": torch.arange(24, dtype=torch.uint8).view(2, 1, 3, 4),
    "train.y": torch.tensor([1, -5]),
    "train.waves": torch.tensor([[-32768, 32767, 0]], dtype=torch.int16),
    "train.weights": torch.tensor([0.1, 2.0]),
    "empty": torch.zeros(0, 5, dtype=torch.int64),
}
METADATA = {"source": "Übersee", "licence": "none", "counts": '{"train": 2}'}


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "a.safetensors", TENSORS, METADATA)
    tensors, metadata, sha256 = read(tmp_path / "a.safetensors")
    assert metadata == METADATA
    assert len(sha256) == 64
    torch.testing.assert_close(tensors, TENSORS, rtol=0, atol=0)


def test_the_safetensors_library_reads_it_too(tmp_path):
    write(tmp_path / "a.safetensors", TENSORS, METADATA)
    torch.testing.assert_close(load_file(tmp_path / "a.safetensors"), TENSORS, rtol=0, atol=0)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    write(tmp_path / "a", TENSORS, METADATA)
    write(tmp_path / "b", dict(reversed(TENSORS.items())), dict(reversed(METADATA.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_that_are_views_are_written_as_they_look(tmp_path):
    write(tmp_path / "a", {"x": torch.arange(12).view(3, 4).T}, {})
    assert torch.equal(read(tmp_path / "a")[0]["x"], torch.arange(12).view(3, 4).T)


@pytest.mark.parametrize("position", [0, 30, 150, -1])
def test_one_flipped_byte_is_noticed(tmp_path, position):
    write(tmp_path / "a", TENSORS, METADATA)
    data = bytearray((tmp_path / "a").read_bytes())
    data[position] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path / "a")


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_truncated_file_is_noticed(tmp_path, length):
    write(tmp_path / "a", TENSORS, METADATA)
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:length])
    with pytest.raises(DataError, match="damaged"):
        read_metadata(tmp_path / "a")


def test_tensors_outlive_their_file(tmp_path):
    write(tmp_path / "a", TENSORS, METADATA)
    tensors, _, _ = read(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"")
    torch.testing.assert_close(tensors, TENSORS, rtol=0, atol=0)


def test_fingerprint_depends_on_every_part():
    base = storage.fingerprint({"x": torch.zeros(4)}, {"a": "1"})
    others = [
        storage.fingerprint({"y": torch.zeros(4)}, {"a": "1"}),
        storage.fingerprint({"x": torch.zeros(2, 2)}, {"a": "1"}),
        storage.fingerprint({"x": torch.ones(4)}, {"a": "1"}),
        storage.fingerprint({"x": torch.zeros(4)}, {"a": "2"}),
    ]
    assert len({base, *others}) == 5


def test_data_root_prefers_the_argument_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXUP_DATA", str(tmp_path / "variable"))
    assert data_root(tmp_path / "argument") == tmp_path / "argument"
    assert data_root() == tmp_path / "variable"
    monkeypatch.delenv("MIXUP_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root() == tmp_path / "cache" / "mixup-modalities"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for platform, cache in [("linux", ".cache"), ("darwin", "Library/Caches")]:
        monkeypatch.setattr(sys, "platform", platform)
        assert data_root() == tmp_path / "home" / cache / "mixup-modalities"


def everything_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("error", [None, ValueError("x"), KeyboardInterrupt()])
def test_a_workspace_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)) if error else workspace(tmp_path, "other"), workspace(tmp_path, "set") as folder:
        (folder / "half").write_text("...")
        assert folder.parent == tmp_path
        if error:
            raise error
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("error", [Interrupted("cable pulled"), KeyboardInterrupt(), SystemExit(143)])
def test_a_resumable_workspace_survives_interruption_and_is_found_again(tmp_path, error):
    with pytest.raises(type(error)), workspace(tmp_path, "set", resumable=True) as folder:
        (folder / "half").write_text("...")
        raise error
    with workspace(tmp_path, "set", resumable=True) as folder:
        assert (folder / "half").read_text() == "..."
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("error", [DataError("wrong checksum"), OSError(errno.ENOSPC, "No space left on device")])
def test_a_resumable_workspace_keeps_nothing_that_is_wrong(tmp_path, error):
    with pytest.raises(DataError), workspace(tmp_path, "set", resumable=True) as folder:
        (folder / "half").write_text("...")
        raise error
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EDQUOT, "is full"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "cannot be written"),
        (errno.EIO, "cannot be used"),
    ],
)
def test_errors_of_the_disk_are_explained(tmp_path, code, words):
    with pytest.raises(DataError, match=words) as caught, workspace(tmp_path, "set"):
        raise OSError(code, os.strerror(code))
    assert "MIXUP_DATA" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_where_the_folder_should_be(tmp_path, below):
    (tmp_path / "file").write_text("I am a file")
    with pytest.raises(DataError, match="a file is in the way"), workspace(tmp_path / "file" / below, "set"):
        pass
    assert (tmp_path / "file").read_text() == "I am a file"


HOLD = """
import sys, time
from pathlib import Path
from mixup_modalities.lab.storage import workspace
with workspace(Path(sys.argv[1]), "set") as folder:
    (folder / "half").write_text("...")
    print("holding", flush=True)
    sys.stdin.readline()
"""


def hold(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holding\n"
    return process


def test_a_second_process_waits_for_the_first(tmp_path):
    """Were there no lock, the second workspace would sweep away the first one's folder."""

    def enter():
        with workspace(tmp_path, "set"):
            pass

    with hold(tmp_path) as first, ThreadPoolExecutor(1) as pool:
        second = pool.submit(enter)
        time.sleep(0.3)
        assert not second.done()
        first.communicate("go\n")
        second.result()
    assert first.returncode == 0
    assert everything_in(tmp_path) == []


def test_what_a_killed_process_left_is_swept(tmp_path):
    with hold(tmp_path) as process:
        process.kill()
    assert any(name.endswith("half") for name in everything_in(tmp_path))
    with workspace(tmp_path, "set"):
        pass
    assert everything_in(tmp_path) == []
