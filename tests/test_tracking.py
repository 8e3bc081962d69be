"""TensorBoard logs: every curve `fit` measures, under its name, readable again, not doubled by a resumed run."""

import pytest

from mixup_modalities.__main__ import main
from mixup_modalities.lab.errors import LabError
from mixup_modalities.lab.tracking import TAGS, Tracker

ROW = dict.fromkeys(TAGS, 0.5)


def read(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_what_is_written_is_read_again_and_a_resumed_run_replaces_what_was_after_it(tmp_path):
    for first, last in ((0, 3), (2, 4)):
        tracker = Tracker(tmp_path, "toy", first)
        for epoch in range(first + 1, last + 1):
            tracker({"rows": [{**ROW, "epoch": epoch, "loss": epoch + first / 10}]})
        tracker.close()
    found = read(tmp_path)
    assert set(found) == set(TAGS.values())
    assert found["loss/train"] == [(1, 1.0), (2, 2.0), (3, pytest.approx(3.2)), (4, pytest.approx(4.2))]


def test_run_logs_loss_floor_accuracies_and_calibration(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MIXUP_RESULTS", str(tmp_path / "results"))
    options = ["--epochs", "2", "--quiet", "--checkpoints", str(tmp_path / "checkpoints"), "--device", "cpu"]
    assert main(["run", "mnist-500-1", *options, "--logdir", str(tmp_path / "log")]) == 0
    found = read(tmp_path / "log" / "mnist-500-1" / "seed-0")
    assert set(found) == set(TAGS.values())
    assert all([step for step, _ in points] == [1, 2] for points in found.values())
    assert all(loss > floor for (_, loss), (_, floor) in zip(found["loss/train"], found["loss/floor"]))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match=r"the log cannot be written to .*file"):
        Tracker(tmp_path / "file" / "log")
