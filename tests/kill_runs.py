"""Run by test_checkpoints: train in child processes that are killed (SIGKILL), and go on, until one gets to the end.

A child kills itself just before, or in the midst of, the n-th thing that leaves a trace: a step of the optimiser, a
forced write to disk, a file moved to its place, an old file removed. n is random. No handler runs, nothing is flushed.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

import torch

from mixup_modalities.__main__ import main
from mixup_modalities.lab.datasets import load

torch.set_num_threads(1)
moments = 0


def count(fatal: int) -> None:
    global moments
    moments += 1
    if moments == fatal:
        os.kill(os.getpid(), signal.SIGKILL)


def watch(owner, name: str, fatal: int) -> None:
    original = getattr(owner, name)

    def watched(*args, **kwargs):
        count(fatal)
        return original(*args, **kwargs)

    setattr(owner, name, watched)


def child(arguments: list[str], fatal: int) -> bool:
    """Whether a run in a process of its own came to its end."""
    pid = os.fork()
    if pid == 0:
        watch(torch.optim.SGD, "step", fatal)
        for name in ("fsync", "replace", "unlink"):
            watch(os, name, fatal)
        os._exit(main(arguments))
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"a run failed with {os.WEXITSTATUS(status)}")
    return not os.WIFSIGNALED(status)


if __name__ == "__main__":
    load("mnist", sample=True)  # once, for all children
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    command = ["run", "mnist-500-1", "--epochs", "20", "--quiet", "--device", "cpu", "--save-every", "0"]
    command += ["--checkpoints", str(folder / "checkpoints")]
    os.environ["MIXUP_RESULTS"] = str(folder / "whole")
    assert child(command, fatal=0)
    os.environ["MIXUP_RESULTS"] = str(folder / "killed")
    draw, killed, fatal = random.Random(0), 0, 0
    while True:
        # About 14 moments an epoch: some children die before they have saved anything, some get two epochs far.
        fatal = draw.randint(1, 26) if killed < kills else 0
        if child([*command, "--resume"], fatal):
            break
        killed += 1
    print(json.dumps({"killed": killed}))
