"""Curves of a run for TensorBoard: `run NAME --logdir runs`, then `tensorboard --logdir runs`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixup_modalities.lab.errors import LabError

# What `fit` measures, and where TensorBoard shows it: loss beside its floor, accuracies in one panel.
TAGS = {
    "loss": "loss/train",
    "loss_floor": "loss/floor",
    "mixed_train_accuracy": "accuracy/mixed_train",
    "clean_train_accuracy": "accuracy/clean_train",
    "val_accuracy": "accuracy/validation",
    "val_nll": "calibration/validation_nll",
    "val_ece": "calibration/validation_ece",
    "lr": "lr",
}


class Tracker:
    """Writes the last epoch of a state of training, once for each call.

    Args:
        folder: of this run; made if it does not exist.
        description: shown under "text": recipe, data, device.
        first_epoch: of this process, counted from 0. Later points of a run that was killed are replaced.

    Raises:
        LabError: TensorBoard is not installed, or the folder cannot be written.
    """

    def __init__(self, folder: Path, description: str = "", first_epoch: int = 0):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise LabError("--logdir needs TensorBoard: pip install tensorboard") from error
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.writer = SummaryWriter(str(folder), purge_step=first_epoch + 1 if first_epoch else None)
            self.writer.add_text("run", description)
        except OSError as error:
            raise LabError(f"the log cannot be written to {folder} ({error.strerror or error})") from error

    def __call__(self, state: Mapping[str, Any]) -> None:
        """Write the curves' next points; `state` as `fit` gives it to `on_epoch`."""
        row = state["rows"][-1]
        for key, tag in TAGS.items():
            if key in row:
                self.writer.add_scalar(tag, row[key], row["epoch"])

    def close(self) -> None:
        """Finish the file."""
        self.writer.close()
