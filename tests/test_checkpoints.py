"""Checkpoints: what is saved comes back, nothing half-written stays, damage is refused, killed runs end the same."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mixup_modalities import ImageMixup
from mixup_modalities.__main__ import main
from mixup_modalities.lab import ledger, storage
from mixup_modalities.lab.checkpoints import CheckpointError, Checkpoints, claimed, default_folder, flatten, unflatten
from mixup_modalities.lab.models import ConvNet
from mixup_modalities.lab.runtime import seeded
from mixup_modalities.lab.splits import Split
from mixup_modalities.lab.training import fit

RUN = {"name": "toy", "seed": 0, "lr": 0.1}
# Of a run's row, what depends on the clock; somebody may commit while the test runs.
CLOCK = ["seconds", "commit"]


def images() -> Split:
    g = torch.Generator().manual_seed(0)
    return Split(torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=g), torch.arange(40) % 4)


def train(optimizer="sgd", **options):
    with seeded(0):
        model = ConvNet(4, size=8, width=4)
    settings = {"epochs": 4, "batch_size": 10, "lr": 0.01, "progress": False, "device": "cpu"}
    history = fit(model, images(), mixup=ImageMixup(1.0), optimizer=optimizer, **settings | options)
    return model, history


def state(epoch: int = 1) -> dict:
    return {"epoch": epoch, "model": {"weight": torch.full((3,), float(epoch))}, "rows": [{"loss": 0.1 + 0.2}]}


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "toy", RUN)


def test_what_is_taken_apart_is_put_together():
    before = {"a": [1, 2.5, None, "x", True, {"b": torch.arange(3)}], 7: {"c": torch.tensor(2.0)}, "empty": {}, "l": []}
    tensors, rest = flatten(before)
    after = unflatten(tensors, json.loads(json.dumps(rest)))
    assert after["a"][:5] == before["a"][:5] and list(after) == ["a", 7, "empty", "l"]
    assert torch.equal(after["a"][5]["b"], torch.arange(3)) and torch.equal(after[7]["c"], torch.tensor(2.0))
    assert after["empty"] == {} and after["l"] == []


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_a_run_resumed_from_a_file_ends_bit_identical(checkpoints, optimizer):
    whole, history = train(optimizer)
    train(optimizer, on_epoch=lambda state: checkpoints.save(state) if state["epoch"] <= 2 else None)
    again, resumed = train(optimizer, resume=checkpoints.load())
    assert resumed.rows == history.rows
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_two_are_kept_and_a_new_attempt_replaces_the_old(checkpoints):
    for epoch in (1, 2, 3, 4):
        checkpoints.save(state(epoch))
    assert [path.name for path in checkpoints.paths()] == ["epoch-000003.safetensors", "epoch-000004.safetensors"]
    assert checkpoints.load()["epoch"] == 4 and checkpoints.load("previous")["epoch"] == 3
    checkpoints.save(state(1))  # another attempt, from the beginning
    assert checkpoints.load()["epoch"] == 1
    checkpoints.clear()
    assert checkpoints.load() is None and not checkpoints.folder.exists()


def test_there_is_no_pickle_in_it(checkpoints):
    data = checkpoints.save(state()).read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert {"__metadata__", "/model/weight"} == set(json.loads(data[8 : 8 + length]))
    assert len(data) == 8 + length + 12


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_one_is_refused_and_the_one_before_it_offered(checkpoints, damage):
    for epoch in (1, 2):
        checkpoints.save(state(epoch))
    path = checkpoints.paths()[-1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"cut": data[:-5], "flipped": data, "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=r"epoch-000002.* is damaged .*--resume previous .*epoch-000001"):
        checkpoints.load()
    assert checkpoints.load("previous")["epoch"] == 1
    checkpoints.paths()[0].unlink()
    with pytest.raises(CheckpointError, match="is damaged and was not used: run again without --resume"):
        checkpoints.load()
    with pytest.raises(CheckpointError, match="only one checkpoint"):
        checkpoints.load("previous")


def test_one_of_another_run_is_refused(checkpoints):
    checkpoints.save(state())
    other = Checkpoints(checkpoints.folder, RUN | {"lr": 0.2})
    with pytest.raises(CheckpointError, match=r"of another run \(lr 0.1 instead of 0.2\)"):
        other.load()


def test_a_full_disk_leaves_the_earlier_ones_and_no_half(checkpoints, monkeypatch):
    checkpoints.save(state(1))

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"is full, no checkpoint was written: .*--checkpoints"):
        checkpoints.save(state(2))
    assert [path.name for path in checkpoints.folder.iterdir()] == ["epoch-000001.safetensors"]
    assert checkpoints.load()["epoch"] == 1


def test_a_folder_that_cannot_be_made_stops_the_run_before_it_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MIXUP_RESULTS", str(tmp_path / "results"))
    (tmp_path / "file").write_text("in the way")
    arguments = ["run", "mnist-500-0", "--epochs", "1", "--quiet", "--checkpoints", str(tmp_path / "file")]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and "no checkpoint can be written to" in err and "--checkpoints" in err
    assert not (tmp_path / "results").exists()


def test_a_disk_that_fills_up_in_a_run_leaves_the_ledger_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MIXUP_RESULTS", str(tmp_path / "results"))

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage, "write", full)
    arguments = ["run", "mnist-500-0", "--epochs", "2", "--quiet", "--save-every", "0", "--device", "cpu"]
    assert main([*arguments, "--checkpoints", str(tmp_path / "checkpoints")]) == 1
    assert "is full, no checkpoint was written" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


CLAIM = """
import sys
from pathlib import Path
from mixup_modalities.lab.checkpoints import claimed
with claimed(Path(sys.argv[1]), "it"):
    print("claimed", flush=True)
    sys.stdin.readline()
"""


def test_a_run_belongs_to_one_process_until_it_ends_or_dies(tmp_path):
    folder = tmp_path / "checkpoints" / "toy"
    command = [sys.executable, "-c", CLAIM, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "claimed\n"
        message = "seed 0 of toy is being run by another process"
        with pytest.raises(CheckpointError, match=message), claimed(folder, "seed 0 of toy"):
            pass
        with claimed(folder.with_name("toy-1"), "seed 1 of toy"):
            pass
        other.kill()
    with claimed(folder, "seed 0 of toy"):
        pass
    assert not list(folder.parent.iterdir())


def test_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXUP_CHECKPOINTS", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"
    monkeypatch.delenv("MIXUP_CHECKPOINTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_folder() == tmp_path / "cache" / "mixup-modalities" / "checkpoints"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes, which Windows has not (until 2027-11)")
def test_killed_at_20_random_moments_a_run_ends_as_if_it_never_was(tmp_path):
    script = Path(__file__).with_name("kill_runs.py")
    done = subprocess.run([sys.executable, script, tmp_path, "20"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["killed"] == 20
    whole, killed = (ledger.read(tmp_path / name / "mnist.csv") for name in ("whole", "killed"))
    assert len(whole) == len(killed) == 1
    assert whole.drop(columns=CLOCK).equals(killed.drop(columns=CLOCK))
    assert not list((tmp_path / "checkpoints").iterdir())  # a run in the ledger needs none
