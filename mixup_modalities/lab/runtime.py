"""Where a run takes place: its random streams, its device, its precision.

Nothing of ours draws from a global RNG. A run's randomness is a handful of generators, each made from the run's seed
and the name of what it is for, so that two runs which differ in one thing share all the others.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from mixup_modalities.lab.errors import LabError


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run a block on a random stream of its own: initial weights, dropout, whatever draws from torch's global RNG.

    Args:
        seed: where the block's stream starts, on the CPU and on `device`.
        device: a CUDA device whose stream is to be set apart too.

    Yields:
        Nothing. Afterwards the global RNGs are in the state they were in before.
    """
    device = torch.device(device)
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


def stream(seed: int, purpose: str, rank: int = 0) -> torch.Generator:
    """Return a CPU generator that depends on the seed, the purpose and the process's rank, and on nothing else.

    Args:
        seed: of the run, not negative.
        purpose: what is drawn from it: "order", "mixup", "noise", ...
        rank: number of the process, where several work on one run.
    """
    if seed < 0 or rank < 0:
        raise ValueError(f"seed and rank must not be negative, got {seed}, {rank}")
    key = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), rank]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(key) >> 1)


def save_streams(streams: dict[str, torch.Generator], device: torch.device) -> dict[str, Tensor]:
    """Return the states of `streams` and of the global RNGs in use, uint8 tensors by name."""
    saved = {name: generator.get_state() for name, generator in streams.items()} | {"global": torch.get_rng_state()}
    return saved | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_streams(saved: dict[str, Tensor], streams: dict[str, torch.Generator], device: torch.device) -> None:
    """Put `streams` and the global RNGs into the states that `save_streams` returned."""
    for name, generator in streams.items():
        generator.set_state(saved[name])
    torch.set_rng_state(saved["global"])
    if device.type == "cuda" and "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"], device)


def pick_device(device: torch.device | str | None = None) -> torch.device:
    """Return `device`, or if `None` the best there is: cuda, then mps, then cpu.

    Raises:
        LabError: nothing can be computed on `device`: its name is wrong, or it or its driver is not there.
    """
    if device is not None:
        try:
            found = torch.device(device)
            torch.ones(1, device=found).item()
        except (RuntimeError, AssertionError) as error:  # the latter from a torch that was built without CUDA
            reason = str(error).partition("\n")[0]
            raise LabError(f"cannot compute on device {str(device)!r} here ({reason})") from error
        return found
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_name(device: torch.device | str) -> str:
    """Return a GPU's name as its maker gives it, else the device's type."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def pick_precision(device: torch.device, precision: str = "auto") -> str:
    """Return "fp32" or "bf16"; "auto" means bf16 on CUDA devices that have it, else fp32."""
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f'precision must be "auto", "fp32" or "bf16", got {precision!r}')
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a forward pass runs at `precision`; does nothing for "fp32"."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
