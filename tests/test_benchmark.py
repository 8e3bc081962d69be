"""The benchmark: what it measures by, that it refuses a wrong contender, and that it counts memory rightly."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from mixup_modalities.__main__ import main
from mixup_modalities.lab import benchmark, benchmark_cases
from mixup_modalities.lab.errors import LabError

CPU = torch.device("cpu")


def test_the_first_contender_is_the_yardstick():
    x = torch.randn(64, 64)
    case = benchmark.Case("copy", {"clone": x.clone, "twice": lambda: (x.clone(), x.clone())}, 2 * 4 * 4096, 4 * 4096)
    copy, twice = benchmark.measure(case, CPU, repeats=3)
    assert copy.ratio == 1
    assert (copy.extra_bytes, twice.extra_bytes) == (1, 2)
    assert copy.gigabytes_per_second == pytest.approx(2 * 4 * 4096 / copy.milliseconds / 1e6)


def test_peak_memory_counts_what_is_held_at_once():
    x = torch.randn(100, 100)
    assert benchmark.peak_memory(lambda: x + 1, CPU) == pytest.approx(x.numel() * 4, rel=0.01)
    assert benchmark.peak_memory(lambda: (x + 1) * (x - 1), CPU) == pytest.approx(3 * x.numel() * 4, rel=0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, y: (x.clone(), y),
        lambda x, y: (0.5 * x + 0.6 * x.roll(1, 0), y),
        lambda x, y: (0.4 * x + 0.3 * x.roll(1, 0) + 0.3 * x.roll(2, 0), y),
    ],
    ids=["copies only", "weights sum to 1.1", "three sources"],
)
def test_a_contender_that_does_not_mix_is_refused(wrong):
    with pytest.raises(AssertionError, match="does not mix"):
        benchmark_cases.check("wrong", wrong)


def test_every_installed_peer_mixes():
    found = benchmark_cases.peers(8)
    assert {"torchvision v2 MixUp", "timm Mixup", "kornia RandomMixUpV2", "Keras 3 MixUp"} <= set(found)
    for name, peer in found.items():
        benchmark_cases.check(name, peer)


@pytest.mark.parametrize(
    "make",
    [
        partial(benchmark_cases.text_case, (4, 6, 8)),
        partial(benchmark_cases.lookup_case, (4, 6, 8)),
        partial(benchmark_cases.step_case, "small conv net", 8),
        partial(benchmark_cases.step_case, "PreAct-ResNet-18", 2),
    ],
)
def test_every_case_runs_and_its_contenders_can_be_called_again(make):
    case = make(CPU)
    for contender in case.contenders.values():
        contender(), contender()
    assert len(case.contenders) > 2 and case.bytes_moved > 0


def test_the_file_holds_numbers_and_provenance(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        benchmark, "cases", lambda suite, device, quick: [benchmark_cases.image_case((8, 3, 4, 4), device)]
    )
    path = tmp_path / "bench.json"
    assert main(["bench", "--repeats", "1", "--device", "cpu", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["provenance"]["versions"]["torch"] == torch.__version__
    assert {"device", "threads", "commit"} <= set(report["provenance"])
    assert report["rows"][0]["contender"] == "clone"
    assert all(row["milliseconds"] > 0 for row in report["rows"])
    assert "ours, roll" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["file/bench.json", "nowhere/bench.json", ""])
@pytest.mark.parametrize("rounds", ["1", "2"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path, monkeypatch, capsys, place, rounds
):
    for name in ("benchmark", "in_new_process"):
        monkeypatch.setattr(benchmark, name, lambda *args, **options: pytest.fail("it began to measure"))
    (tmp_path / "file").touch()
    assert main(["bench", "--device", "cpu", "--rounds", rounds, "--json", str(tmp_path / place)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: --json: {tmp_path / place} cannot be written (") and err.count("\n") == 1


def test_a_device_that_is_not_there_is_refused(capsys):
    assert main(["bench", "--device", "banana"]) == 1
    assert "error: cannot compute on device 'banana' here" in capsys.readouterr().err


def a_round(ratio: float, **changes) -> dict:
    row = {
        "case": "a",
        "contender": "ours",
        "milliseconds": 2 * ratio,
        "ratio": ratio,
        "gigabytes_per_second": 1 / ratio,
    }
    row |= {"extra_bytes": 1.0, "repeats": 5, "low": ratio, "high": ratio}
    return {"provenance": {"device": "cpu"}, "rows": [row]} | changes


def test_rounds_are_pooled_by_their_medians_and_show_their_range():
    report = benchmark.pooled([a_round(1.5), a_round(1.1), a_round(1.2)])
    (row,) = report["rows"]
    assert (row["ratio"], row["low"], row["high"], row["milliseconds"]) == (1.2, 1.1, 1.5, 2.4)
    assert report["rounds"] == 3 and report["provenance"] == {"device": "cpu"}


@pytest.mark.parametrize("changes", [{"provenance": {"device": "cuda"}}, {"rows": []}])
def test_rounds_of_different_things_are_not_pooled(changes):
    with pytest.raises(ValueError, match="same provenance and rows"):
        benchmark.pooled([a_round(1.0), a_round(1.0, **changes)])


def test_rounds_run_in_processes_of_their_own(tmp_path, monkeypatch, capsys):
    found = iter([a_round(1.0), a_round(3.0)])
    monkeypatch.setattr(benchmark, "in_new_process", lambda args, suite: next(found))
    path = tmp_path / "bench.json"
    assert main(["bench", "--suite", "audio", "--rounds", "2", "--json", str(path)]) == 0
    assert json.loads(path.read_text())["rows"][0]["ratio"] == 2.0
    assert "1.00 -  3.00" in capsys.readouterr().out
    assert main(["bench", "--rounds", "0"]) == 1


def test_a_round_that_fails_says_why():
    args = SimpleNamespace(suite="audio", repeats=1, quick=True, device="no such device")
    with pytest.raises(LabError, match="round of the benchmark failed"):
        benchmark.in_new_process(args, "audio")


def test_each_suite_of_a_round_has_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(benchmark, "in_new_process", lambda args, suite: a_round(1.0, rows=[suite]))
    assert benchmark.one_round(SimpleNamespace(suite="all"))["rows"] == ["images", "text", "audio"]
    assert benchmark.one_round(SimpleNamespace(suite="text"))["rows"] == ["text"]
