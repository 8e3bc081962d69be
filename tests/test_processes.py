"""Two real processes at work on one run (gloo): the same weights as one, mixtures of their own, one writer."""

import math
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_processes import conv_net, images, results

from mixup_modalities.__main__ import main
from mixup_modalities.lab import ledger
from mixup_modalities.lab.errors import LabError
from mixup_modalities.lab.metrics import expected_loss_floor
from mixup_modalities.lab.processes import ALONE, Processes, join
from mixup_modalities.lab.training import fit

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What each of two processes ended with, the folder of their ledger, and what they printed."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # `--multi_gpu` names the launcher that starts processes; without a GPU they meet on the CPU.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", port]
    script = Path(__file__).with_name("two_processes.py")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "MIXUP_RESULTS": folder / "results", "MIXUP_CHECKPOINTS": folder / "checkpoints", "MIXUP_OFFLINE": 1,
            "MIXUP_DATA": folder / "no-data", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": 1,
        }.items():  # fmt: skip
            patch.setenv(name, str(value))
        done = subprocess.run([sys.executable, *launch, str(script), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]
    return ranks, folder, done.stdout


@pytest.fixture(scope="module")
def alone():
    return results(ALONE)


def test_without_mixing_the_weights_are_those_of_one_process(pair, alone):
    ranks, *_ = pair
    for rank in ranks:
        for name, value in alone["plain"].items():
            torch.testing.assert_close(rank["plain"][name], value, atol=TOLERANCE, rtol=TOLERANCE)
        assert rank["device"] == "2 x cpu"
        for row, expected in zip(rank["rows"], alone["rows"], strict=True):
            assert row == pytest.approx(expected, abs=TOLERANCE)


def test_both_end_with_the_same_weights_mixed_or_normalised(pair):
    (first, second), *_ = pair
    for name in ("mixed", "normed"):
        assert all(torch.equal(first[name][key], second[name][key]) for key in first[name])
    assert any("running_mean" in key and value.any() for key, value in first["normed"].items())


def test_partners_are_local_and_each_draws_its_own_mixtures(pair, alone):
    (first, second), *_ = pair
    assert [a + b for a, b in zip(first["sizes"], second["sizes"])] == alone["sizes"]  # the batch is the same, split
    shared = set(first["lams"]) & set(second["lams"])
    assert not shared and len(set(second["lams"])) == len(second["lams"])


def test_mixed_losses_have_the_floor_that_local_partners_make(pair, alone):
    """In distribution, as lambdas differ: mean floor over 40 epochs, against theory for parts of 10 rows."""
    (first, _), *_ = pair
    floor = torch.tensor(first["floor"])
    expected = expected_loss_floor(1.0, images().y, 10)
    assert floor.mean().item() == pytest.approx(expected, abs=4 * floor.std().item() / math.sqrt(len(floor)))
    assert torch.tensor(alone["floor"]).std() > 1.1 * floor.std()  # two lambdas a batch average out


def test_streams_of_both_are_in_the_checkpoint(pair, alone):
    (first, second), *_ = pair
    assert len(first["streams"]) == 2 and len(alone["streams"]) == 1
    for a, b in zip(first["streams"], second["streams"]):
        assert torch.equal(a["mixup"], b["mixup"])
    assert torch.equal(first["streams"][0]["order"], first["streams"][1]["order"])
    assert not torch.equal(first["streams"][0]["mixup"], first["streams"][1]["mixup"])


def test_one_process_writes_the_ledger_and_prints(pair, monkeypatch, tmp_path):
    _, folder, out = pair
    row = ledger.read(folder / "results" / "mnist.csv")
    assert len(row) == 1 and row["device"][0] == "2 x cpu"
    assert out.count("mnist-500-0 seed 0") == 1
    monkeypatch.setenv("MIXUP_RESULTS", str(tmp_path))
    options = ["--epochs", "2", "--quiet", "--device", "cpu", "--checkpoints", str(tmp_path / "checkpoints")]
    assert main(["run", "mnist-500-0", *options]) == 0
    expected = ledger.read(tmp_path / "mnist.csv")
    for metric in ("nll", "loss", "val_nll"):
        assert row[metric][0] == pytest.approx(expected[metric][0], rel=1e-4)


def test_one_process_needs_no_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert join() is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LabError, match="several processes need Accelerate"):
        join()


def test_a_batch_too_small_to_split_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least the number of processes, 8, got 4"):
        fit(conv_net(), images(), epochs=1, batch_size=4, progress=False, processes=Processes(0, 8), device="cpu")
