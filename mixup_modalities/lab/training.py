"""The training bench: `fit` and `evaluate`, for images, sound and text alike.

One step is the same for every modality (`mixed_forward`):

    *h, mixture = mixup(*as_tuple(model.embed(x)), generator=generator)
    loss = mixup_cross_entropy(model.classify(*h), y, mixture)

Data live on the device as plain tensors. Nothing is read from the global RNG and nothing is left in it: order, mixtures
and dropout each have a stream that follows from `seed`. On one CPU with the same number of threads the same seed gives
the same run, bit for bit; and two runs that differ in `mixup` alone see the same batches in the same order.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mixup_modalities.lab import runtime
from mixup_modalities.lab.metrics import Metrics, entropy, mixed_accuracy, score
from mixup_modalities.lab.processes import ALONE, Processes
from mixup_modalities.lab.runtime import seeded, stream
from mixup_modalities.lab.schedules import OPTIMIZERS, SCHEDULES, learning_rate
from mixup_modalities.losses import mixup_cross_entropy
from mixup_modalities.mixture import Mixture


class Examples(Protocol):
    """What `fit` and `evaluate` read of a `Split`: raw inputs `x` `(N, ...)` and int64 labels `y` `(N,)`."""

    x: Tensor
    y: Tensor


@dataclass
class History:
    """What `fit` measured.

    Attributes:
        rows: one dict for each epoch: epoch, lr, loss, loss_floor, mixed_train_accuracy; and where evaluated
            clean_train_accuracy, val_accuracy, val_nll, val_ece.
        seconds: wall-clock time of training, evaluation included.
        device: its name, such as "cpu" or "NVIDIA H200".
        precision: "fp32" or "bf16".
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    device: str = ""
    precision: str = ""

    def __getitem__(self, key: str) -> list[float]:
        """Return a column, NaN where an epoch has no such value."""
        if not any(key in row for row in self.rows):
            raise KeyError(f"{key!r} was not measured; there are {sorted(set().union(*self.rows))}")
        return [row.get(key, math.nan) for row in self.rows]

    @property
    def final(self) -> dict[str, float]:
        """The last epoch's row."""
        return self.rows[-1]


def as_tuple(h: Tensor | tuple) -> tuple:
    """Return what `embed` gave as a tuple."""
    return h if isinstance(h, tuple) else (h,)


def mixed_forward(model: nn.Module, x: Tensor, mixup: Callable | None, generator: torch.Generator):
    """Embed, mix, classify.

    Args:
        model: has `embed`, `classify` and `forward`.
        x: raw batch `(B, ...)`.
        mixup: `mixup(*features, generator=generator)` returns the mixed features and the `Mixture`; `None` for ERM.
        generator: the CPU stream that mixtures are drawn from.

    Returns:
        Logits `(B, C)` and the `Mixture`.
    """
    if mixup is None:
        return model(x), Mixture.identity(len(x), device=x.device)
    *h, mixture = mixup(*as_tuple(model.embed(x)), generator=generator)
    return model.classify(*h), mixture


@torch.no_grad()
def predict(
    model: nn.Module,
    x: Tensor,
    *,
    batch_size: int = 512,
    device: torch.device | str | None = None,
    precision: str = "auto",
) -> Tensor:
    """Return a model's logits without mixing, float32 `(N, C)` on the CPU.

    Args:
        model: called as `model(x)`, in eval mode; its mode is restored. It is moved to `device`.
        x: raw inputs `(N, ...)`.
        batch_size: rows at a time.
        device: default: where the model's parameters are.
        precision: "fp32", "bf16", or "auto": bf16 autocast on CUDA, else fp32.
    """
    device = next(model.parameters()).device if device is None else torch.device(device)
    was_training = model.training
    model.to(device).eval()
    try:
        with runtime.autocast(device, runtime.pick_precision(device, precision)):
            parts = [model(rows.to(device)).float() for rows in x.split(batch_size)]
    finally:
        model.train(was_training)
    return torch.cat(parts).cpu()


def evaluate(
    model: nn.Module,
    split: Examples,
    *,
    batch_size: int = 512,
    device: torch.device | str | None = None,
    precision: str = "auto",
    num_bins: int = 15,
) -> Metrics:
    """Return accuracy, NLL and ECE of a model on a split, unmixed; arguments as for `predict` and `metrics.score`."""
    logits = predict(model, split.x, batch_size=batch_size, device=device, precision=precision)
    return score(logits, split.y.cpu(), num_bins)


