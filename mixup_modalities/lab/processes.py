"""Several processes at work on one run.

    accelerate launch --multi_gpu --num_processes 2 -m mixup_modalities run NAME

starts them, on as many GPUs, or where there is none on the CPU (with gloo). `torchrun --nproc_per_node 2` does as well;
`accelerate launch --cpu` starts one process and leaves the rest to mpirun.

Accelerate says which device is whose and carries numbers between them; without it, or with one process, none of it is
imported. The rules, the same for two CPU processes and for eight GPUs:

- All processes build the same weights, and draw the same order of examples from `stream(seed, "order")`. A batch has
  the same rows as in one process, and is split: process r of n takes the r-th of n parts. The effective batch does not
  change with n, nor does the learning rate.
- Mixtures, augmentation and dropout of process r follow from `stream(seed, purpose, rank=r)`: partners are local, from
  the same part of the batch, and each process has lambdas of its own.
- Gradients are averaged with the rows of each part as weights, so they are those of the whole batch.
- Batch norm sees its own part of the batch; its running statistics are averaged after each epoch.
- Process 0 alone writes: ledger, checkpoints, logs, standard output.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mixup_modalities.lab.errors import LabError


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: number of this one.
        size: how many there are.
        accelerator: an `accelerate.Accelerator`; `None` for one process.
    """

    rank: int = 0
    size: int = 1
    accelerator: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def device(self) -> torch.device | None:
        """The device of this process, or `None` if it is free to choose."""
        return None if self.accelerator is None else self.accelerator.device

    @property
    def precision(self) -> str:
        """The precision asked of `accelerate launch`: "bf16", or "auto" if none was."""
        return "bf16" if self.accelerator is not None and self.accelerator.mixed_precision == "bf16" else "auto"

    def shard(self, rows: Tensor) -> Tensor:
        """Return this process's part of the rows of a batch; parts differ by one row at most."""
        return rows if self.size == 1 else rows.tensor_split(self.size)[self.rank]

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        return x if self.size == 1 else self.accelerator.reduce(x, reduction="sum")

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its sum over all processes, in one transfer."""
        if self.size > 1:
            # A parameter that one process did not use has no gradient there: it counts as zero.
            used = [p for p in model.parameters() if p.requires_grad]
            _sum_in_place([torch.zeros_like(p) if p.grad is None else p.grad for p in used], used, self)

    def average_buffers(self, model: nn.Module) -> None:
        """Replace running statistics by their mean over all processes."""
        buffers = [b for b in model.buffers() if b.is_floating_point()] if self.size > 1 else []
        if buffers:
            flat = self.sum(torch.cat([b.flatten() for b in buffers])) / self.size
            for buffer, values in zip(buffers, flat.split([b.numel() for b in buffers])):
                buffer.copy_(values.view_as(buffer))

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        return gather_object([value])

    def share(self, value: Any) -> Any:
        """Return the value of process 0."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]


def _sum_in_place(gradients: list[Tensor], parameters: list[nn.Parameter], processes: Processes) -> None:
    flat = processes.sum(torch.cat([g.flatten() for g in gradients]))
    for parameter, values in zip(parameters, flat.split([g.numel() for g in gradients])):
        parameter.grad = torch.empty_like(parameter).copy_(values.view(parameter.shape))


ALONE = Processes()


def join() -> Processes:
    """Return the processes that `accelerate launch` or `torchrun` started this one with, or `ALONE`.

    Raises:
        LabError: there are several and Accelerate is not installed, or half precision without bfloat16 is asked for.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise LabError("several processes need Accelerate: pip install accelerate") from error
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if accelerator.num_processes != int(os.environ["WORLD_SIZE"]):
        raise LabError(
            f"{os.environ['WORLD_SIZE']} processes were started, but Accelerate joins {accelerator.num_processes}: "
            "each would do the whole run"
        )
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise LabError(f"--mixed_precision must be no or bf16, got {accelerator.mixed_precision}")
    return Processes(accelerator.process_index, accelerator.num_processes, accelerator)
