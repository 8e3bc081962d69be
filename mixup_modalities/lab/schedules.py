"""Optimizers by name, and the learning rate over the course of a run as a pure function of progress."""

import math
from collections.abc import Callable

import torch

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda params, **kwargs: torch.optim.SGD(params, momentum=0.9, nesterov=True, **kwargs),
    "momentum": lambda params, **kwargs: torch.optim.SGD(params, momentum=0.9, **kwargs),
    "adamw": torch.optim.AdamW,
}
# Share of the peak learning rate at progress t in [0, 1). "step", a tenth after 1/2 and again after 3/4, is the
# schedule of Zhang et al. (2018) for CIFAR.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1 - t,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "step": lambda t: 0.1 ** ((t >= 0.5) + (t >= 0.75)),
}


def learning_rate(schedule: str, t: float, warmup: float = 0.0) -> float:
    """Return the share of the peak learning rate at some point of a run.

    Args:
        schedule: one of `SCHEDULES`.
        t: progress in [0, 1).
        warmup: share of the run, in [0, 1), over which the rate rises linearly from 0; the schedule fills the rest.

    Returns:
        A factor in [0, 1].
    """
    return t / warmup if t < warmup else SCHEDULES[schedule]((t - warmup) / (1 - warmup))