def fit(
    model: nn.Module,
    train: Examples,
    *,
    mixup: Callable | None = None,
    epochs: int,
    batch_size: int = 64,
    lr: float = 0.05,
    optimizer: str = "sgd",
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    warmup: float = 0.0,
    clip_norm: float | None = None,
    label_smoothing: float = 0.0,
    seed: int = 0,
    alpha: Callable[[float], float] | None = None,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    forward: Callable = mixed_forward,
    loss_fn: Callable[[Tensor, Tensor, Mixture], Tensor] | None = None,
    validation: Examples | None = None,
    evaluate_every: int = 1,
    device: torch.device | str | None = None,
    precision: str = "auto",
    compiler: str | None = None,
    progress: bool = True,
    on_epoch: Callable[[dict], Any] | None = None,
    resume: dict | None = None,
    processes: Processes = ALONE,
) -> History:
    """Train a classifier, with or without mixup.

    Args:
        model: has `embed`, `classify`, `forward` (see `lab.models`). Trained in place, left on `device`, in eval mode.
        train: `x` `(N, ...)`, `y` int64 `(N,)`.
        mixup: `ImageMixup(...)` or its like, see `mixed_forward`; `None` for plain training (ERM).
        epochs: passes over `train`.
        batch_size: rows a step, at most; an epoch is cut into batches of equal size, give or take one row, so that no
            small rest is left over.
        lr: peak learning rate.
        optimizer: "sgd" (Nesterov momentum 0.9), "momentum" (0.9, not Nesterov's) or "adamw".
        weight_decay: on all parameters.
        schedule: "cosine", "linear", "step" or "constant"; "cosine" with `warmup` is the one-cycle schedule.
        warmup: share of all steps in which the rate rises from zero, in [0, 1).
        clip_norm: largest norm of the gradient, or `None`.
        label_smoothing: as in `torch.nn.functional.cross_entropy`, after mixing; the loss floor counts it.
        seed: of order, mixtures, augmentation and dropout. (Initial weights: build the model inside `seeded`.)
        alpha: alpha at progress t in [0, 1), for `mixup.set_alpha`, set at the start of each epoch.
        augment: `augment(x, generator)`, on raw batches on the device.
        forward: replaces `mixed_forward` where mixing is not between `embed` and `classify`.
        loss_fn: `loss_fn(logits, y, mixture)` returns a scalar; default `mixup_cross_entropy` with `label_smoothing`.
        validation: measured along with `train`.
        evaluate_every: epochs between measurements of clean-train accuracy and validation; 0: only after the last.
        device: default: cuda, then mps, then cpu.
        precision: "fp32", "bf16", or "auto": bf16 autocast on CUDA, else fp32. Labels and loss stay in float32.
        compiler: compile `classify` with this backend of `torch.compile`, such as "inductor"; `None`: do not.
        progress: show a bar.
        on_epoch: called after each epoch with the state of training (a dict that aliases live tensors: copy or write it
            before returning); `resume` takes it.
        resume: such a state. The run goes on where it was left, and on the CPU ends bit-identical.
        processes: of `processes.join()`, where several work on one run; each calls `fit` with the same arguments.

    Returns:
        The `History`. Its `loss_floor` is the mean entropy of the mixed labels, below which no training loss can fall;
        `clean_train_accuracy` is measured on unmixed, unaugmented training rows against the labels given.

    Raises:
        ValueError: an argument out of range; the message names it.
        FloatingPointError: the loss is no longer finite.
    """
    _check(train, epochs, batch_size, lr, optimizer, schedule, warmup, evaluate_every)
    start, device = time.perf_counter(), processes.device or runtime.pick_device(device)
    rank = processes.rank
    precision = runtime.pick_precision(device, precision)
    model.to(device).train()
    for module in (m for m in (mixup, augment) if isinstance(m, nn.Module)):
        module.to(device).train()
    x, y = train.x.to(device), train.y.to(device)
    optim = OPTIMIZERS[optimizer](model.parameters(), lr=lr, weight_decay=weight_decay)
    streams = {"order": stream(seed, "order")}
    streams |= {purpose: stream(seed, purpose, rank) for purpose in ("mixup", "augment")}
    many = f"{processes.size} x " if processes.size > 1 else ""
    history, first = History(device=many + runtime.device_name(device), precision=precision), 0
    steps = math.ceil(len(y) / batch_size)
    if len(y) // steps < processes.size:
        raise ValueError(f"batch_size must be at least the number of processes, {processes.size}, got {batch_size}")

    with seeded(int(stream(seed, "dropout", rank).initial_seed()), device), compiled(model, compiler):
        if resume is not None:
            first, history.rows, history.seconds = resume["epoch"], list(resume["rows"]), resume["seconds"]
            model.load_state_dict(resume["model"])
            optim.load_state_dict(resume["optimizer"])
            for parameter, buffers in optim.state.items():  # channels-last, as they were
                for key, value in buffers.items():
                    if value.shape == parameter.shape:
                        buffers[key] = torch.empty_like(parameter).copy_(value)
            runtime.restore_streams(resume["streams"][rank], streams, device)
        before = history.seconds
        bar = tqdm(range(first, epochs), initial=first, total=epochs, disable=not progress, unit="epoch")
        for epoch in bar:
            if alpha is not None and mixup is not None:
                mixup.set_alpha(alpha(epoch / epochs))
            order = torch.randperm(len(y), generator=streams["order"]).to(device, non_blocking=True)
            total = torch.zeros(3, device=device)
            for step, batch in enumerate(order.tensor_split(steps)):
                rows = processes.shard(batch)
                rate = lr * learning_rate(schedule, (epoch * steps + step + 0.5) / (epochs * steps), warmup)
                for group in optim.param_groups:
                    group["lr"] = rate
                xb, yb = x[rows], y[rows]
                if augment is not None:
                    xb = augment(xb, streams["augment"])
                with runtime.autocast(device, precision):
                    logits, mixture = forward(model, xb, mixup, streams["mixup"])
                logits = logits.float()
                if loss_fn is None:
                    loss = mixup_cross_entropy(logits, yb, mixture, label_smoothing=label_smoothing)
                else:
                    loss = loss_fn(logits, yb, mixture)
                optim.zero_grad(set_to_none=True)
                (loss if len(rows) == len(batch) else loss * (len(rows) / len(batch))).backward()
                processes.sum_gradients(model)
                if clip_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
                optim.step()
                with torch.no_grad():
                    targets = mixture.targets(yb, logits.shape[1])
                    smooth = torch.lerp(targets, torch.full_like(targets, 1 / targets.shape[1]), label_smoothing)
                    sums = torch.stack([loss, entropy(smooth).mean(), mixed_accuracy(logits, targets)])
                    total += sums * (len(rows) / len(y))
            # One transfer for the whole epoch: the loop above never waits for the device.
            total = processes.sum(total)
            processes.average_buffers(model)
            row = {"epoch": epoch + 1, "lr": rate}
            row |= dict(zip(("loss", "loss_floor", "mixed_train_accuracy"), total.tolist()))
            if not math.isfinite(row["loss"]):
                raise FloatingPointError(
                    f"the loss is {row['loss']} in epoch {epoch + 1}: lower lr (now {lr:g}) or set clip_norm"
                )
            if epoch + 1 == epochs or (evaluate_every and (epoch + 1) % evaluate_every == 0):
                guess = predict(model, x, precision=precision).argmax(1)
                row["clean_train_accuracy"] = (guess == y.cpu()).double().mean().item()
                if validation is not None:
                    metrics = evaluate(model, validation, precision=precision)
                    row |= {f"val_{name}": getattr(metrics, name) for name in ("accuracy", "nll", "ece")}
            history.rows.append(row)
            history.seconds = before + time.perf_counter() - start
            shown = [key for key in ("loss", "loss_floor", "val_accuracy") if key in row]
            bar.set_postfix({key: f"{row[key]:.3f}" for key in shown}, refresh=False)
            if on_epoch is not None:
                state = {"epoch": epoch + 1, "rows": history.rows, "seconds": history.seconds}
                state |= {"model": model.state_dict(), "optimizer": optim.state_dict()}
                on_epoch(state | {"streams": processes.gather(runtime.save_streams(streams, device))})
    model.eval()
    return history


