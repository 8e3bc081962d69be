"""Run by test_processes in two processes: what each of them ends with goes to a file of its own."""

import sys
from pathlib import Path

import torch

from mixup_modalities import ImageMixup
from mixup_modalities.__main__ import main
from mixup_modalities.lab.image_models import PreActResNet
from mixup_modalities.lab.models import ConvNet
from mixup_modalities.lab.processes import Processes, join
from mixup_modalities.lab.runtime import seeded
from mixup_modalities.lab.splits import Split
from mixup_modalities.lab.training import fit

torch.set_num_threads(1)
SETTINGS = {"epochs": 3, "batch_size": 21, "lr": 0.05, "clip_norm": 1.0, "progress": False, "seed": 3}


def images(n: int = 100) -> Split:
    g = torch.Generator().manual_seed(0)
    y = torch.randint(4, (n,), generator=g)
    x = torch.randint(100, (n, 1, 8, 8), generator=g) + 40 * y[:, None, None, None]
    return Split(x.to(torch.uint8), y)


def conv_net() -> ConvNet:
    with seeded(0):
        return ConvNet(4, size=8, width=4)


class Watched(ImageMixup):
    """Remembers each mixture, and how many rows it was drawn for."""

    def __init__(self, alpha: float):
        super().__init__(alpha)
        self.lams: list[float] = []
        self.sizes: list[int] = []

    def forward(self, x, *, generator=None):
        mixed, mixture = super().forward(x, generator=generator)
        self.lams.append(float(mixture.lam))
        self.sizes.append(len(x))
        return mixed, mixture


def results(processes: Processes) -> dict:
    """What one process ends with: weights without mixing, mixtures and the loss floor with, batch norm's statistics."""
    plain, mixed, watched = conv_net(), conv_net(), Watched(1.0)
    history = fit(plain, images(), validation=images(20), processes=processes, **SETTINGS)
    states = []
    fit(plain, images(), processes=processes, on_epoch=states.append, **SETTINGS | {"epochs": 1})
    floors = fit(mixed, images(), mixup=watched, processes=processes, **SETTINGS | {"epochs": 40})
    with seeded(0):
        normed = PreActResNet(4, width=8, blocks=(1,), strides=(1,), channels=1)
    fit(normed, images(), processes=processes, **SETTINGS | {"epochs": 1})
    return {
        "plain": plain.state_dict(), "mixed": mixed.state_dict(), "normed": normed.state_dict(),
        "rows": history.rows, "device": history.device, "floor": floors["loss_floor"], "streams": states[0]["streams"],
        "lams": watched.lams, "sizes": watched.sizes,
    }  # fmt: skip


if __name__ == "__main__":
    processes = join()
    torch.save(results(processes), Path(sys.argv[1]) / f"rank-{processes.rank}.pt")
    sys.exit(main(["run", "mnist-500-0", "--epochs", "2", "--quiet", "--save-every", "0"]))