@contextmanager
def compiled(model: nn.Module, backend: str | None) -> Iterator[None]:
    """Run a block with `model.classify` compiled by a backend of `torch.compile`; `None` leaves it alone."""
    if backend is None:
        yield
        return
    model.classify = torch.compile(model.classify, backend=backend)
    try:
        yield
    finally:
        del model.classify  # the method of its class is what remains


def _check(train, epochs, batch_size, lr, optimizer, schedule, warmup, evaluate_every) -> None:
    if not isinstance(train.x, Tensor) or train.y.dtype != torch.int64 or train.y.ndim != 1:
        raise ValueError("train must hold a tensor x (N, ...) and int64 labels y (N,); turn texts into token ids first")
    if len(train.x) != len(train.y) or len(train.y) == 0:
        raise ValueError(
            f"train must have as many rows in x as in y, and at least one, got {len(train.x)}, {len(train.y)}"
        )
    if epochs < 1 or batch_size < 1 or evaluate_every < 0:
        raise ValueError(
            "epochs and batch_size must be at least 1 and evaluate_every at least 0, "
            f"got {epochs}, {batch_size}, {evaluate_every}"
        )
    if not (lr > 0 and math.isfinite(lr)) or not 0 <= warmup < 1:
        raise ValueError(f"lr must be positive and finite, warmup in [0, 1), got {lr}, {warmup}")
    for name, value, known in (("optimizer", optimizer, OPTIMIZERS), ("schedule", schedule, SCHEDULES)):
        if value not in known:
            raise ValueError(f"{name} must be one of {sorted(known)}, got {value!r}")
